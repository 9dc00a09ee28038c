"""A model is read only as training wrote it; whatever else lies there is refused by name."""

import io
import re
import shutil
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from serve.artifact import (
    CARD,
    FILES,
    GRAPH,
    GRAPH_WEIGHTS,
    WEIGHTS,
    Artifact,
    ArtifactError,
    Card,
    open_artifact,
    pack,
    unpack,
    write_artifact,
)

CLASSES = ("Beagle", "Müde", "Pug")


def card(**fields: object) -> Card:
    known: dict[str, object] = {
        "architecture": "resnet18",
        "classes": CLASSES,
        "resize": 36,
        "crop": 32,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "metrics": {"valid_accuracy": 0.9375},
        "versions": {"kennel": "0.1.0"},
    }
    return Card.model_validate(known | fields)


def weights_of(outputs: int, seed: int = 0) -> Callable[[Path], None]:
    values = np.random.default_rng(seed).random((outputs, 4), np.float32)
    return lambda path: save_file({"fc.weight": values}, path)


def graph_of(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)
        path.with_suffix(".bin").write_bytes(text.encode() * 50)

    return write


def written(folder: Path, *, seed: int = 0) -> Artifact:
    return write_artifact(
        folder, card(), write_weights=weights_of(3, seed), write_graph=graph_of(f"<net {seed}/>")
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a small artifact: real but for its graph, which nothing here runs."""
    return written(tmp_path / "model").folder


def change_card(folder: Path, **fields: object) -> None:
    path = folder / CARD
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | fields))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Writing and reading.


def test_what_was_written_is_read(model: Path) -> None:
    artifact = open_artifact(model)
    read = artifact.card.model_dump(exclude={"digests"})
    assert read == card().model_dump(exclude={"digests"})
    assert (artifact.card.geometry.resize, artifact.card.geometry.crop) == (36, 32)
    assert set(artifact.card.digests) == {CARD, *FILES}
    assert files_in(model) == {CARD, *FILES}


def test_writing_returns_what_reading_does(tmp_path: Path) -> None:
    assert written(tmp_path / "model") == open_artifact(tmp_path / "model")


def test_the_digest_names_the_whole_model(tmp_path: Path) -> None:
    one, same, other = (written(tmp_path / name, seed=len(name)) for name in ("a", "b", "ccc"))
    assert re.fullmatch("[0-9a-f]{64}", one.digest)
    assert one.digest == same.digest != other.digest


def test_anyone_may_read_the_files(tmp_path: Path) -> None:
    def private(path: Path) -> None:
        weights_of(3)(path)
        path.chmod(0o600)

    write_artifact(tmp_path, card(), write_weights=private, write_graph=graph_of("<net/>"))
    for name in (CARD, *FILES):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644, name


def test_writing_again_replaces_the_whole_model(model: Path) -> None:
    second = written(model, seed=9)
    assert open_artifact(model).digest == second.digest
    assert files_in(model) == {CARD, *FILES}


def fails(path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError("No space left on device")


@pytest.mark.parametrize(
    ("weights", "graph"),
    [(fails, graph_of("<new/>")), (weights_of(3, 9), fails)],
    ids=["at the weights", "at the graph"],
)
def test_a_write_that_fails_leaves_the_model_that_was_there(
    model: Path, weights: Callable[[Path], None], graph: Callable[[Path], None]
) -> None:
    before = open_artifact(model).digest
    with pytest.raises(OSError, match="No space left"):
        write_artifact(model, card(), write_weights=weights, write_graph=graph)
    assert open_artifact(model).digest == before
    assert files_in(model) == {CARD, *FILES}


def test_a_write_that_fails_leaves_no_model_where_none_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_artifact(tmp_path, card(), write_weights=weights_of(3), write_graph=fails)
    assert files_in(tmp_path) == set()


def test_what_a_killed_write_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".partial-killed" / "openvino").mkdir(parents=True)
    (tmp_path / ".partial-killed" / WEIGHTS).write_bytes(b"half")
    written(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, "openvino", WEIGHTS]


def test_a_write_that_ends_between_the_moves_leaves_no_card(model: Path) -> None:
    # A folder where the graph's weights belong: the second of the moves fails.
    (model / GRAPH_WEIGHTS).unlink()
    (model / GRAPH_WEIGHTS).mkdir()
    with pytest.raises(IsADirectoryError):
        written(model, seed=9)
    with pytest.raises(ArtifactError, match=r"No model\.json in"):
        open_artifact(model)


def test_a_card_that_does_not_fit_its_weights_is_not_written(model: Path) -> None:
    before = open_artifact(model).digest
    with pytest.raises(ArtifactError, match=r"names 3 classes but .* has 4 outputs"):
        write_artifact(model, card(), write_weights=weights_of(4), write_graph=graph_of("<net/>"))
    assert open_artifact(model).digest == before


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": ["one"]},
        {"resize": 0},
        {"crop": 40},
        {"mean": [0.5]},
        {"metrics": {"loss": float("nan")}},
        {"colour": "brown"},
    ],
    ids=str,
)
def test_a_card_that_could_not_be_read_again_is_never_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        card(**fields)


# Refusals.


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip_a_bit, cut_short, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_shortened_file_is_refused(
    model: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(model / name)
    sentence = rf"^{re.escape(name)} in .* is not the file model\.json describes .*Copy the whole"
    with pytest.raises(ArtifactError, match=sentence):
        open_artifact(model)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(ArtifactError, match=rf"^{re.escape(name)} is missing in "):
        open_artifact(model)


@pytest.mark.parametrize(
    "fields",
    [{"classes": ["Pug", "Beagle", "Müde"]}, {"crop": 31}, {"mean": [0.5, 0.5, 0.5]}],
    ids=["classes in another order", "another crop", "another mean"],
)
def test_a_card_that_was_changed_is_refused(model: Path, fields: dict[str, object]) -> None:
    change_card(model, **fields)
    with pytest.raises(ArtifactError, match=r"model\.json in .* was changed after training"):
        open_artifact(model)


def test_a_card_without_digests_is_refused(model: Path) -> None:
    change_card(model, digests={})
    with pytest.raises(ArtifactError, match="is not the file model"):
        open_artifact(model)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"format": 2}, "model.json has format 2; this server reads format 1. Retrain, or deploy"),
        ({"format": None}, "model.json has format None; this server reads format 1."),
        ({"colour": "brown"}, "model.json: 'colour': Extra inputs are not permitted."),
        ({"crop": "wide"}, "model.json: 'crop': Input should be a valid integer"),
        ({"crop": 37}, "crop must lie in 1..resize (36), got 37"),
        ({"classes": []}, "model.json: 'classes': Tuple should have at least 2 items"),
        ({"mean": [0.5, 0.5]}, "model.json: 'mean.2': Field required"),
    ],
    ids=str,
)
def test_a_card_we_do_not_fully_understand_is_refused(
    model: Path, fields: dict[str, object], sentence: str
) -> None:
    change_card(model, **fields)
    with pytest.raises(ArtifactError, match=re.escape(sentence)):
        open_artifact(model)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe{", b"[" * 5000], ids=repr)
def test_a_card_that_is_not_json_is_refused(model: Path, text: bytes) -> None:
    (model / CARD).write_bytes(text)
    with pytest.raises(ArtifactError, match=r"model\.json is not JSON \(.*Deploy the file"):
        open_artifact(model)


@pytest.mark.parametrize("text", [b"[]", b"1", b"null"])
def test_a_card_that_is_no_object_is_refused(model: Path, text: bytes) -> None:
    (model / CARD).write_bytes(text)
    with pytest.raises(ArtifactError, match="has format None; this server reads format 1"):
        open_artifact(model)


def test_a_card_and_weights_of_two_trainings_are_refused(tmp_path: Path, model: Path) -> None:
    other = tmp_path / "other"
    four = card(classes=(*CLASSES, "Husky"))
    write_artifact(other, four, write_weights=weights_of(4), write_graph=graph_of("<net/>"))
    shutil.copy(other / WEIGHTS, model / WEIGHTS)
    # Even when someone has made the digests fit.
    changed = orjson.loads((model / CARD).read_bytes())
    changed["digests"][WEIGHTS] = orjson.loads((other / CARD).read_bytes())["digests"][WEIGHTS]
    changed["digests"][CARD] = Card.model_validate(changed).own_digest()
    (model / CARD).write_bytes(orjson.dumps(changed))
    sentence = "names 3 classes but the network's last layer has 4 outputs"
    with pytest.raises(ArtifactError, match=sentence):
        open_artifact(model)


@pytest.mark.parametrize(
    "weights",
    [
        lambda path: path.write_bytes(b"PK\x03\x04 a torch file"),
        lambda path: save_file({"head": np.zeros((3, 4), np.float32)}, path),
        lambda path: save_file({"fc.weight": np.zeros((), np.float32)}, path),
    ],
    ids=["no safetensors", "no last layer", "a last layer without outputs"],
)
def test_weights_of_another_kind_are_refused(
    tmp_path: Path, weights: Callable[[Path], None]
) -> None:
    with pytest.raises(ArtifactError, match=r"weights\.safetensors can't be read"):
        write_artifact(tmp_path, card(), write_weights=weights, write_graph=graph_of("<net/>"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    sentence = "nowhere does not exist. Mount it or set SERVE_MODEL_DIR."
    with pytest.raises(ArtifactError, match=sentence):
        open_artifact(tmp_path / "nowhere")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"No model\.json in .* \(found: nothing\)"):
        open_artifact(tmp_path)


def test_a_foreign_folder_is_named_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "model.pth").touch()
    with pytest.raises(ArtifactError, match=r"\(found: code, model\.pth\).*Train one with"):
        open_artifact(tmp_path)


def test_a_model_one_folder_too_deep_is_named(model: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.json is in .*model, one folder too deep"):
        open_artifact(model.parent)


# model.tar.gz.


def tar_of(archive: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.addfile(content)
    return archive


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_what_was_packed_is_unpacked(tmp_path: Path, model: Path) -> None:
    pack(model, tmp_path / "model.tar.gz")
    unpack(tmp_path / "model.tar.gz", tmp_path / "copy")
    assert open_artifact(tmp_path / "copy").card == open_artifact(model).card
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert tar.getnames() == [CARD, *FILES]
    assert [path.name for path in tmp_path.glob("*partial*")] == []


def test_an_archive_as_sagemaker_packs_it_is_unpacked(tmp_path: Path, model: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(model, arcname=".")  # with "./" before the names, and entries for folders
    unpack(archive, tmp_path / "copy")
    assert open_artifact(tmp_path / "copy").digest == open_artifact(model).digest


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, model: Path, kept: float) -> None:
    pack(model, tmp_path / "model.tar.gz")
    data = (tmp_path / "model.tar.gz").read_bytes()
    (tmp_path / "model.tar.gz").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ArtifactError, match=r"is damaged or cut short .*Copy it again"):
        unpack(tmp_path / "model.tar.gz", tmp_path / "copy")


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.7, 0.95])
def test_an_archive_with_a_damaged_byte_gives_the_model_or_none(
    tmp_path: Path, model: Path, place: float
) -> None:
    pack(model, tmp_path / "model.tar.gz")
    data = bytearray((tmp_path / "model.tar.gz").read_bytes())
    data[int(len(data) * place)] ^= 0xFF
    (tmp_path / "model.tar.gz").write_bytes(data)
    with suppress(ArtifactError):
        unpack(tmp_path / "model.tar.gz", tmp_path / "copy")
        assert open_artifact(tmp_path / "copy").digest == open_artifact(model).digest


@pytest.mark.parametrize(
    "member",
    ["model/model.json", "../model.json", "/model.json", "code/inference.py", "._model.json"],
)
def test_an_archive_with_anything_else_in_it_is_refused(tmp_path: Path, member: str) -> None:
    archive = tar_of(tmp_path / "model.tar.gz", {member: b"{}"})
    sentence = f"holds {member!r}, which is no file of a Kennel model"
    with pytest.raises(ArtifactError, match=re.escape(sentence)):
        unpack(archive, tmp_path / "inside" / "copy")
    assert files_in(tmp_path) == {"model.tar.gz"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_an_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    link = special(CARD, kind, "/etc/hostname")
    archive = tar_of(tmp_path / "model.tar.gz", {CARD: link})
    with pytest.raises(ArtifactError, match=r"holds 'model\.json', which is no file of a Kennel"):
        unpack(archive, tmp_path / "copy")
    assert files_in(tmp_path) == {"model.tar.gz"}


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"<html>Access denied</html>")
    with pytest.raises(ArtifactError, match="is damaged or cut short"):
        unpack(tmp_path / "model.tar.gz", tmp_path / "copy")


def test_packing_a_folder_without_a_model_leaves_no_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        pack(tmp_path / "empty", tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()


def test_the_graph_is_where_its_weights_are() -> None:
    assert Path(GRAPH).with_suffix(".bin") == Path(GRAPH_WEIGHTS)
