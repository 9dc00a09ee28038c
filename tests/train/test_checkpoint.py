import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from train.checkpoint import KEPT, BadCheckpoint, Checkpoints


def make(folder: Path, every_s: float = 3600, **identity: str) -> Checkpoints:
    return Checkpoints(folder, identity, every_s=every_s)


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((1000,), float(number))}


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_what_was_saved_last_comes_back_whole(tmp_path: Path) -> None:
    checkpoints = make(tmp_path / "new" / "folder", lr="0.1")
    assert checkpoints.newest() is None
    for number in (1, 2, 11):
        checkpoints.save(number, 0, state(number))
    found = make(tmp_path / "new" / "folder", lr="0.1").newest()
    assert found
    assert found["number"] == 11
    assert torch.equal(found["weights"], state(11)["weights"])


def test_steps_within_an_epoch_are_in_order_too(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    for step in (9, 10, 100):
        checkpoints.save(1, step, state(step))
    found = checkpoints.newest()
    assert found
    assert found["number"] == 100


def test_the_newest_and_one_to_fall_back_to_are_kept(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    for number in range(5):
        checkpoints.save(number, 0, state(number))
    assert [path.name[:11] for path in files(tmp_path)] == ["epoch-00003", "epoch-00004"]
    assert len(files(tmp_path)) == KEPT


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("metadata.json", "epoch-1.pt", "epoch-last.pt"):
        (tmp_path / name).write_text("someone else's")
    checkpoints = make(tmp_path)
    for number in range(4):
        checkpoints.save(number, 0, state(number))
    assert checkpoints.newest()
    assert {path.name for path in files(tmp_path)} >= {
        "metadata.json",
        "epoch-1.pt",
        "epoch-last.pt",
    }


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    checkpoints = make(tmp_path)
    checkpoints.save(1, 0, state(1))
    checkpoints.save(2, 0, state(2))
    before, newest = files(tmp_path)
    damage(newest)
    found = checkpoints.newest()
    assert found
    assert found["number"] == 1
    assert caplog.messages == [
        f"Checkpoint {newest} is damaged: passed over for the one before it.",
        f"Going on from checkpoint {before}.",
    ]


def test_if_all_are_damaged_training_starts_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = make(tmp_path)
    checkpoints.save(1, 0, state(1))
    checkpoints.save(2, 0, state(2))
    for path in files(tmp_path):
        cut(path)
    assert checkpoints.newest() is None
    assert len(caplog.messages) == 3
    assert caplog.messages[-1] == "No whole checkpoint is left: training starts anew."


def test_a_checkpoint_of_another_training_is_refused_with_what_differs(tmp_path: Path) -> None:
    make(tmp_path, lr="0.1", epochs="3", seed="0").save(1, 0, state(1))
    with pytest.raises(BadCheckpoint) as caught:
        make(tmp_path, lr="0.2", epochs="3", seed="1").newest()
    assert str(caught.value) == (
        f"Checkpoint {files(tmp_path)[0]} is of another training: lr was 0.1 and is 0.2; "
        "seed was 0 and is 1. Empty that folder to start anew (on AWS: a fresh "
        "CheckpointConfig.S3Uri), or start as that one was."
    )
    assert len(files(tmp_path)) == 1


def test_in_a_folder_with_room_for_two_the_newest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if len(files(tmp_path)) >= KEPT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    checkpoints = make(tmp_path)
    for number in range(4):
        checkpoints.save(number, 0, state(number))
    found = checkpoints.newest()
    assert found
    assert found["number"] == 3


def test_a_damaged_one_is_no_fallback(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    for number in (1, 2):
        checkpoints.save(number, 0, state(number))
    flip(files(tmp_path)[1])
    assert checkpoints.newest()
    checkpoints.save(1, 7, state(3))
    names = [path.name[:24] for path in files(tmp_path) if path.suffix == ".pt"]
    assert names == ["epoch-00001-step-0000000", "epoch-00001-step-0000007"]


def test_a_folder_that_cannot_be_written_costs_the_checkpoint_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").write_text("a file where the folder should be")
    checkpoints = make(tmp_path / "folder", every_s=0)
    checkpoints.save(1, 0, state(1))
    assert "could not be written (" in caplog.messages[0]
    assert "Training goes on" in caplog.messages[0]


def test_one_is_due_when_the_interval_has_passed(tmp_path: Path) -> None:
    assert make(tmp_path, every_s=0).due()
    checkpoints = make(tmp_path, every_s=3600)
    assert not checkpoints.due()
