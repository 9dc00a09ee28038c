"""The training image on a real engine: SageMaker's tree in, a model out, without a network."""

import base64
import csv
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.artifact import open_artifact
from tests.conftest import TrainedJob, make_color_set
from tests.docker.container import serving, with_model
from tests.docker.engine import ROOT, build_log, docker, size
from tests.docker.image import cached_by_step, config, copy_context, python_in
from tests.docker.training import QUICK, lay_out, run_training
from tests.serve import server_process

pytestmark = pytest.mark.containers

AWS_REFUSES_BYTES = 10.7e9
GOAL_BYTES = 7e9
NVIDIA_IMAGE = "kennel-cuda:test"
# As NVIDIA's images lay it out; here without the library itself.
NVIDIA_LAYOUT = r"""
FROM python:3.11-slim-bookworm
RUN mkdir -p /usr/local/cuda-13.0/compat && rm -rf /usr/local/cuda \
 && touch /usr/local/cuda-13.0/compat/libcuda.so.580.95.05 \
 && ln -s libcuda.so.580.95.05 /usr/local/cuda-13.0/compat/libcuda.so.1 \
 && ln -s /usr/local/cuda-13.0 /etc/alternatives/cuda \
 && ln -s /etc/alternatives/cuda /usr/local/cuda
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_color_set(tmp_path_factory.mktemp("colors"), {"train": 8, "valid": 2})


@pytest.fixture(scope="module")
def job(
    train_image: str, trained_job: TrainedJob, tmp_path_factory: pytest.TempPathFactory
) -> TrainedJob:
    """What `trained_job` learnt outside of a container, learnt in one."""
    asked = trained_job.base / "input" / "config" / "hyperparameters.json"
    hyperparameters = json.loads(asked.read_text())
    base = lay_out(tmp_path_factory.mktemp("job"), trained_job.photos, hyperparameters)
    done = run_training(train_image, base, "train")
    assert done.returncode == 0, done.stdout + done.stderr
    return TrainedJob(base, trained_job.photos, done.stdout)


def predictions(job: TrainedJob) -> dict[str, list[float]]:
    """Each test photo's probabilities."""
    with (job.base / "output" / "data" / "predictions.csv").open(newline="") as lines:
        _, *rows = csv.reader(lines)
    return {row[0]: [float(share) for share in row[3:]] for row in rows}


# What it trains.


def test_it_learns_what_the_command_learns_without_a_container(
    job: TrainedJob, trained_job: TrainedJob
) -> None:
    inside, outside = predictions(job), predictions(trained_job)
    assert inside.keys() == outside.keys()
    for photo, shares in inside.items():
        # Equal to the last digit where both may use the same cores; else sums differ a little.
        assert shares == pytest.approx(outside[photo], abs=0.01), photo


def test_the_log_begins_with_the_driver(job: TrainedJob) -> None:
    first = job.log.splitlines()[0]
    assert first.startswith(("NVIDIA driver ", "No NVIDIA driver is visible"))


def test_nothing_of_the_job_is_left_but_results(job: TrainedJob) -> None:
    assert sorted(path.name for path in job.model_dir.iterdir()) == [
        "model.json",
        "openvino",
        "weights.safetensors",
    ]
    assert not (job.base / "output" / "failure").exists()
    assert (job.base / "output" / "data" / "report.html").exists()


def test_the_serving_container_answers_with_its_model_as_a_server_outside_does(
    job: TrainedJob, serve_image: str, tmp_path: Path
) -> None:
    photo = job.photos / "test" / "blue" / "0.jpg"
    headers = {"Content-Type": "image/jpeg"}
    log = tmp_path / "log"
    with server_process.serving(job.model_dir, log) as server, server.client() as client:
        outside = client.post("/invocations", content=photo.read_bytes(), headers=headers).json()
    sealed = ("--read-only", "--network", "none")
    with serving(serve_image, "serve", options=(*with_model(job.model_dir, photo), *sealed)) as it:
        inside = it.answer_inside()
    assert isinstance(inside, dict)
    assert inside["model"] == outside["model"]
    for here, there in zip(inside["predictions"], outside["predictions"], strict=True):
        assert here["label"] == there["label"]
        assert here["probability"] == pytest.approx(there["probability"], abs=1e-5)
    assert inside["predictions"][0]["label"] == "blue"


def test_its_model_answers_the_original_clients_request(
    job: TrainedJob, serve_image: str, tmp_path: Path
) -> None:
    photo = job.photos / "test" / "red" / "0.jpg"
    twice = base64.encodebytes(base64.b64encode(photo.read_bytes())).decode("ascii")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"inputs": twice}))
    sealed = ("--read-only", "--network", "none", "--volume", f"{request}:/request.json:ro")
    ask = (
        "import urllib.request as web; body = open('/request.json', 'rb').read(); "
        "headers = {'Content-Type': 'application/json'}; "
        "url = 'http://127.0.0.1:8080/invocations'; "
        "print(web.urlopen(web.Request(url, body, headers)).read().decode())"
    )
    with serving(serve_image, "serve", options=(*with_model(job.model_dir, photo), *sealed)) as it:
        answer = json.loads(docker("exec", it.identity, "python", "-c", ask).stdout)
    assert answer["predictions"][0]["label"] == "red"


