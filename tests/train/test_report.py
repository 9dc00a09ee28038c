import base64
import io
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.preprocess import read_square
from train.data import BadPhoto
from train.metrics import EpochMetrics, Evaluation
from train.report import THUMBNAIL_PX, Run, elide, write_report


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def epochs(count: int) -> tuple[EpochMetrics, ...]:
    return tuple(
        EpochMetrics(n, 2.0 / n, 2.1 / n, 1 - 0.5 / n, 812.0, 0.96) for n in range(1, count + 1)
    )


def evaluate(
    classes: tuple[str, ...], *, photos_each: int = 3, mistakes: int = 2, split: str = "test"
) -> Evaluation:
    """The first `mistakes` photos are given the class after their own, with 90 % confidence."""
    labels = np.repeat(np.arange(len(classes)), photos_each).astype(np.int64)
    answers = labels.copy()
    answers[:mistakes] = (answers[:mistakes] + 1) % len(classes)
    rest = 0.1 / (len(classes) - 1)
    probabilities = np.where(np.eye(len(classes))[answers] == 1, 0.9, rest).astype(np.float32)
    files = tuple(f"{classes[label]}/{n}.jpg" for n, label in enumerate(labels))
    return Evaluation(split, classes, files, labels, probabilities)


def some_run(folder: Path, **changes: object) -> Run:
    evaluation = evaluate(("ant", "bee", "cat"))
    run = Run(
        title="ants-and-others-7",
        summary={"Network": "resnet18", "Seconds": "83"},
        decisions=("Only the head was trained, because there are few photos.",),
        hyperparameters={"lr": 0.003, "epochs": 3},
        history=epochs(3),
        best_epoch=3,
        counts={"train": {"ant": 60, "bee": 50}, "test": {"ant": 3, "bee": 3, "cat": 3}},
        evaluation=evaluation,
        photo_folder=folder / "photos",
        skipped=(),
        versions={"torch": "2.11.0"},
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def save_photos(run: Run, size: tuple[int, int] = (400, 300), orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for mistake in run.evaluation.worst_mistakes(99):
        path = run.photo_folder / mistake.file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "teal").save(path, exif=exif)


def read_page(run: Run, folder: Path) -> Page:
    path = folder / "report.html"
    write_report(run, path)
    return Page(path.read_text("utf-8"))


def test_the_report_says_what_the_run_says(tmp_path: Path) -> None:
    text = read_page(some_run(tmp_path), tmp_path).text
    said = "ants-and-others-7", "resnet18", "because there are few photos", "0.003", "2.11.0"
    assert [words for words in said if words not in text] == []
    assert "77.8%" in text
    assert "7 of 9 photos" in text


def test_the_report_needs_nothing_from_outside(tmp_path: Path) -> None:
    run = some_run(tmp_path)
    save_photos(run)
    page = read_page(run, tmp_path)
    assert re.findall(r"https?://[^\"]+", re.sub(r'xmlns(:\w+)?="[^"]+"', "", page.html)) == []
    assert [page.count(tag) for tag in ("script", "link", "iframe", "object", "base")] == [0] * 5
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page.html)
    assert all(src.startswith("data:image/jpeg;base64,") for src in page.attributes("src"))
    assert all(href.startswith("#") for href in page.attributes("xlink:href"))
    assert "default-src 'none'" in page.html


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = some_run(tmp_path)
    save_photos(run)
    write_report(run, tmp_path / "a.html")
    write_report(run, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_only_the_finished_report_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("the one before")
    read_page(some_run(tmp_path), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_ids_are_unique_though_there_are_two_charts(tmp_path: Path) -> None:
    ids = Counter(read_page(some_run(tmp_path), tmp_path).attributes("id"))
    assert [name for name, times in ids.items() if times > 1] == []


def test_the_charts_follow_light_and_dark_mode(tmp_path: Path) -> None:
    html = read_page(some_run(tmp_path), tmp_path).html
    assert "stroke: var(--accent)" in html
    assert "#00000" not in html


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{1}{$ & {{ 7 * 7 }}",
    "犬 🐕 \u202eגור",
    "very long " * 25,
)


@pytest.mark.parametrize("repeats", [1, 6], ids=["as a table", "as a heat map"])
def test_hostile_names_stay_text(tmp_path: Path, repeats: int) -> None:
    names = tuple(f"{name}{n or ''}" for n in range(repeats) for name in HOSTILE)
    run = some_run(
        tmp_path,
        title=HOSTILE[0],
        decisions=HOSTILE,
        summary=dict.fromkeys(HOSTILE, HOSTILE[1]),
        counts={HOSTILE[1]: dict.fromkeys(names, 1)},
        evaluation=evaluate(names),
        skipped=tuple(BadPhoto(name, name) for name in HOSTILE),
    )
    page = read_page(run, tmp_path)
    assert page.count("script") == page.count("img") == 0
    assert page.attributes("onerror") == []
    assert [name for name in HOSTILE if name not in page.text] == []
    assert "49" not in re.findall(r"& (\S+)", page.text)


def test_a_long_name_is_elided_with_the_whole_in_its_title(tmp_path: Path) -> None:
    classes = ("a" + "x" * 200 + "z.1", "b", "c")
    page = read_page(some_run(tmp_path, evaluation=evaluate(classes)), tmp_path)
    assert classes[0] in page.attributes("title")
    assert classes[0] not in page.text
    assert elide(classes[0], 12) == "axxxxxx…xz.1"


def test_a_file_name_that_is_not_unicode_is_shown_with_a_question_mark(tmp_path: Path) -> None:
    run = some_run(tmp_path, skipped=(BadPhoto("train/caf\udce9.jpg", "is empty"),))
    assert "train/caf?.jpg" in read_page(run, tmp_path).text


def test_every_skipped_file_is_listed_with_its_reason(tmp_path: Path) -> None:
    skipped = tuple(BadPhoto(f"train/ant/{n}.jpg", f"ends after {n} bytes") for n in range(300))
    text = read_page(some_run(tmp_path, skipped=skipped), tmp_path).text
    assert [bad for bad in skipped if bad.file not in text or bad.reason not in text] == []


def test_mistakes_are_shown_as_the_network_saw_them(tmp_path: Path) -> None:
    run = some_run(tmp_path)
    save_photos(run, orientation=6)
    worst = run.photo_folder / run.evaluation.worst_mistakes(1)[0].file
    with Image.open(worst) as photo:
        photo.paste("red", (0, 0, photo.width // 2, photo.height))
        photo.save(worst, exif=photo.getexif())
    sources = read_page(run, tmp_path).attributes("src")
    assert len(sources) == 2
    jpeg = base64.b64decode(sources[0].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(jpeg)) as thumbnail:
        shown = np.asarray(thumbnail).astype(int)
    seen = read_square(worst.read_bytes(), THUMBNAIL_PX, max_megapixels=1)
    assert np.abs(shown - seen).mean() < 8
    assert shown[10, :, 0].mean() > 200  # what lay on the left is on top


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n broken"])
def test_a_photo_that_has_gone_leaves_its_name(tmp_path: Path, content: bytes | None) -> None:
    run = some_run(tmp_path)
    save_photos(run)
    gone = run.photo_folder / "ant/0.jpg"
    gone.unlink()
    if content is not None:
        gone.write_bytes(content)
    page = read_page(run, tmp_path)
    assert page.count("img") == 1
    assert "can’t be opened any more" in page.text
    assert "ant/0.jpg" in page.text


def test_no_mistakes_reads_as_good_news(tmp_path: Path) -> None:
    run = some_run(tmp_path, evaluation=evaluate(("ant", "bee"), mistakes=0))
    text = read_page(run, tmp_path).text
    assert "100.0%" in text
    assert "each of the 6 photos was given its own class" in text
    assert "Most confused pairs" not in text


@pytest.mark.parametrize("count", [0, 1])
def test_short_histories_are_reported(tmp_path: Path, count: int) -> None:
    page = read_page(some_run(tmp_path, history=epochs(count), best_epoch=1), tmp_path)
    assert page.count("svg") == 2 * count
    assert ("No epoch was trained" in page.text) == (count == 0)


def test_losses_that_are_not_finite_are_reported(tmp_path: Path) -> None:
    history = tuple(replace(m, train_loss=math.nan, valid_loss=math.inf) for m in epochs(3))
    page = read_page(some_run(tmp_path, history=history), tmp_path)
    assert page.count("svg") == 2
    assert "not finite" in page.text


def test_a_kept_epoch_from_before_this_run_is_named(tmp_path: Path) -> None:
    run = some_run(tmp_path, history=epochs(9)[5:], best_epoch=4)
    assert "kept epoch 4 lies before this run" in read_page(run, tmp_path).text


def test_top_5_is_explained_away_for_few_classes(tmp_path: Path) -> None:
    few = read_page(some_run(tmp_path), tmp_path)
    many = read_page(some_run(tmp_path, evaluation=evaluate(tuple("abcdef"))), tmp_path)
    assert "Top-5 accuracy" not in few.text
    assert "Top-5 says nothing about 3 classes" in few.text
    assert "Top-5 accuracy" in many.text


def test_figures_of_the_validation_photos_are_called_flattering(tmp_path: Path) -> None:
    run = some_run(tmp_path, evaluation=evaluate(("ant", "bee"), split="valid"))
    assert "There is no test split" in read_page(run, tmp_path).text


def test_a_class_without_photos_comes_last(tmp_path: Path) -> None:
    names = ("none", "ant", "bee")
    whole = evaluate(names, photos_each=2, mistakes=0)
    kept = replace(
        whole,
        files=whole.files[2:],
        labels=whole.labels[2:],
        probabilities=whole.probabilities[2:],
    )
    table = read_page(some_run(tmp_path, evaluation=kept), tmp_path).text.split("Class by class")[1]
    assert sorted(names, key=table.index) == ["ant", "bee", "none"]


def test_133_long_named_classes_stay_below_five_megabytes(tmp_path: Path) -> None:
    classes = tuple(f"{n:03}.{'犬' * 60}" for n in range(133))
    labels = np.repeat(np.arange(133), 20).astype(np.int64)
    probabilities = np.random.default_rng(7).dirichlet(np.ones(133), len(labels))
    files = tuple(f"{classes[label]}/{n}.jpg" for n, label in enumerate(labels))
    guesses = Evaluation("test", classes, files, labels, probabilities.astype(np.float32))
    page = read_page(some_run(tmp_path, evaluation=guesses), tmp_path)
    assert len(page.html.encode()) < 5_000_000
    assert page.count("rect") > 1_000
