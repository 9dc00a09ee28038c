"""Looks at what runs on AWS: often while something happens, seldom while nothing does."""

import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from rich.console import Console

from scripts.aws_errors import THROTTLED, sentence

T = TypeVar("T")
QUICKEST_S = 1.0
SLOWER = 1.3
# A jobs' description may be asked for a few times a second, by all of an account together.
SLOWEST_S = 10.0
AGAIN_S = 2.0
GIVE_UP_S = 300.0


class Watch:
    """Survives requests that AWS refuses because they are too many, and a network that is away
    for minutes: the job goes on meanwhile."""

    def __init__(self, console: Console, goes_on: str) -> None:
        """`goes_on` is said where looking ends before what is looked at does."""
        self._console, self._goes_on = console, goes_on
        self._pause_s = QUICKEST_S

    def ask(self, question: Callable[[], T]) -> T:
        """Its answer; what is raised after GIVE_UP_S is raised here too."""
        failing_since: float | None = None
        while True:
            try:
                return question()
            except (BotoCoreError, ClientError) as error:
                now = time.monotonic()
                if not passes(error) or now - (failing_since or now) > GIVE_UP_S:
                    self._console.print(self._goes_on, style="yellow", markup=False)
                    raise
                if failing_since is None:
                    failing_since = now
                    self._console.print(
                        f"{sentence(error)} Asking again for {GIVE_UP_S / 60:.0f} minutes.",
                        style="yellow",
                        markup=False,
                    )
                time.sleep(AGAIN_S)

    def wait(self, *, moved: bool) -> None:
        """Until the next look; `moved`: something has happened since the last one."""
        self._pause_s = QUICKEST_S if moved else min(SLOWEST_S, self._pause_s * SLOWER)
        time.sleep(self._pause_s)


def passes(error: Exception) -> bool:
    """Whether it may be different in a minute."""
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in THROTTLED or status >= 500
    return isinstance(error, (ConnectionError, HTTPClientError))
