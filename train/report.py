"""Turns a finished run into one HTML file that can be read without a network."""

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from serve.preprocess import ImageTooLarge, UnreadableImage, read_square
from train.data import MAX_MEGAPIXELS, BadPhoto
from train.metrics import ClassScore, EpochMetrics, Evaluation, Mistake

MISTAKES_SHOWN = 12
PAIRS_SHOWN = 12
THUMBNAIL_PX = 160
LABELLED_CLASSES = 24  # a table of more columns than this is wider than a screen


@dataclass(frozen=True)
class Run:
    """All that the report says; whoever trained fills it in."""

    title: str
    summary: Mapping[str, str]
    decisions: tuple[str, ...]
    """Sentences on what was chosen, and why."""
    hyperparameters: Mapping[str, object]
    history: tuple[EpochMetrics, ...]
    best_epoch: int
    """`EpochMetrics.epoch` of the epoch whose weights were kept."""
    counts: Mapping[str, Mapping[str, int]]
    """Split → class → photos."""
    evaluation: Evaluation
    photo_folder: Path
    """The folder that `evaluation.files` are relative to."""
    skipped: tuple[BadPhoto, ...]
    versions: Mapping[str, str]


def write_report(run: Run, path: Path) -> None:
    """Writes under a temporary name first, so that nobody meets half a report."""
    unfinished = path.with_name(f".{path.name}.part")
    # Linux file names need not be valid Unicode: a question mark stands for what can't be written.
    unfinished.write_bytes(render(run).encode("utf-8", errors="replace"))
    unfinished.replace(path)


def render(run: Run) -> str:
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"elide": elide, "percent": percent, "decimal": decimal}
    evaluation, confusions = run.evaluation, find_confusions(run.evaluation)
    return page.get_template("report.html.jinja").render(
        run=run,
        evaluation=evaluation,
        interval=confidence_interval(evaluation.accuracy, len(evaluation.files)),
        frequent=evaluation.confusion.sum(axis=1).max() / len(evaluation.files),
        mistakes=sum(c.count for c in confusions if c.is_mistake),
        charts=[loss_chart(run), accuracy_chart(run)] if run.history else [],
        cells={(c.row, c.column): c for c in confusions},
        labelled=len(evaluation.classes) <= LABELLED_CLASSES,
        pairs=most_confused(confusions)[:PAIRS_SHOWN],
        scores=worst_first(evaluation),
        thumbnails=thumbnails(run.photo_folder, evaluation.worst_mistakes(MISTAKES_SHOWN)),
        count_rows=count_rows(run.counts),
    )


# --- Words and numbers ---------------------------------------------------------------------------


def elide(text: object, limit: int = 40) -> str:
    """Shortens in the middle: the start and the end (a number, a suffix) tell names apart."""
    whole = str(text)
    if len(whole) <= limit:
        return whole
    tail = limit // 3
    return f"{whole[: limit - tail - 1]}…{whole[-tail:]}"


