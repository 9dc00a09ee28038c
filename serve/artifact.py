"""The trained model as files: written by training, read by serving, known only here.

    model.json            the card: what the model is, and the digests of the files below
    weights.safetensors   torch state dict of the bare network, fp32
    openvino/model.xml    the graph for CPU serving: uint8 NHWC in, probabilities out
    openvino/model.bin    its weights

Reading refuses what it does not fully understand: another format, an unknown key, a file that is
missing or differs from its digest, a class count that differs from the network's last layer.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from safetensors import SafetensorError, safe_open

from serve.preprocess import Geometry

FORMAT = 1
CARD, WEIGHTS, GRAPH, GRAPH_WEIGHTS = (
    "model.json",
    "weights.safetensors",
    "openvino/model.xml",
    "openvino/model.bin",
)
FILES = (WEIGHTS, GRAPH, GRAPH_WEIGHTS)
_PARTIAL = ".partial-"


class ArtifactError(Exception):
    """The model can't be read as ours; the sentence says what is wrong and the way out."""


class Card(BaseModel):
    """model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    architecture: str
    classes: tuple[str, ...] = Field(min_length=2)
    """In the order of the network's outputs."""
    resize: int = Field(gt=0)
    crop: int = Field(gt=0)
    """Pixels a side, as Geometry says."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of RGB values in 0..1; applied inside the network's graph."""
    precision: str = "fp32"
    """Of the stored weights."""
    metrics: dict[str, float]
    versions: dict[str, str]
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file, and under `model.json` of this card without that entry."""

    @field_validator("crop")
    @classmethod
    def _crop_fits(cls, crop: int, others: ValidationInfo) -> int:
        return Geometry(others.data.get("resize", crop), crop).crop

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.resize, self.crop)

    def own_digest(self) -> str:
        """SHA-256 of this card without its own entry: it names the whole model."""
        rest = {name: value for name, value in self.digests.items() if name != CARD}
        fields = self.model_dump(mode="json") | {"digests": rest}
        return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A model whose files have been checked."""

    folder: Path
    card: Card

    @property
    def digest(self) -> str:
        return self.card.digests[CARD]

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH


def write_artifact(
    folder: Path,
    card: Card,
    *,
    write_weights: Callable[[Path], None],
    write_graph: Callable[[Path], None],
) -> Artifact:
    """Writes the files beside their place, then moves them there, the card last.

    `write_weights` and `write_graph` get the path to write weights.safetensors and
    openvino/model.xml (with model.bin beside it) to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for killed in folder.glob(f"{_PARTIAL}*"):  # in the midst of this, it left its scratch
        shutil.rmtree(killed)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_PARTIAL) as scratch:
        partial = Path(scratch)
        (partial / GRAPH).parent.mkdir()
        write_weights(partial / WEIGHTS)
        write_graph(partial / GRAPH)
        sealed = _sealed(card, partial)
        (partial / CARD).write_bytes(
            orjson.dumps(sealed.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
        )
        _check_classes(sealed, partial / WEIGHTS)
        (folder / CARD).unlink(missing_ok=True)  # never an old card beside new weights
        for name in (*FILES, CARD):
            (folder / name).parent.mkdir(exist_ok=True)
            (partial / name).chmod(0o644)  # a serverless endpoint reads them as another user
            os.replace(partial / name, folder / name)
    return Artifact(folder, sealed)


def open_artifact(folder: Path) -> Artifact:
    """Reads and checks every file of the model in `folder`, or raises ArtifactError."""
    card = _read_card(folder)
    for name in FILES:
        _check_file(folder, name, card.digests.get(name))
    if card.own_digest() != card.digests.get(CARD):
        raise ArtifactError(
            f"{CARD} in {folder} was changed after training: its digest does not match. "
            "Deploy the files as training wrote them."
        )
    _check_classes(card, folder / WEIGHTS)
    return Artifact(folder, card)


def pack(folder: Path, archive: Path) -> None:
    """Writes model.tar.gz with the files at its top level, as SageMaker does after training."""
    partial = archive.with_name(f".{archive.name}.partial")
    # Weights hardly compress: the fastest level loses a few per cent of size.
    with tarfile.open(partial, "w:gz", compresslevel=1) as tar:
        for name in (CARD, *FILES):
            tar.add(folder / name, arcname=name)
    os.replace(partial, archive)


def unpack(archive: Path, folder: Path) -> None:
    """Extracts the artifact's own files from model.tar.gz, and refuses any other content."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _extract(tar, member, folder, archive)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArtifactError(
            f"{archive} is damaged or cut short ({error}). "
            "Copy it again from where training put it."
        ) from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    name = member.name.removeprefix("./")
    if member.isdir():
        return
    if not member.isfile() or name not in (CARD, *FILES):
        raise ArtifactError(
            f"{archive} holds {member.name!r}, which is no file of a Kennel model "
            f"({', '.join((CARD, *FILES))}, at the top level)."
        )
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # only for members that are not files
    with source, (folder / name).open("wb") as target:
        shutil.copyfileobj(source, target)


def _sealed(card: Card, folder: Path) -> Card:
    card = card.model_copy(update={"digests": {name: _sha256(folder / name) for name in FILES}})
    return card.model_copy(update={"digests": card.digests | {CARD: card.own_digest()}})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_card(folder: Path) -> Card:
    path = folder / CARD
    if not path.is_file():
        raise ArtifactError(_no_card(folder))
    try:
        fields = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ArtifactError(
            f"{path} is not JSON ({error}). Deploy the file training wrote."
        ) from None
    found = fields.get("format") if isinstance(fields, dict) else None
    if found != FORMAT:
        raise ArtifactError(
            f"{CARD} has format {found}; this server reads format {FORMAT}. "
            "Retrain, or deploy the matching image."
        )
    try:
        return Card.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(
            f"{CARD}: '{where}': {first['msg']}. Deploy the file training wrote."
        ) from None


def _no_card(folder: Path) -> str:
    if not folder.is_dir():
        return f"The model folder {folder} does not exist. Mount it or set SERVE_MODEL_DIR."
    nested = next(folder.glob(f"*/{CARD}"), None)
    if nested:
        return (
            f"{CARD} is in {nested.parent}, one folder too deep. "
            "Pack model.tar.gz with the files at its top level."
        )
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    return (
        f"No {CARD} in {folder} (found: {found}), so this is not a model that Kennel trained. "
        "Train one with `train`, or set SERVE_MODEL_DIR to its folder."
    )


def _check_file(folder: Path, name: str, expected: str | None) -> None:
    if not (folder / name).is_file():
        raise ArtifactError(f"{name} is missing in {folder}. Copy the whole model.tar.gz again.")
    if _sha256(folder / name) != expected:
        raise ArtifactError(
            f"{name} in {folder} is not the file {CARD} describes (its SHA-256 differs): it was "
            "changed or cut short. Copy the whole model.tar.gz again."
        )


def _check_classes(card: Card, weights: Path) -> None:
    try:
        with safe_open(weights, framework="numpy") as tensors:
            outputs = tensors.get_slice("fc.weight").get_shape()[0]
    except (SafetensorError, IndexError) as error:
        raise ArtifactError(f"{WEIGHTS} can't be read ({error}). Retrain.") from None
    if outputs != len(card.classes):
        raise ArtifactError(
            f"{CARD} names {len(card.classes)} classes but the network's last layer has {outputs} "
            "outputs. Deploy the files of one training together."
        )
