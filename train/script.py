"""Runs the user's own script in place of our training, as the SageMaker SDK's Estimator asks.

The sagemaker-training toolkit reads what the job was given. The script is run by us: the toolkit
hands no signal on, loses the exit code, and keeps an image's code though the job brings its own.
"""

import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.hosts import PORT, Hosts, await_names, interface_variables, read_hosts
from train.job import BadJob, Failed, read_object
from train.process import Ended, Programs
from train.source import place_source
from train.stderr import first_failure, reason

log = logging.getLogger("train")

TORCHRUN = "sagemaker_torch_distributed_enabled"
OTHER_LAUNCHERS = (
    "sagemaker_mpi_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_distributed_dataparallel_enabled",
)
USE_TORCHRUN = 'the Estimator\'s distribution={"torch_distributed": {"enabled": True}}'
# They tell of credentials found, of GPUs and hyperparameters that are no JSON.
TALKATIVE = ("sagemaker-training-toolkit", "boto3", "botocore", "s3transfer")
QUIET_PIP = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
REASON_CHARACTERS = 600  # of the script's own words, so that ours fit into FailureReason too


class ScriptFailed(Failed):
    """The user's script failed, or what it requires can't be installed."""


@dataclass(frozen=True)
class Request:
    """What the job asks for, as the toolkit understands it."""

    program: str
    source: str
    arguments: Sequence[str]
    variables: Mapping[str, str]
    torchrun: bool
    gpus: int


class Given(dict[str, Any]):
    """What the toolkit must take as it is: in place of an empty dict it would read the file."""

    def __bool__(self) -> bool:
        return True


