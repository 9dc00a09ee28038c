import base64
import hashlib
import importlib.metadata
import io
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.serve.server_process import free_port
from tests.train.conftest import TRAIN, ScriptJob, can_run
from train.job import REASON_CHARACTERS

ROOT = Path(__file__).parents[2]

TELL = """
import json, os, sys
known = {name: value for name, value in os.environ.items()}
path = os.path.join(os.environ["SM_MODEL_DIR"], "told.json")
with open(path, "w") as file:
    json.dump({"argv": sys.argv, "environ": known, "folder": os.getcwd(),
               "python": sys.executable, "path": sys.path}, file)
"""


def told(job: ScriptJob) -> dict[str, object]:
    """What the script TELL found around it."""
    answer = json.loads((job.base / "model" / "told.json").read_text("utf-8"))
    assert isinstance(answer, dict)
    return answer


def variables(job: ScriptJob) -> Mapping[str, str]:
    environ = told(job)["environ"]
    assert isinstance(environ, dict)
    return environ


def test_the_command_train_is_ours_though_the_toolkit_brings_one_too() -> None:
    claims = {
        (entry.dist.name if entry.dist else None): entry.value
        for entry in importlib.metadata.entry_points(group="console_scripts", name="train")
    }
    assert claims["kennel"] == "train.__main__:main"
    assert claims["sagemaker_training"] == "sagemaker_training.cli.train:main"
    assert "from train.__main__ import main" in TRAIN.read_text()


