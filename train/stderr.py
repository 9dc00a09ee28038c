"""The end of what a program said on stderr, and the line in it that says why the program failed."""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

LINES = 200
LINE_BYTES = 4000  # of a longer line, its beginning: an exception's kind comes first

_PIECE = re.compile(rb"[^\r\n]+|\r|\n")
_TRACEBACK = re.compile(r"(.*?)(\+ Exception Group )?Traceback \(most recent call last\):")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(:( |$)|$)")
# How torchrun ends when a process of it fails: with messages and a traceback of its own.
_TORCHRUN = re.compile(r"[EW]\d{4} .*torch/distributed/elastic/")
_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank +: (\d+) .*?exitcode +: (-?\d+) ", re.DOTALL
)


class Tail:
    """The last lines of a stream, which may be endless, no text, or one line."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=LINES)
        self._line = b""
        self._returned = False

    def feed(self, chunk: bytes) -> None:
        for piece in _PIECE.findall(chunk):
            if piece == b"\n":
                self._lines.append(self._line)
                self._line = b""
                self._returned = False
            elif piece == b"\r":
                self._returned = True
            else:
                # What follows a carriage return replaces the line, as progress bars do.
                before = b"" if self._returned else self._line
                self._line = (before + piece)[:LINE_BYTES]
                self._returned = False

    def lines(self) -> list[str]:
        decoded = (line.decode(errors="backslashreplace") for line in (*self._lines, self._line))
        return [line.rstrip() for line in decoded if line.strip()]


@dataclass(frozen=True)
class Cause:
    """Which process of torchrun failed first, and how: an exit code, or minus a signal."""

    rank: int
    code: int


def first_failure(lines: Sequence[str]) -> Cause | None:
    """What torchrun says of it, if it was torchrun."""
    found = _CAUSE.search("\n".join(lines))
    return Cause(int(found[1]), int(found[2])) if found else None


def reason(lines: Sequence[str]) -> str | None:
    """The last traceback's exception, else the last line; torchrun's own words don't count."""
    cause = first_failure(lines)
    own = list(_until_torchrun(lines)) if cause else list(lines)
    # torch puts the rank before a process's lines; the others fail because the first one did.
    exceptions = _exceptions(own, f"[rank{cause.rank}]: ") if cause else []
    candidates = exceptions or _exceptions(own) or own
    return candidates[-1] if candidates else None


def _until_torchrun(lines: Sequence[str]) -> Iterable[str]:
    for line in lines:
        if _TORCHRUN.match(line):
            return
        yield line


def _exceptions(lines: Sequence[str], prefix: str | None = None) -> list[str]:
    found = []
    for index, line in enumerate(lines):
        header = _TRACEBACK.match(line)
        if header and prefix in (None, header[1]):
            margin = "| " if header[2] else ""  # of a group, whose members follow
            found += _exception(lines[index + 1 :], header[1] + margin)
    return found


def _exception(lines: Sequence[str], prefix: str) -> list[str]:
    """The line that ends a traceback whose lines begin so; none if it is cut off."""
    own = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    for line, following in pairwise([*own, ""]):
        if _EXCEPTION.match(line):
            # Some say it all in the lines after it, as torch does of weights that don't fit.
            return [f"{line} {following.strip()}" if line.endswith(":") else line]
    return []
