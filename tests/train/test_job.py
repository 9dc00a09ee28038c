import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from train.job import (
    REASON_CHARACTERS,
    BadJob,
    Job,
    asks_for_script,
    base_dir,
    forget_failure,
    open_job,
    write_failure,
)


def make_tree(
    base: Path, channels: tuple[str, ...] = (), **config: Mapping[str, object]
) -> Mapping[str, str]:
    """A job's tree with these channel folders and config files; the environment that names it."""
    (base / "input" / "config").mkdir(parents=True)
    for name, value in config.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(value))
    for channel in channels:
        (base / "input" / "data" / channel).mkdir(parents=True)
    return {"SAGEMAKER_BASE_DIR": str(base)}


def test_the_tree_is_sagemakers_unless_it_was_moved() -> None:
    assert base_dir({}) == Path("/opt/ml")
    assert base_dir({"SAGEMAKER_BASE_DIR": "/elsewhere"}) == Path("/elsewhere")


def test_a_job_is_read_from_its_tree(tmp_path: Path) -> None:
    environ = make_tree(
        tmp_path,
        ("train", "valid", "left-over"),
        hyperparameters={"lr": "0.1"},
        inputdataconfig={"train": {"TrainingInputMode": "File"}, "valid": {}},
    )
    job = open_job({**environ, "TRAINING_JOB_NAME": "dogs-7"})
    data = tmp_path / "input" / "data"
    assert job == Job(
        name="dogs-7",
        hyperparameters={"lr": "0.1"},
        channels={"train": data / "train", "valid": data / "valid"},
        model_dir=tmp_path / "model",
        output_data_dir=tmp_path / "output" / "data",
        checkpoint_dir=tmp_path / "checkpoints",
    )


def test_without_config_files_the_folders_are_the_channels(tmp_path: Path) -> None:
    job = open_job(make_tree(tmp_path, ("valid", "train")))
    assert job.hyperparameters == {}
    assert sorted(job.channels) == ["train", "valid"]
    assert job.name == "local"


def test_the_toolkits_variables_win(tmp_path: Path) -> None:
    environ = make_tree(tmp_path, ("train", "valid"))
    job = open_job(
        {
            **environ,
            "SM_MODEL_DIR": "/a",
            "SM_OUTPUT_DATA_DIR": "/b",
            "SM_CHANNEL_TRAIN": "/c",
        }
    )
    assert (job.model_dir, job.output_data_dir) == (Path("/a"), Path("/b"))
    assert job.channels == {"train": Path("/c"), "valid": tmp_path / "input" / "data" / "valid"}


def test_what_the_platform_adds_for_itself_is_dropped(tmp_path: Path) -> None:
    added = {"sagemaker_program": "x.py", "_tuning_objective_metric": "loss", "epochs": "2"}
    assert open_job(make_tree(tmp_path, hyperparameters=added)).hyperparameters == {"epochs": "2"}


def test_values_that_are_no_strings_become_strings(tmp_path: Path) -> None:
    values = {"lr": 0.5, "epochs": 3, "seed": None}
    job = open_job(make_tree(tmp_path, hyperparameters=values))
    assert job.hyperparameters == {"lr": "0.5", "epochs": "3", "seed": "null"}


@pytest.mark.parametrize(
    ("channels", "found"),
    [
        (("train", "valid", "test"), {"train": "train", "valid": "valid", "test": "test"}),
        (("train", "validation"), {"train": "train", "valid": "validation"}),
        (("train", "valid", "validation"), {"train": "train", "valid": "valid"}),
        (
            ("training/train", "training/valid", "training/test"),
            {"train": "training/train", "valid": "training/valid", "test": "training/test"},
        ),
        (
            ("training/train", "training/validation"),
            {"train": "training/train", "valid": "training/validation"},
        ),
        (
            ("training/train", "training/valid", "test", "pretrained"),
            {"train": "training/train", "valid": "training/valid", "test": "test"},
        ),
    ],
    ids=["three", "validation", "both-names", "one", "one-with-validation", "one-and-test"],
)
def test_the_splits_are_found_in_the_channels(
    tmp_path: Path, channels: tuple[str, ...], found: dict[str, str]
) -> None:
    folders = open_job(make_tree(tmp_path, channels)).split_folders()
    assert folders == {k: tmp_path / "input" / "data" / v for k, v in found.items()}