def test_our_own_training_never_loads_the_toolkit() -> None:
    check = (
        "import sys, train.__main__, train.launch, train.run\n"
        "sys.exit('sagemaker_training' in sys.modules or 'boto3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_a_script_gets_its_hyperparameters_and_the_jobs_facts(script_job: ScriptJob) -> None:
    job = script_job.lay({"train.py": TELL}, lr='"0.1"', epochs="3", layers="[1, 2]", name="a b")
    (job.base / "input" / "data" / "dogs").mkdir(parents=True)
    job.write_config("inputdataconfig", {"dogs": {"TrainingInputMode": "File"}})
    done = job.run(MINE="kept", TRAINING_JOB_NAME="dogs-7")
    assert done.returncode == 0, done.stdout + done.stderr
    code = job.base / "code"
    assert told(job)["argv"] == [
        *("train.py", "--epochs", "3", "--layers", "[1, 2]", "--lr", "0.1", "--name", "a b")
    ]
    assert (told(job)["folder"], told(job)["python"]) == (str(code), sys.executable)
    environ = variables(job)
    expected = {
        "SM_HP_LR": "0.1",
        "SM_HP_EPOCHS": "3",
        "SM_CHANNELS": '["dogs"]',
        "SM_CHANNEL_DOGS": str(job.base / "input" / "data" / "dogs"),
        "SM_OUTPUT_DATA_DIR": str(job.base / "output" / "data"),
        "SM_HOSTS": json.dumps([socket.gethostname()]),
        "SM_CURRENT_HOST": socket.gethostname(),
        "SM_USER_ENTRY_POINT": "train.py",
        "TRAINING_JOB_NAME": "dogs-7",
        "MINE": "kept",
        "PYTHONUNBUFFERED": "1",
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert "SAGEMAKER_REGION" not in environ
    assert "MASTER_ADDR" not in environ
    assert (job.base / "output" / "data").is_dir()
    assert not (job.base / "output" / "failure").exists()


def test_the_log_says_each_thing_once_and_nothing_of_the_toolkits(script_job: ScriptJob) -> None:
    source = "import sys; print('to stdout'); print('to stderr', file=sys.stderr)"
    done = script_job.lay({"train.py": source}, name="no JSON").run()
    code = script_job.base / "code"
    running = f"Running in {code}: {sys.executable} train.py --name 'no JSON'\n"
    assert (done.stdout, done.stderr) == (f"{running}to stdout\n", "to stderr\n")


def test_what_a_script_says_is_in_the_log_while_it_runs(script_job: ScriptJob) -> None:
    source = (
        "import os, sys, time\nprint('one')\nprint('two', file=sys.stderr)\n"
        "while not os.path.exists('heard'): time.sleep(0.01)\n"
    )
    with script_job.lay({"train.py": source}).start() as process:
        assert process.stdout
        process.stdout.readline()
        assert {process.stdout.readline() for _ in range(2)} == {"one\n", "two\n"}
        (script_job.base / "code" / "heard").touch()
    assert process.returncode == 0


def test_the_environments_program_wins_and_the_images_code_is_used(script_job: ScriptJob) -> None:
    script_job.bake({"tools/other.py": TELL, "near.py": "raise SystemExit('the wrong one')"})
    script_job.write_config("hyperparameters", {"sagemaker_program": "near.py"})
    done = script_job.run(SAGEMAKER_PROGRAM="tools/other.py")
    assert done.returncode == 0, done.stdout
    assert told(script_job)["argv"] == ["tools/other.py"]
    assert sorted(path.name for path in script_job.base.iterdir()) == [
        *("code", "input", "model", "output")
    ]


def test_a_script_in_a_folder_imports_from_the_top_too(script_job: ScriptJob) -> None:
    source = {"run/train.py": "import labels, near; print(labels.NAME, near.NAME)"}
    source |= {"labels.py": "NAME = 'top'", "run/near.py": "NAME = 'beside'"}
    done = script_job.lay(source, "run/train.py").run()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "top beside"), done.stderr


def test_a_shell_script_runs_with_the_arguments_as_they_are(script_job: ScriptJob) -> None:
    source = {"run.sh": 'echo "$SM_CURRENT_HOST" "$#" "$4"; exit 5'}  # no #!, not executable
    done = script_job.lay(source, "run.sh", a="1", name="x; $(y) 'z'").run()
    assert done.stdout.splitlines()[1] == f"{socket.gethostname()} 4 x; $(y) 'z'"
    assert done.returncode == 5
    assert script_job.failure().startswith("run.sh ended with exit code 5; see its log.\n")


def test_without_a_tree_nothing_is_made_in_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    job = ScriptJob(tmp_path / "absent")
    done = job.run(HOME=str(home), SAGEMAKER_PROGRAM="train.py")
    assert done.returncode == 1
    assert done.stdout == f"{job.base} does not exist. Mount it, or set SAGEMAKER_BASE_DIR to it.\n"
    assert os.listdir(tmp_path) == ["home"]
    assert os.listdir(home) == []


@pytest.mark.parametrize(
    "name",
    [
        "sagemaker_mpi_enabled",
        "sagemaker_pytorch_ddp_enabled",
        "sagemaker_distributed_dataparallel_enabled",
    ],
)
def test_a_launcher_we_lack_is_refused_with_the_one_we_have(
    script_job: ScriptJob, name: str
) -> None:
    done = script_job.lay({"train.py": ""}, **{name: "true"}).run()
    assert done.returncode == 1
    assert done.stdout.startswith(f"{name} asks for a launcher that this image does not have. Use ")
    assert '{"torch_distributed": {"enabled": True}}' in script_job.failure()


def test_a_launcher_that_is_switched_off_is_no_matter(script_job: ScriptJob) -> None:
    asked = {"sagemaker_distributed_dataparallel_enabled": "false"}
    assert script_job.lay({"train.py": ""}, **asked).run().returncode == 0


def test_a_framework_module_is_refused(script_job: ScriptJob) -> None:
    module = "sagemaker_pytorch_container.training:main"
    done = script_job.lay({"train.py": ""}).run(SAGEMAKER_TRAINING_MODULE=module)
    assert done.returncode == 1
    assert done.stdout.startswith(f"SAGEMAKER_TRAINING_MODULE is '{module}', but this image has no")


# What it requires


def wheel(module: str, content: str) -> bytes:
    """A package, built, that holds one module."""
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for name, text in files.items()
    }
    record = "".join(f"{n},sha256={digests[n]},{len(files[n])}\n" for n in files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def apart(tmp_path: Path) -> Mapping[str, str]:
    """Installs beside the environment of these tests, not into it, and from no index."""
    target = str(tmp_path / "installed")
    return {"PIP_TARGET": target, "PYTHONPATH": target, "PIP_NO_INDEX": "1"}


def test_a_scripts_requirements_are_installed(script_job: ScriptJob, tmp_path: Path) -> None:
    source = {
        "train.py": "import kennel_breeds; print(kennel_breeds.COUNT)",
        "requirements.txt": "./wheels/kennel_breeds-1.0-py3-none-any.whl\n",
        "wheels/kennel_breeds-1.0-py3-none-any.whl": wheel("kennel_breeds", "COUNT = 133"),
    }
    done = script_job.lay(source).run(**apart(tmp_path))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "133"), done.stderr


