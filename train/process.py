"""Runs other programs: hands on to them what asks `train` to stop, keeps their last words."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from train import stop
from train.stderr import Tail

STOPS = (signal.SIGTERM, signal.SIGINT)
SHELLS = {"sh", "dash", "bash", "zsh", "ksh", "busybox"}
PR_SET_CHILD_SUBREAPER = 36
# A program that left our process group may keep its end of stderr open for ever.
LAST_WORDS_S = 5.0
LOOK_S = 0.2  # how long a signal may wait to be handed on


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, or minus the signal that killed it."""

    code: int
    stderr: Sequence[str]  # its last lines
    stopped_by: signal.Signals | None  # what asked `train` to stop meanwhile


class Programs:
    """Runs programs, one at a time. Meanwhile SIGTERM and SIGINT are theirs, each once.

    A program that was asked to stop may take its time. What it leaves behind is killed, as at the
    end of a container.
    """

    def __init__(self) -> None:
        self._asked: list[signal.Signals] = []
        self._pending: list[signal.Signals] = []
        self._starting = False
        self._receiver: int | None = None
        self._launcher = False
        self._told: list[int] = []

    def __enter__(self) -> "Programs":
        # Makes the orphans of a program children of ours, as they are of PID 1, to wait for them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._before = {number: signal.signal(number, self._receive) for number in STOPS}
        if stop.asked():
            raise stop.Stopped
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        *,
        launcher: bool = False,
    ) -> Ended:
        """Runs it to its end. A launcher's signals are for the programs it has started."""
        tail = Tail()
        self._launcher, self._starting = launcher, True
        program = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        self._receiver = program.pid
        while self._pending:
            self._hand_on(self._pending.pop(0))
        tee = threading.Thread(target=_tee, args=(program.stderr, tail), daemon=True)
        tee.start()
        _wait(program)
        self._end_group(program.pid)
        tee.join(LAST_WORDS_S)
        self._receiver, self._starting = None, False
        return Ended(program.returncode, tail.lines(), self._asked[0] if self._asked else None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        asked = signal.Signals(number)
        if asked in self._asked:
            return
        self._asked.append(asked)
        if self._receiver:
            self._hand_on(asked)
        elif self._starting:
            self._pending.append(asked)
        else:
            _leave(asked)

    def raise_if_asked(self) -> None:
        """Ends the work between two programs if one of them was asked to stop."""
        if self._asked:
            raise KeyboardInterrupt if self._asked == [signal.SIGINT] else stop.Stopped

    def _hand_on(self, asked: signal.Signals) -> None:
        assert self._receiver
        for process in _listeners(self._receiver, self._launcher):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, asked)
                self._told.append(process)

    def _end_group(self, group: int) -> None:
        while self._told:  # shells before what they started, which is ours once they have ended
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._told.pop(0), 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-group, 0)


def _leave(asked: signal.Signals) -> None:
    """Ends this process at once: whatever waits for a network would swallow an exception, or
    finish first."""
    if asked == signal.SIGINT:
        os._exit(130)
    os.write(1, f"{stop.Stopped()}\n".encode())
    os._exit(0)


def _wait(program: "subprocess.Popen[bytes]") -> None:
    """Never without a limit: a signal that comes just before would be noticed only at the end."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(LOOK_S)
            return


def _listeners(process: int, launcher: bool) -> list[int]:
    """Who must be told that all shall stop.

    Not the whole group: a script's own workers would die under it while it saves its work.
    """
    children = _children(process)
    if launcher and children:
        return [listener for child in children for listener in _listeners(child, False)]
    if not _is_shell(process):
        return [process]
    # A shell goes and tells its children nothing. Those that read a pipe end with its writer.
    children = [child for child in children if not _reads_a_pipe(child)]
    return [process, *(listener for child in children for listener in _listeners(child, False))]


def _children(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:  # it has ended
        return []
    return [int(child) for child in text.split()]


def _is_shell(process: int) -> bool:
    return Path(_link(process, "exe")).name in SHELLS


def _reads_a_pipe(process: int) -> bool:
    return _link(process, "fd/0").startswith("pipe:")


def _link(process: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/{name}")
    except OSError:  # it has ended
        return ""


def _tee(source: IO[bytes], tail: Tail) -> None:
    while chunk := source.read(1 << 16):  # unbuffered: what is there
        tail.feed(chunk)
        with contextlib.suppress(OSError):  # nobody reads our log: the program must not notice
            _say(chunk)


def _say(chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(2, chunk) :]
