"""Starts the training where it belongs: in this process, or in one per GPU on each of the hosts."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, wait

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from serve.cuda import driver_facts
from train import stop
from train.hosts import PORT, Hosts, await_names, interface_variables, read_hosts
from train.job import BadJob, Failed, Job, base_dir, describe, log_to_stdout, open_job
from train.ranks import Alone, PeerLost, Together
from train.run import run

log = logging.getLogger("train")

MEET_S = 900  # instances of one job start minutes apart
LOOK_S = 0.2  # how often the processes are looked after


class RankFailed(Failed):
    """A process of this host failed; the sentence is its own."""


def launch(job: Job) -> None:
    """Runs the job to its end; raises what it raises, or RankFailed of the first to fail."""
    log.info("%s", _processor_facts())
    hosts = read_hosts(base_dir())
    processes = max(1, torch.cuda.device_count())
    if len(hosts) * processes == 1:
        run(job, Alone())
    else:
        _run_together(hosts, processes)


def _processor_facts() -> str:
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    gpus = ", ".join(f"{gpu.name} {gpu.total_memory / 2**30:.1f} GiB" for gpu in devices) or "none"
    cores = len(os.sched_getaffinity(0))
    return (
        f"{driver_facts()} torch {torch.__version__} for CUDA {torch.version.cuda}; "
        f"GPUs: {gpus}; processor cores: {cores}."
    )


def _run_together(hosts: Hosts, processes: int) -> None:
    await_names(hosts)
    for name, value in interface_variables(hosts).items():
        os.environ.setdefault(name, value)
    port = int(os.environ.get("MASTER_PORT", PORT))
    log.info(
        "Processes on each host: %d; hosts: %s. They meet at port %d of %s, whose log has the "
        "metrics.",
        processes,
        ", ".join(hosts.names),
        port,
        hosts.names[0],
    )
    config = LaunchConfig(
        min_nodes=len(hosts),
        max_nodes=len(hosts),
        nproc_per_node=processes,
        run_id="kennel",
        rdzv_backend="static",
        rdzv_endpoint=f"{hosts.names[0]}:{port}",
        rdzv_configs={"rank": hosts.rank, "timeout": MEET_S},
        max_restarts=0,
    )
    stop.listen(lambda: None)
    try:
        _supervise(config, hosts)
    except ChildFailedError as error:
        raise _failed(error.get_first_failure()[1], hosts) from None
    except dist.DistError as error:
        raise BadJob(
            f"The hosts {', '.join(hosts.names)} did not meet at port {port} of {hosts.names[0]}: "
            f"{error}. All must run this job, on one network where that port is free."
        ) from error


def _supervise(config: LaunchConfig, hosts: Hosts) -> None:
    """Runs torch's launcher in a thread, because its waits let no signal through.

    Nor shall it handle them: it would grant the processes 30 s instead of SageMaker's 120.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.ERROR)  # warns of just that
    ended: Future[None] = Future()

    def work() -> None:
        try:
            elastic_launch(config, _work)(hosts)
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    told: set[int] = set()
    try:
        while not wait([ended], LOOK_S).done:
            if stop.asked():
                _pass_on(told)
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.kill()
        raise
    ended.result()


def _pass_on(told: set[int]) -> None:
    """SIGTERM to each process once; before there are any, nothing is lost."""
    children = {child.pid for child in multiprocessing.active_children() if child.pid}
    if not children and not told:
        raise stop.Stopped
    for child in children - told:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    told |= children


def _work(hosts: Hosts) -> None:
    """One of the processes."""
    rank = int(os.environ["RANK"])
    # All hosts' logs are read for metrics: only the first process tells.
    log_to_stdout(logging.INFO if rank == 0 else logging.ERROR)
    torch.set_num_threads(
        max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"]))
    )
    ranks = Together(hosts.current, hosts.names)
    # Not sooner: until all have met, torch waits without hearing signals, and nothing is lost.
    stop.listen(None if rank == 0 else lambda: None)
    try:
        run(open_job(), ranks)
    except stop.Stopped:
        raise
    except Exception as error:
        lost = ranks.lost_peer(error)
        if lost and stop.asked():
            raise stop.Stopped from error  # the others were asked too
        if not lost:
            ranks.tell(describe(error))
        raise RankFailed(str(lost) if lost else describe(error)) from error


def _failed(failure: ProcessFailure, hosts: Hosts) -> Exception:
    """What the process said itself, or what its end says."""
    if stop.asked() and failure.exitcode == -signal.SIGTERM:  # it was not yet listening
        return stop.Stopped()
    if isinstance(failure.message, dict):  # torch's record of the exception
        kind, _, said = failure.message["message"].partition(": ")
        if kind == stop.Stopped.__name__:
            return stop.Stopped()
        own = kind in (RankFailed.__name__, PeerLost.__name__)
        return RankFailed(
            said if own else f"{kind}: {said}", details=failure.message["extraInfo"]["py_callstack"]
        )
    process = f"Process {failure.local_rank} on host '{hosts.current}'"
    if failure.exitcode == -signal.SIGKILL:
        return RankFailed(
            f"{process} was killed (SIGKILL), probably because memory ran out. Lower batch_size, "
            "or use a larger instance."
        )
    return RankFailed(f"{process} ended without a word: {failure.message or failure.exitcode}.")