def test_a_source_with_a_setup_file_is_installed_and_run_as_a_module(
    script_job: ScriptJob, tmp_path: Path
) -> None:
    setup = "from setuptools import setup; setup(name='kennel-byo', py_modules=['byo'])"
    done = script_job.lay({"setup.py": setup, "byo.py": TELL}, "byo.py", lr="1").run(
        # The last of them, oddly, means to build with the setuptools that is here.
        **apart(tmp_path),
        PIP_NO_BUILD_ISOLATION="0",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-m byo --lr 1\n" in done.stdout
    assert (tmp_path / "installed" / "byo.py").is_file()


def test_a_requirement_that_is_nowhere_fails_the_job(script_job: ScriptJob, tmp_path: Path) -> None:
    source = {"train.py": "", "requirements.txt": "kennel-no-such==9"}
    done = script_job.lay(source).run(**apart(tmp_path))
    assert done.returncode == 1
    failure = script_job.failure()
    assert failure.startswith(
        "requirements.txt can't be installed: No matching distribution found for "
        "kennel-no-such==9. Names and versions must exist in an index this container can reach. "
        "One without network (EnableNetworkIsolation) needs the wheels in the source,"
    )
    assert "ERROR: Could not find a version that satisfies" in failure


class CodeArtifact(BaseHTTPRequestHandler):
    """AWS's package repository, as far as its client asks."""

    def do_POST(self) -> None:
        self._answer({"authorizationToken": "secret"})

    def do_GET(self) -> None:
        self._answer({"repositoryEndpoint": "https://127.0.0.1:9/pypi/breeds/"})

    def _answer(self, value: Mapping[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_codeartifact_repository_is_the_index(script_job: ScriptJob) -> None:
    with HTTPServer(("127.0.0.1", 0), CodeArtifact) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = script_job.lay({"train.py": "", "requirements.txt": "kennel-no-such"}).run(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}",
            AWS_ACCESS_KEY_ID="x",
            AWS_SECRET_ACCESS_KEY="y",
            CA_REPOSITORY_ARN="arn:aws:codeartifact:us-east-1:123456789012:repository/dogs/breeds",
            PIP_RETRIES="0",
        )
        server.shutdown()
    assert "Looking in indexes: https://aws:****@127.0.0.1:9/pypi/breeds/simple/\n" in done.stdout
    assert "secret" not in done.stdout + done.stderr + script_job.failure()


# How it fails


def fails(job: ScriptJob, source: str, exit_code: int, **environ: str) -> str:
    """Runs a script that must end so; what DescribeTrainingJob would show of the reason."""
    done = job.lay({"train.py": source}).run(**environ)
    assert done.returncode == exit_code, done.stdout + done.stderr
    failure = job.failure()
    sentence = failure.split("\n\n")[0]
    assert done.stdout.count(sentence) == 1
    assert len(sentence) <= REASON_CHARACTERS
    return sentence


def test_the_last_exception_is_the_reason_whatever_comes_after_it(script_job: ScriptJob) -> None:
    source = """
import sys, traceback, warnings
try:
    raise OSError("labels.csv is locked")
except OSError:
    traceback.print_exc()
try:
    raise ValueError("no class 'x' in labels.csv")
except ValueError:
    traceback.print_exc()
warnings.warn("There appear to be 1 leaked semaphore objects")
sys.exit(3)
"""
    expected = "train.py ended with exit code 3: ValueError: no class 'x' in labels.csv"
    assert fails(script_job, source, 3) == expected
    assert "raise OSError(" in script_job.failure()


def test_an_exception_ends_with_code_1(script_job: ScriptJob) -> None:
    expected = "train.py ended with exit code 1: KeyError: 'lr'"
    assert fails(script_job, "{}['lr']", 1) == expected


@pytest.mark.parametrize(
    ("source", "exit_code", "sentence"),
    [
        ("import sys; sys.exit('No photos.')", 1, "ended with exit code 1: No photos."),
        ("import sys; sys.exit(7)", 7, "ended with exit code 7; see its log."),
        ("def", 1, "ended with exit code 1: SyntaxError: invalid syntax"),
        (
            "import argparse; argparse.ArgumentParser().parse_args(['--lr', '1'])",
            2,
            "ended with exit code 2: train.py: error: unrecognized arguments: --lr 1",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            137,
            "was killed (SIGKILL, exit code 137), probably because memory ran out. Use smaller "
            "batches, fewer data workers, or an instance with more memory.",
        ),
        (
            "import os; print('core', file=__import__('sys').stderr); os.abort()",
            134,
            "was ended by SIGABRT (exit code 134): core",
        ),
        ("import os; os.kill(os.getpid(), 15)", 143, "was ended by SIGTERM (exit code 143)"),
        ("import sys; sys.exit(137)", 137, "was killed (SIGKILL, exit code 137), probably"),
    ],
)
def test_how_it_ended_is_said_and_its_exit_code_survives(
    script_job: ScriptJob, source: str, exit_code: int, sentence: str
) -> None:
    assert fails(script_job, source, exit_code).startswith(f"train.py {sentence}")


def test_an_endless_line_and_bytes_that_are_no_text_do_not_hide_the_reason(
    script_job: ScriptJob,
) -> None:
    source = r"""
import sys
sys.stderr.buffer.write(b"\xff\xfe" + b"#" * 10_000_000 + b"\n")
for i in range(100_000): sys.stderr.write(f"\r{i} %")
raise ValueError("caf\u00e9 " + "x" * 1_000_000)
"""
    sentence = fails(script_job, source, 1, PYTHONIOENCODING="utf-8")
    assert sentence.startswith("train.py ended with exit code 1: ValueError: café xxxx")
    assert sentence.endswith("x…")
    assert len(script_job.failure()) < 20_000


def test_a_scripts_own_failure_file_is_the_reason(script_job: ScriptJob) -> None:
    source = """
import os, sys
with open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w") as file:
    file.write("Breed 'x' has no photos.\\n")
raise ValueError("later")
"""
    assert fails(script_job, source, 1) == "Breed 'x' has no photos."


def test_an_earlier_runs_failure_file_is_not_this_ones(script_job: ScriptJob) -> None:
    (script_job.base / "output").mkdir()
    (script_job.base / "output" / "failure").write_text("old")
    assert fails(script_job, "exit(4)", 4) == "train.py ended with exit code 4; see its log."
    assert script_job.lay({"train.py": ""}).run().returncode == 0
    assert not (script_job.base / "output" / "failure").exists()


# Several processes


GLOO = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
sys.stdout.write(f"rank {dist.get_rank()} of {total.item():.0f}, {sys.argv[1:]}\\n")
"""
LEAVE = "dist.destroy_process_group()\n"  # else gloo's threads may abort the process at its end


def test_torchrun_starts_a_process_for_each_gpu(
    script_job: ScriptJob, two_gpus: Mapping[str, str]
) -> None:
    asked = {"sagemaker_torch_distributed_enabled": "true"}
    done = script_job.lay({"train.py": GLOO + LEAVE}, lr="1", **asked).run(**two_gpus)
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = sorted(line for line in done.stdout.splitlines() if line.startswith("rank "))
    assert ranks == [f"rank {rank} of 2, ['--lr', '1']" for rank in (0, 1)]


def test_the_process_that_failed_first_gives_the_reason_and_the_exit_code(
    script_job: ScriptJob, two_gpus: Mapping[str, str]
) -> None:
    source = f"""{GLOO}
if dist.get_rank() == 0:
    dist.all_reduce(total)  # until the other one is gone
try:
    raise ValueError("no class 'x'")
except ValueError as error:
    sys.excepthook(ValueError, error, error.__traceback__)
    os._exit(3)
"""
    asked = {"sagemaker_torch_distributed_enabled": "true"}
    done = script_job.lay({"train.py": source}, **asked).run(**two_gpus)
    assert done.returncode == 3, done.stdout + done.stderr
    expected = "train.py ended with exit code 3: ValueError: no class 'x'\n"
    assert script_job.failure().startswith(expected)


def test_torchrun_runs_one_process_without_a_gpu(script_job: ScriptJob) -> None:
    asked = {"sagemaker_torch_distributed_enabled": "true"}
    source = GLOO + LEAVE + "raise ValueError('no photos')"
    done = script_job.lay({"train.py": source}, **asked).run()
    assert "rank 0 of 1, []\n" in done.stdout
    assert done.returncode == 1
    expected = "train.py ended with exit code 1: ValueError: no photos\n"
    assert script_job.failure().startswith(expected)


# A network that is none, and a name that leads nowhere, as `docker run --network none` has them.
NOWHERE = ("unshare", "--net", "--uts", "sh", "-c", 'ip link set lo up && hostname algo-1 && "$0"')


@pytest.mark.skipif(
    not can_run(*NOWHERE, "true"),
    reason="Only root, with unshare and ip, may make a network.",
)
def test_torchrun_needs_no_network_on_one_host(script_job: ScriptJob) -> None:
    asked = {"sagemaker_torch_distributed_enabled": "true"}
    process = script_job.lay({"train.py": GLOO + LEAVE}, **asked).start(*NOWHERE)
    log = process.communicate(timeout=200)[0]
    assert process.returncode == 0, log
    assert "rank 0 of 1, []\n" in log


def test_torchrun_needs_a_python_script(script_job: ScriptJob) -> None:
    asked = {"sagemaker_torch_distributed_enabled": "true"}
    script_job.lay({"run.sh": ""}, "run.sh", **asked).run()
    assert script_job.failure().startswith(
        "sagemaker_torch_distributed_enabled: torchrun needs a Python script, got 'run.sh'."
    )


def test_two_hosts_train_together(tmp_path: Path) -> None:
    hosts = ["localhost", "127.0.0.1"]  # two names of this machine
    port = str(free_port())
    running = []
    for name in hosts:
        job = ScriptJob(tmp_path / name / "ml")
        job.base.mkdir(parents=True)
        job.lay({"train.py": GLOO + LEAVE}, sagemaker_torch_distributed_enabled="true")
        job.write_config("resourceconfig", {"current_host": name, "hosts": hosts})
        running.append(job.start(MASTER_PORT=port))
    logs = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], logs
    for rank, log in enumerate(logs):
        assert f"\nrank {rank} of 2, []\n" in log


def test_a_script_on_several_hosts_is_told_of_the_first(script_job: ScriptJob) -> None:
    config = {
        "current_host": "127.0.0.1",
        "hosts": ["localhost", "127.0.0.1"],
        "network_interface_name": "lo",
    }
    script_job.write_config("resourceconfig", config)
    done = script_job.lay({"train.py": TELL}).run(NCCL_SOCKET_IFNAME="mine")
    assert done.returncode == 0, done.stdout
    environ = variables(script_job)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("localhost", "7777")
    assert (environ["GLOO_SOCKET_IFNAME"], environ["NCCL_SOCKET_IFNAME"]) == ("lo", "mine")
    assert environ["SM_HOSTS"] == '["localhost","127.0.0.1"]'