@pytest.mark.parametrize(
    ("options", "arguments"),
    [((), ("train",)), ((), ()), (("--entrypoint", "train"), ())],
    ids=["argument train", "no argument", "entry point train"],
)
def test_it_starts_however_it_is_called(
    train_image: str,
    photos: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    arguments: tuple[str, ...],
) -> None:
    base = lay_out(tmp_path, photos, QUICK | {"epochs": '"1"'})  # as a tuning job quotes it
    sealed = ("--network", "none", *options)
    done = run_training(train_image, base, *arguments, options=sealed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert open_artifact(base / "model").card.classes == ("blue", "green", "red")


def test_any_user_can_train_who_may_write_the_tree(
    train_image: str, photos: Path, tmp_path: Path
) -> None:
    base = lay_out(tmp_path, photos, QUICK)
    for path in (base, *base.rglob("*")):
        os.chown(path, 4711, 4711)
    options = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--user", "4711:4711")
    done = run_training(train_image, base, "train", options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (base / "model" / "model.json").stat().st_uid == 4711


# How it fails.


def misspell(base: Path) -> str:
    asked = base / "input" / "config" / "hyperparameters.json"
    asked.write_text(json.dumps(QUICK | {"learning_rat": "0.1"}))
    return "Unknown hyperparameter 'learning_rat'. Did you mean 'lr'?\n\n"


def take_away_a_channel(base: Path) -> str:
    data = base / "input" / "data"
    shutil.move(data / "training" / "train", data / "train")
    shutil.rmtree(data / "training")
    return "Channel 'valid' is missing. Add it to InputDataConfig. Found: train.\n\n"


def spoil_the_photos(base: Path) -> str:
    for photo in (base / "input" / "data" / "training").rglob("*.jpg"):
        photo.write_bytes(photo.read_bytes()[:300])
    return "30 of 30 files can't be used, more than max_bad_share=0.1. Mend or remove them:\n"


@pytest.mark.parametrize("spoil", [misspell, take_away_a_channel, spoil_the_photos])
def test_a_failing_job_says_why_in_the_characters_sagemaker_shows(
    train_image: str, photos: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    base = lay_out(tmp_path, photos, QUICK)
    sentence = spoil(base)
    done = run_training(train_image, base, "train")
    assert done.returncode == 1
    assert sentence.strip() in done.stdout
    failure = (base / "output" / "failure").read_text()
    assert failure[:1024].startswith(sentence)
    assert "Traceback" in failure.removeprefix(sentence)
    assert "Traceback" not in done.stdout + done.stderr
    assert not (base / "model").exists() or not any((base / "model").iterdir())


# The user's own script.

SCRIPT = """
import argparse, os, {package}
parser = argparse.ArgumentParser()
parser.add_argument("--word")
word = parser.parse_args().word
with open(os.path.join(os.environ["SM_MODEL_DIR"], "said"), "w") as model:
    model.write(f"{{{call}}}")
"""


def write_wheel(folder: Path) -> str:
    """A package that no index has, as the file pip installs; its name."""
    info = "kennel_bark-1.0.dist-info"
    wheel = folder / "kennel_bark-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("kennel_bark.py", "def bark(word):\n    return f'{word}!'\n")
        files.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: kennel-bark\nVersion: 1.0\n"
        )
        files.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        files.writestr(f"{info}/RECORD", "")
    return wheel.name


def lay_out_script(base: Path, script: str, requirement: str, *more: Path) -> Path:
    """A job as the SageMaker SDK asks for it: names and values are JSON inside of strings."""
    hyperparameters = {
        "sagemaker_program": '"own.py"',
        "sagemaker_submit_directory": '"/opt/ml/input/data/code/sourcedir.tar.gz"',
        "word": '"wuff"',
    }
    lay_out(base, None, hyperparameters)
    source = base / "source"
    source.mkdir()
    (source / "own.py").write_text(script)
    (source / "requirements.txt").write_text(f"{requirement}\n")
    archive = base / "input" / "data" / "code" / "sourcedir.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for file in (*source.iterdir(), *more):
            tar.add(file, arcname=file.name)
    return base


def test_a_users_script_runs_with_a_requirement_of_its_own(
    train_image: str, tmp_path: Path
) -> None:
    name = write_wheel(tmp_path)
    script = SCRIPT.format(package="kennel_bark", call="kennel_bark.bark(word)")
    base = lay_out_script(tmp_path / "ml", script, f"./{name}", tmp_path / name)
    done = run_training(train_image, base, "train")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (base / "model" / "said").read_text() == "wuff!"


def test_a_users_script_runs_with_a_package_from_the_index(
    train_image: str, tmp_path: Path
) -> None:
    fetch = ("run", "--rm", "--network", "host", "--entrypoint", "pip", train_image)
    there = docker(*fetch, "download", "--quiet", "--no-deps", "inflection==0.5.1", check=False)
    if there.returncode:
        pytest.skip(f"No package index can be reached: {there.stderr.strip()[-200:]}")
    script = SCRIPT.format(package="inflection", call="inflection.camelize(word)")
    base = lay_out_script(tmp_path / "ml", script, "inflection==0.5.1")
    done = run_training(train_image, base, "train", options=("--network", "host"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (base / "model" / "said").read_text() == "Wuff"


# What it is made of.


def test_it_is_well_below_the_size_that_aws_refuses(
    train_image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = config(train_image)["Labels"]["org.opencontainers.image.base.name"]
    above = size(train_image) - size(base)
    with capsys.disabled():
        print(f"\n{train_image}: {size(train_image) / 1e6:.0f} MB, {above / 1e6:.0f} above {base}")
    assert size(train_image) <= GOAL_BYTES < AWS_REFUSES_BYTES


def test_our_train_is_the_command_and_not_the_toolkits(train_image: str) -> None:
    which = "import shutil; print(open(shutil.which('train')).read())"
    assert "from train.__main__ import main" in python_in(train_image, which)
    toolkit = "import importlib.metadata as all; print(all.entry_points(name='train'))"
    assert "sagemaker_training.cli.train" in python_in(train_image, toolkit)  # it is there, too


def test_every_library_of_the_job_loads(train_image: str) -> None:
    libraries = (
        "import torch, torchvision, openvino, smdebug.pytorch, sagemaker_training.environment; "
        "print(torch.version.cuda, torch.ones(2, 2).mm(torch.ones(2, 2)).sum().item())"
    )
    assert python_in(train_image, libraries).splitlines()[-1] == "13.0 8.0"


def test_sagemaker_and_nvidia_find_what_they_look_for(train_image: str) -> None:
    found = config(train_image)
    assert found["Entrypoint"] == ["train"]
    assert not found.get("Cmd")
    assert not found.get("User")  # SageMaker mounts files of root
    environment = dict(pair.split("=", 1) for pair in found["Env"])
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert not [name for name in environment if name.startswith("NVIDIA_REQUIRE")]


def test_nothing_is_left_that_only_the_build_needs(train_image: str) -> None:
    left = """
import pathlib, shutil
print([name for name in ("gcc", "cc", "uv") if shutil.which(name)])
print([path for path in ("/opt/ml", "/opt/tools", "/requirements", "/project", "/var/cache/uv")
       if pathlib.Path(path).exists()])
"""
    assert python_in(train_image, left) == "[]\n[]\n"


def test_pip_is_there_for_a_users_requirements(train_image: str) -> None:
    check = "import subprocess; print(subprocess.check_output(['pip', 'check'], text=True))"
    assert "No broken requirements found." in python_in(train_image, check)


def test_a_change_of_the_code_leaves_the_packages_alone(train_image: str, tmp_path: Path) -> None:
    context = copy_context(tmp_path)
    with (context / "train" / "metrics.py").open("a", encoding="utf-8") as code:
        code.write("# Changed.\n")
    changed = "kennel-train:changed"
    try:
        log = build_log(context, "train.Dockerfile", changed)
        last_line = "import inspect, train.metrics as m; print(inspect.getsource(m)[-11:])"
        assert "# Changed." in python_in(changed, last_line)
    finally:
        docker("rmi", changed, check=False)
    steps = cached_by_step(log)
    assert steps["COPY train train"] is False
    for package_step in ("apt-get", "uv pip sync", "COPY --from=packages"):
        assert [cached for step, cached in steps.items() if package_step in step] == [True]


# The driver.


def test_an_older_driver_gets_the_compat_library_of_nvidias_image(
    train_image: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(NVIDIA_LAYOUT)
    docker("build", "--tag", NVIDIA_IMAGE, str(tmp_path))
    file = ("--file", str(ROOT / "docker" / "train.Dockerfile"))
    image = "kennel-train:compat"
    argument = ("--build-arg", f"CUDA_IMAGE={NVIDIA_IMAGE}")
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 535.183.01\n")
    smi.chmod(0o755)
    start = (
        "from pathlib import Path; from serve.cuda import driver_facts, prefer_compat; "
        "import os; no_module = Path('/none'); prefer_compat(no_module); "
        "print(driver_facts(no_module), os.environ['LD_LIBRARY_PATH'])"
    )
    try:
        docker("build", "--network", "host", *file, *argument, "--tag", image, str(ROOT))
        said = python_in(image, start, "--volume", f"{smi}:/usr/bin/nvidia-smi:ro")
    finally:
        docker("rmi", image, NVIDIA_IMAGE, check=False)
    facts = "NVIDIA driver 535.183.01, CUDA compat 580.95.05 in use."
    assert said == f"{facts} /usr/local/cuda/compat\n"
