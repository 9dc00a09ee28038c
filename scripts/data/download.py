"""A file downloaded over HTTP: goes on where it broke off, and begins anew only saying so."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from scripts.data.parallel import Tell, untold
from scripts.refusal import Refusal

# Waits after failures; one that brought something new starts the row again.
DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_WAIT_S = 120.0
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
PASSING = {408, 425, 429, 500, 502, 503, 504}
PART, STATE = "archive.part", "archive.json"
CONTENT_RANGE = re.compile(r"^bytes (\d+)-\d+/(\d+|\*)$")
# By RFC 9110 a date tells versions apart only if none can have been made in its second.
A_SECOND = timedelta(seconds=1)
Say = Callable[[str], None]


class Broken(Exception):
    """It may go better the next time. `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Version:
    """Which file the bytes of the part are of. By `validator`, a strong ETag or a date, the server
    knows whether it is still the same; without one, nothing can be told, and nothing goes on."""

    url: str
    validator: str = ""
    size: int = 0
    """Bytes; 0: not told."""
    is_whole: bool = False


class Download:
    """A folder with what came so far of one file."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.part, self._state = url, folder / PART, folder / STATE
        self.version = self._read()

    @property
    def here(self) -> int:
        """Bytes."""
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        """The part goes first: killed in between, nothing is taken for what it is not."""
        self.part.unlink(missing_ok=True)
        self.keep(Version(self.url))

    def keep(self, version: Version) -> None:
        partial = self._state.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(version)), encoding="utf-8")
        os.replace(partial, self._state)
        self.version = version

    def _read(self) -> Version:
        """Of nothing, unless what is there is of the same URL."""
        try:
            version = Version(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            version = Version("")
        if version.url != self.url:
            self.part.unlink(missing_ok=True)
            return Version(self.url)
        return version


def download(
    url: str, folder: Path, say: Say, tell: Tell = untold, delays_s: Sequence[float] = DELAYS_S
) -> Path:
    """The file, in `folder`, which also keeps what it takes to go on later. `tell` hears how many
    bytes of how many are here (0: not known). Raises Refusal."""
    try:
        found = Download(url, folder)
        _download(found, say, tell, delays_s)
    except OSError as error:
        raise Refusal(f"{url} can't be kept in {folder}: {error.strerror or error}.") from None
    return found.part


def _download(found: Download, say: Say, tell: Tell, delays_s: Sequence[float]) -> None:
    failures, most = 0, found.here
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        while not found.version.is_whole:
            try:
                _go_on(client, found, say, tell)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
                raise Refusal(f"{found.url} can't be fetched: {error}.") from None
            except (httpx.TransportError, Broken) as error:
                here = found.here
                if here > most:
                    failures, most = 0, here
                if failures == len(delays_s):
                    raise Refusal(
                        f"{found.url} can't be fetched: {_reason(error)}. {here / 1e6:,.1f} MB "
                        "are here: run it again to go on."
                    ) from None
                wait_s = max(delays_s[failures], getattr(error, "wait_s", 0.0))
                failures += 1
                say(f"{_reason(error)}, at {here / 1e6:,.1f} MB; trying again in {wait_s:.0f} s.")
                time.sleep(wait_s)


def _go_on(client: httpx.Client, found: Download, say: Say, tell: Tell) -> None:
    """To the end, or raises Broken, httpx's errors or Refusal."""
    version, here = found.version, found.here
    if version.size and here == version.size:  # ended before this could be noted
        found.keep(replace(version, is_whole=True))
        return
    if here and not version.validator:
        say("The server does not tell versions of the file apart, so it is fetched from its start.")
        found.forget()
        here = 0
    with _asked(client, found.url, here, version.validator) as answer:
        if answer.status_code == httpx.codes.PARTIAL_CONTENT:
            _check_part(answer, found, here)
        else:
            _begin(answer, found, here, say)
        _check_room(found)
        with found.part.open("ab") as file:
            here = file.tell()
            for block in answer.iter_raw():
                file.write(block)
                here += len(block)
                tell(here, found.version.size)
    if found.version.size not in (0, here):
        raise Broken("The file ended early")
    found.keep(replace(found.version, is_whole=True))


@contextmanager
def _asked(client: httpx.Client, url: str, here: int, validator: str) -> Iterator[httpx.Response]:
    # Compressed on the way, its bytes could not be counted.
    headers = {"Accept-Encoding": "identity"}
    if here:
        headers |= {"Range": f"bytes={here}-", "If-Range": validator}
    with client.stream("GET", url, headers=headers) as answer:
        code = answer.status_code
        told = f"The server answers {code} {answer.reason_phrase}".rstrip()
        if code in PASSING:
            raise Broken(told, _retry_after_s(answer))
        if code not in (200, 206, 416):
            raise Refusal(
                f"{url} can't be fetched: {told[0].lower()}{told[1:]}. Name another, or a file "
                "on this machine."
            )
        yield answer


def _check_part(answer: httpx.Response, found: Download, here: int) -> None:
    """That it is the rest of what is here."""
    told = CONTENT_RANGE.match(answer.headers.get("content-range", ""))
    if not told or int(told[1]) != here or told[2] not in ("*", str(found.version.size)):
        found.forget()
        raise Broken("The server sent another part than the one it was asked for")
    tag = answer.headers.get("etag", "")
    if found.version.validator.startswith('"') and tag and tag != found.version.validator:
        found.forget()
        raise Broken("The file has changed there")


def _begin(answer: httpx.Response, found: Download, here: int, say: Say) -> None:
    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        found.forget()
        raise Broken("The file is shorter there than what is here of it")
    version = Version(
        found.url, _validator(answer), int(answer.headers.get("content-length", 0) or 0)
    )
    if here:
        is_same = version.validator == found.version.validator
        reason = "The server can't go on in the middle" if is_same else "The file has changed there"
        say(f"{reason}, so it is fetched from its start.")
    found.forget()
    found.keep(version)


def _validator(answer: httpx.Response) -> str:
    tag: str = answer.headers.get("etag", "")
    if tag.startswith('"'):
        return tag
    date: str = answer.headers.get("last-modified", "")
    try:
        age = parsedate_to_datetime(answer.headers["date"]) - parsedate_to_datetime(date)
    except (KeyError, ValueError, TypeError):
        return ""
    return date if age >= A_SECOND else ""


def _retry_after_s(answer: httpx.Response) -> float:
    told = answer.headers.get("retry-after", "")
    return min(float(told), LONGEST_WAIT_S) if told.isascii() and told.isdigit() else 0.0


def _check_room(found: Download) -> None:
    needed = found.version.size - found.here
    free = shutil.disk_usage(found.part.parent).free
    if needed > free:
        raise Refusal(
            f"{found.url} takes {needed / 1e9:.2f} GB more, and {found.part.parent} has "
            f"{free / 1e9:.2f} GB free. Make room, or name another place: --to."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, Broken):
        return str(error)
    if isinstance(error, httpx.TimeoutException):
        return "The server does not answer in time"
    return f"The connection broke ({str(error) or type(error).__name__})"