@pytest.mark.parametrize(
    ("channels", "sentence"),
    [
        (
            ("train",),
            "Channel 'valid' is missing. Add it to InputDataConfig. Found: train.",
        ),
        ((), "Channel 'train' is missing. Add it to InputDataConfig. Found: none."),
        (
            ("training/train", "training/tset"),
            "Channel 'training' has no folder 'valid'. Its folders: train, tset. "
            "It needs train/ and valid/ (and test/), each with one folder per class.",
        ),
    ],
    ids=["no-valid", "no-channel", "no-folder"],
)
def test_a_missing_split_is_named_with_what_was_found(
    tmp_path: Path, channels: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(BadJob) as caught:
        open_job(make_tree(tmp_path, channels)).split_folders()
    assert str(caught.value) == sentence


def test_pipe_mode_is_refused(tmp_path: Path) -> None:
    environ = make_tree(tmp_path, inputdataconfig={"train": {"TrainingInputMode": "Pipe"}})
    with pytest.raises(BadJob, match=r"Channel 'train' uses Pipe mode. Photos need File or Fast"):
        open_job(environ)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"lr": ', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "must hold one JSON object, got list"),
    ],
    ids=["cut-short", "not-text", "a-list"],
)
def test_broken_config_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    environ = make_tree(tmp_path)
    (tmp_path / "input" / "config" / "hyperparameters.json").write_bytes(content)
    with pytest.raises(BadJob, match=rf"hyperparameters\.json {words}"):
        open_job(environ)


def test_a_tree_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadJob, match=r"does not exist\. Mount it, or set SAGEMAKER_BASE_DIR"):
        open_job({"SAGEMAKER_BASE_DIR": str(tmp_path / "none")})


def test_the_failure_file_begins_with_the_sentence(tmp_path: Path) -> None:
    write_failure(tmp_path, "It broke.", "Trace\n" * 1000)
    text = (tmp_path / "output" / "failure").read_text("utf-8")
    assert text[:REASON_CHARACTERS].startswith("It broke.\n\nTrace\n")
    assert text.endswith("Trace\n")


def test_a_failure_may_name_a_file_that_is_not_valid_unicode(tmp_path: Path) -> None:
    write_failure(tmp_path, "caf\udce9.jpg broke, 写真.jpg too.", "")
    written = (tmp_path / "output" / "failure").read_text("utf-8")
    assert written.startswith("caf\\udce9.jpg broke, 写真.jpg too.")


def test_without_a_tree_no_failure_file_is_made(tmp_path: Path) -> None:
    write_failure(tmp_path / "none", "It broke.", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_a_config_file_is_not_taken_for_none(tmp_path: Path) -> None:
    environ = make_tree(tmp_path, ("train", "valid"))
    path = tmp_path / "input" / "config" / "hyperparameters.json"
    path.mkdir()
    with pytest.raises(BadJob) as caught:
        open_job(environ)
    assert str(caught.value) == f"{path} is a folder. Mount a file, or nothing."


def test_weights_may_lie_beside_the_photos(tmp_path: Path) -> None:
    environ = make_tree(tmp_path, ("training",))
    weights = tmp_path / "input" / "data" / "training" / "pretrained"
    weights.mkdir()
    assert open_job(environ).channels["pretrained"] == weights
    own = tmp_path / "input" / "data" / "pretrained"
    own.mkdir()
    assert open_job(environ).channels["pretrained"] == own


def test_checkpoints_lie_where_the_job_says(tmp_path: Path) -> None:
    assert open_job(make_tree(tmp_path / "a")).checkpoint_dir == tmp_path / "a" / "checkpoints"
    environ = make_tree(tmp_path / "b", checkpointconfig={"LocalPath": "/elsewhere"})
    assert open_job(environ).checkpoint_dir == Path("/elsewhere")


def test_a_script_is_asked_for_by_hyperparameter_or_variable(tmp_path: Path) -> None:
    environ = make_tree(tmp_path / "a")
    assert not asks_for_script(environ)
    assert asks_for_script({**environ, "SAGEMAKER_PROGRAM": "own.py"})
    environ = make_tree(tmp_path / "b", hyperparameters={"sagemaker_program": '"own.py"'})
    assert asks_for_script(environ)


def test_a_link_that_leads_out_of_the_container_is_said_to_be_one(tmp_path: Path) -> None:
    environ = make_tree(tmp_path, ("valid",))
    link = tmp_path / "input" / "data" / "train"
    link.symlink_to("/nowhere/train")
    with pytest.raises(BadJob) as caught:
        open_job(environ)
    assert str(caught.value) == (
        "Channel 'train' is a link to /nowhere/train, which is not here. "
        f"In a container, mount that folder at {link}."
    )


def test_where_results_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    job = open_job(make_tree(tmp_path, ("train", "valid")))
    job.check_writable()
    job.model_dir.rmdir()
    job.model_dir.write_text("")
    with pytest.raises(BadJob, match=r"model can't be written \(File exists\). Mount it writable"):
        job.check_writable()


def test_an_earlier_starts_failure_is_forgotten(tmp_path: Path) -> None:
    make_tree(tmp_path)
    write_failure(tmp_path, "Old.", "")
    forget_failure(tmp_path)
    assert not (tmp_path / "output" / "failure").exists()
    forget_failure(tmp_path)