def percent(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "–"


def decimal(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "not finite"


def confidence_interval(share: float, photos: int) -> tuple[float, float]:
    """Wilson's 95 % interval, which stays inside 0..1 and holds for few photos too."""
    z2 = 1.96**2
    middle = (share + z2 / (2 * photos)) / (1 + z2 / photos)
    spread = math.sqrt(z2 * share * (1 - share) / photos + (z2 / (2 * photos)) ** 2)
    half = spread / (1 + z2 / photos)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class CountRow:
    name: str
    photos: tuple[int, ...]


def count_rows(counts: Mapping[str, Mapping[str, int]]) -> list[CountRow]:
    """One row a class, in the order in which the splits name them, and a last one of totals."""
    names = dict.fromkeys(name for classes in counts.values() for name in classes)
    rows = [
        CountRow(name, tuple(classes.get(name, 0) for classes in counts.values())) for name in names
    ]
    totals = tuple(sum(classes.values()) for classes in counts.values())
    return [*rows, CountRow("All classes", totals)]


# --- The classes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Confusion:
    """`count` photos of class `row` were named class `column`: `share` of that row's photos."""

    row: int
    column: int
    count: int
    share: float

    @property
    def is_mistake(self) -> bool:
        return self.row != self.column


def find_confusions(evaluation: Evaluation) -> list[Confusion]:
    """The cells of the matrix that are not empty, the diagonal included."""
    matrix = evaluation.confusion
    support = matrix.sum(axis=1)
    return [
        Confusion(row, column, int(matrix[row, column]), float(matrix[row, column] / support[row]))
        for row, column in np.argwhere(matrix).tolist()
    ]


def most_confused(confusions: Iterable[Confusion]) -> list[Confusion]:
    return sorted((c for c in confusions if c.is_mistake), key=lambda c: (-c.count, -c.share))


def worst_first(evaluation: Evaluation) -> list[ClassScore]:
    """Lowest recall first; classes without a photo, which have no recall, last."""
    return sorted(
        evaluation.class_scores(),
        key=lambda score: (math.isnan(score.recall), score.recall, -score.support),
    )


# --- The photos ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thumbnail:
    mistake: Mistake
    jpeg: str | None
    """Base64, or None if the photo can't be opened any more."""


def thumbnails(folder: Path, mistakes: Iterable[Mistake]) -> list[Thumbnail]:
    return [Thumbnail(mistake, thumbnail(folder / mistake.file)) for mistake in mistakes]


def thumbnail(path: Path) -> str | None:
    """The photo's square as the network saw it."""
    try:
        square = read_square(path.read_bytes(), THUMBNAIL_PX, max_megapixels=MAX_MEGAPIXELS)
    except (OSError, UnreadableImage, ImageTooLarge):
        return None
    jpeg = io.BytesIO()
    Image.fromarray(square).save(jpeg, "JPEG", quality=82)
    return base64.b64encode(jpeg.getvalue()).decode("ascii")


# --- The curves ----------------------------------------------------------------------------------

# matplotlib knows no CSS variables. These colours stand in for them while it draws, so that the
# finished charts follow the page from light to dark.
INK, RULE, TRAIN, VALID, KEPT = "#000001", "#000002", "#000003", "#000004", "#000005"
VARIABLES = {
    INK: "var(--muted)",
    RULE: "var(--rule)",
    TRAIN: "var(--second)",
    VALID: "var(--accent)",
    KEPT: "var(--warn)",
}


@dataclass(frozen=True)
class Chart:
    title: str
    sentence: str
    """What the curve shows, for those who can't see it and for those who don't want to measure."""
    svg: Markup


def loss_chart(run: Run) -> Chart:
    figure, axes = epoch_axes(run)
    draw(axes, run.history, [m.train_loss for m in run.history], TRAIN, "training")
    draw(axes, run.history, [m.valid_loss for m in run.history], VALID, "validation")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return Chart("Loss", loss_sentence(run), to_svg(figure, "loss"))


def accuracy_chart(run: Run) -> Chart:
    figure, axes = epoch_axes(run)
    draw(axes, run.history, [m.valid_accuracy for m in run.history], VALID, "validation")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return Chart("Validation accuracy", accuracy_sentence(run), to_svg(figure, "accuracy"))


def epoch_axes(run: Run) -> tuple[Figure, Axes]:
    """Empty axes over the run's epochs, with a line where the kept one stands."""
    figure = Figure(figsize=(5.4, 3.0), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.tick_params(colors=RULE, labelcolor=INK, labelsize=9)
    axes.set_xlabel("epoch", color=INK, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(run.history[0].epoch - 0.5, run.history[-1].epoch + 0.5)
    if run.best_epoch >= run.history[0].epoch:
        mark(axes, run.best_epoch, f"kept: epoch {run.best_epoch}")
    return figure, axes


def mark(axes: Axes, epoch: int, label: str) -> None:
    axes.axvline(epoch, color=KEPT, linewidth=1, linestyle=(0, (3, 3)))
    above = axes.get_xaxis_transform()
    axes.text(epoch, 1.03, label, color=KEPT, fontsize=9, ha="center", transform=above)


def draw(
    axes: Axes, history: Sequence[EpochMetrics], values: Iterable[float], color: str, label: str
) -> None:
    """A curve with gaps where a value is not finite; dots keep lone points visible."""
    finite = [value if math.isfinite(value) else math.nan for value in values]
    epochs = [metrics.epoch for metrics in history]
    axes.plot(epochs, finite, color=color, linewidth=1.8, marker="o", markersize=3, label=label)


def to_svg(figure: Figure, name: str) -> Markup:
    """Inline SVG that is the same for the same run, without the prologue of a file of its own."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata=nothing)
    svg = file.getvalue()
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    # Groups are numbered from 1 in every chart, and an id must be unique in the page.
    return Markup(re.sub(r' id="[\w.]+_\d+"', "", svg[svg.index("<svg") :]))


def loss_sentence(run: Run) -> str:
    first, last = run.history[0], run.history[-1]
    return (
        f"Training loss went from {decimal(first.train_loss)} to {decimal(last.train_loss)}, "
        f"validation loss from {decimal(first.valid_loss)} to {decimal(last.valid_loss)}."
    )


def accuracy_sentence(run: Run) -> str:
    last = run.history[-1]
    ended = percent(last.valid_accuracy)
    kept = next((m for m in run.history if m.epoch == run.best_epoch), None)
    if kept is None:
        return f"The kept epoch {run.best_epoch} lies before this run, which ended at {ended}."
    if kept is last:
        return f"The last epoch, {last.epoch}, was kept with {ended}."
    return f"Epoch {kept.epoch} was kept with {percent(kept.valid_accuracy)}; the last had {ended}."