def run_script(base: Path) -> None:
    """Runs it to its end. Raises BadJob, ScriptFailed with the script's exit code, or Stopped if
    that was asked before the script began."""
    if not base.is_dir():
        raise BadJob(f"{base} does not exist. Mount it, or set SAGEMAKER_BASE_DIR to it.")
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    failure = base / "output" / "failure"
    with Programs() as programs:
        hosts = read_hosts(base)
        request = _read_request(base, hosts)
        code = _place(request, base)
        command = _command(request, code, hosts)
        _install(programs, request, code)
        await_names(hosts)
        for folder in ("model", "output/data"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        log.info("Running in %s: %s", code, shlex.join(command))
        environ = _environ(request, code, hosts)
        # torchrun itself would give its processes only 30 s of the 120 between a stop and the end.
        ended = programs.run(command, code, environ, launcher=request.torchrun)
    if ended.code != 0:
        raise _failed(request, ended, failure)


def _read_request(base: Path, hosts: Hosts) -> Request:
    module = os.environ.get("SAGEMAKER_TRAINING_MODULE")
    if module:
        raise BadJob(
            f"SAGEMAKER_TRAINING_MODULE is {module!r}, but this image has no framework module. "
            "Leave it unset: the script is run directly, or through torchrun with "
            f"{USE_TORCHRUN}."
        )
    # The toolkit takes its paths from here when it is imported, else makes a tree of its own.
    os.environ["SAGEMAKER_BASE_DIR"] = str(base.absolute())
    from sagemaker_training import environment  # type: ignore[import-untyped]

    config = base / "input" / "config"
    given = read_object(config / "hyperparameters.json")
    cluster = read_object(config / "resourceconfig.json")
    asked = environment.Environment(
        hyperparameters=Given(environment.read_hyperparameters() if given else {}),
        resource_config=Given(cluster, current_host=hosts.current, hosts=list(hosts.names)),
        input_data_config=Given(read_object(config / "inputdataconfig.json") or _channels(base)),
    )
    if not os.environ["SAGEMAKER_REGION"]:
        del os.environ["SAGEMAKER_REGION"]  # the toolkit's S3 client would take "" for a region
    _refuse_other_launchers(asked.additional_framework_parameters)
    if not asked.user_entry_point:
        raise BadJob("No script is named. Set sagemaker_program (the Estimator's entry_point).")
    return Request(
        program=str(asked.user_entry_point),
        source=asked.module_dir,
        arguments=asked.to_cmd_args(),
        variables=asked.to_env_vars(),
        torchrun=_true(asked.additional_framework_parameters.get(TORCHRUN)),
        gpus=asked.num_gpus,
    )


def _channels(base: Path) -> dict[str, Any]:
    data = base / "input" / "data"
    return {path.name: {} for path in data.iterdir() if path.is_dir()} if data.is_dir() else {}


def _true(value: object) -> bool:
    return str(value).lower() == "true"


def _refuse_other_launchers(parameters: Mapping[str, object]) -> None:
    for name in OTHER_LAUNCHERS:
        if _true(parameters.get(name)):
            raise BadJob(
                f"{name} asks for a launcher that this image does not have. Use {USE_TORCHRUN}."
            )


def _place(request: Request, base: Path) -> Path:
    """The code folder with the user's source, and the script in it."""
    from sagemaker_training import files

    code = place_source(request.source, base.absolute(), files.s3_download)
    if _kind(request, code) != "PYTHON_PACKAGE" and not (code / request.program).is_file():
        raise BadJob(_no_script(request, code))
    return code


def _no_script(request: Request, code: Path) -> str:
    holds = ", ".join(sorted(path.name for path in code.iterdir())[:20]) or "nothing"
    sentence = (
        f"The script {request.program!r} (sagemaker_program) is not in {request.source}, "
        f"which holds {holds}."
    )
    deeper = next(code.rglob(Path(request.program).name), None)
    if not deeper:
        return f"{sentence} Correct the name, or sagemaker_submit_directory."
    return f"{sentence} Name it {str(deeper.relative_to(code))!r}, or pack that folder's content."


def _kind(request: Request, code: Path) -> str:
    from sagemaker_training import _entry_point_type

    kind: str = _entry_point_type.get(code, request.program).value
    return kind


def _install(programs: Programs, request: Request, code: Path) -> None:
    """What the source requires; and the source itself, if it is a package."""
    what = ["."] if _kind(request, code) == "PYTHON_PACKAGE" else []
    if (code / "requirements.txt").is_file():
        what += ["-r", "requirements.txt"]
    if not what:
        return
    command = [sys.executable, "-m", "pip", "install", *what]
    log.info("Installing: pip install %s", shlex.join(what))
    ended = programs.run(command, code, {**os.environ, **QUIET_PIP, **_package_index()})
    programs.raise_if_asked()
    if ended.code != 0:
        raise ScriptFailed(_not_installed(what[-1], ended), details="\n".join(ended.stderr))


def _package_index() -> dict[str, str]:
    if not os.environ.get("CA_REPOSITORY_ARN"):
        return {}
    from sagemaker_training import modules

    return {"PIP_INDEX_URL": modules._get_codeartifact_index()}


def _not_installed(what: str, ended: Ended) -> str:
    errors = [found[1] for line in ended.stderr if (found := re.match("(?i) *error: (.+)", line))]
    said = (errors or [*ended.stderr] or ["pip said nothing"])[-1]
    return (
        f"{'The package' if what == '.' else what} can't be installed: {_short(said).rstrip('.')}. "
        "Names and versions must exist in an index this container can reach. One without network "
        "(EnableNetworkIsolation) needs the wheels in the source, named ./file.whl in "
        "requirements.txt, or installed in the image."
    )


def _command(request: Request, code: Path, hosts: Hosts) -> list[str]:
    kind = _kind(request, code)
    if kind == "COMMAND" and request.torchrun:
        raise BadJob(f"{TORCHRUN}: torchrun needs a Python script, got {request.program!r}.")
    if kind == "COMMAND":
        script = code / request.program
        script.chmod(script.stat().st_mode | 0o111)
        # The shell, because it also runs a script whose first line names no interpreter.
        return ["/bin/sh", "-c", 'exec "$0" "$@"', str(script), *request.arguments]
    program = [request.program]
    if kind == "PYTHON_PACKAGE":
        program = ["-m", request.program.removesuffix(".py").replace("/", ".")]
    torchrun = _torchrun(request.gpus, hosts) if request.torchrun else []
    return [sys.executable, *torchrun, *program, *request.arguments]


def _torchrun(gpus: int, hosts: Hosts) -> list[str]:
    meeting = ["--standalone", "--local_addr=127.0.0.1"]  # the host's own name may have no address
    if len(hosts) > 1:
        meeting = [f"--node_rank={hosts.rank}", f"--master_addr={hosts.names[0]}"]
        meeting += [f"--master_port={os.environ.get('MASTER_PORT', PORT)}"]
    return [
        "-m",
        "torch.distributed.run",
        f"--nnodes={len(hosts)}",
        f"--nproc_per_node={max(1, gpus)}",
        *meeting,
    ]


def _environ(request: Request, code: Path, hosts: Hosts) -> dict[str, str]:
    defaults = {}
    if len(hosts) > 1:
        defaults = {"MASTER_ADDR": hosts.names[0], "MASTER_PORT": str(PORT)}
        defaults |= interface_variables(hosts)
    if request.torchrun:
        cores = len(os.sched_getaffinity(0))
        defaults["OMP_NUM_THREADS"] = str(max(1, cores // max(1, request.gpus)))
    return {
        **defaults,
        **os.environ,
        **request.variables,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }


def _failed(request: Request, ended: Ended, failure: Path) -> ScriptFailed:
    cause = first_failure(ended.stderr) if request.torchrun else None
    code = cause.code if cause else ended.code
    said = failure.read_text(errors="backslashreplace").strip() if failure.is_file() else ""
    return ScriptFailed(
        said or _sentence(request.program, code, ended),
        details="\n".join(ended.stderr),
        exit_code=128 - code if code < 0 else code,
    )


def _sentence(program: str, code: int, ended: Ended) -> str:
    killed_by = signal.Signals(-code) if code < 0 else None
    if killed_by and killed_by == ended.stopped_by:
        return (
            f"{program} was stopped by {killed_by.name}, which it does not handle. To keep its "
            "work it has to save it then; SageMaker grants 120 s."
        )
    if killed_by == signal.SIGKILL or code == 128 + signal.SIGKILL:
        return (
            f"{program} was killed (SIGKILL, exit code 137), probably because memory ran out. "
            "Use smaller batches, fewer data workers, or an instance with more memory."
        )
    how = f"ended with exit code {code}"
    if killed_by:
        how = f"was ended by {killed_by.name} (exit code {128 - code})"
    said = reason(ended.stderr)
    return f"{program} {how}: {_short(said)}" if said else f"{program} {how}; see its log."


def _short(text: str) -> str:
    return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]}…"
