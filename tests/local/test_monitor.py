"""Which containers of an endpoint are replaced, and what happens to the others."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from local.hosting.fleet import Fleet, Instance, Variant
from local.hosting.live_endpoint import LiveEndpoint
from local.hosting.monitor import Monitor
from local.hosting.serving import NotServing

CONFIG = {
    "EndpointConfigName": "dogs",
    "ProductionVariants": [
        {"VariantName": "only", "ModelName": "dogs", "InitialVariantWeight": 1.0}
    ],
    "_Models": {"dogs": {}},
}


class Container:
    """Answers pings, until it does not."""

    def __init__(self) -> None:
        self.ended: int | None = None
        self.answers = True
        self.pings = 0

    def healthy(self) -> bool:
        self.pings += 1
        return self.answers

    def last_lines(self) -> str:
        return ""


def instance(name: str) -> Instance:
    return Instance(name, cast("Any", Container()), cast("Any", None))


class Launcher:
    """Starts containers in no time, if it does."""

    def __init__(self) -> None:
        self.failures = 0
        self.started: list[Instance] = []
        self.stopped: list[str] = []

    def instance(self, endpoint: str, variant: Variant) -> Instance:
        if self.failures:
            self.failures -= 1
            raise NotServing("no place")
        self.started.append(instance(f"new-{len(self.started)}"))
        return self.started[-1]

    def stop(self, instances: Iterable[Instance]) -> None:
        self.stopped += [instance.id for instance in instances]


class Watched:
    """An endpoint with two containers, and the monitor that watches it."""

    def __init__(self) -> None:
        self.live, self.launcher = LiveEndpoint("dogs"), Launcher()
        self.fleet = Fleet("dogs", CONFIG)
        self.variant = self.fleet.variants["only"]
        self.ending = threading.Event()
        self.live.routes.set((1.0, self.fleet))
        self.live.routes.add(self.variant, [instance("first"), instance("second")])
        monitor = Monitor(
            cast("Any", self.launcher), lambda: [self.live], self.ending, ping_s=0.01, retry_s=0.01
        )
        monitor.start()

    @property
    def names(self) -> list[str]:
        return [instance.id for instance in self.variant.instances]

    @property
    def containers(self) -> list[Any]:
        return [instance.server for instance in self.variant.instances]


@pytest.fixture
def watched() -> Iterable[Watched]:
    watched = Watched()
    yield watched
    watched.ending.set()


def await_(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


def test_a_container_that_ended_is_replaced_in_its_place(watched: Watched) -> None:
    watched.containers[0].ended = 1
    await_(lambda: watched.launcher.stopped == ["first"])
    assert watched.names == ["new-0", "second"]


def test_a_container_that_answers_no_pings_is_replaced(watched: Watched) -> None:
    watched.containers[1].answers = False
    await_(lambda: watched.launcher.stopped == ["second"])
    assert watched.names == ["first", "new-0"]


def test_one_missed_ping_is_forgiven(watched: Watched) -> None:
    watched.variant.instances[0].missed_pings = 2
    seen = watched.containers[0].pings
    await_(lambda: watched.containers[0].pings > seen + 2)
    assert watched.names == ["first", "second"]
    assert watched.variant.instances[0].missed_pings == 0


def test_a_container_at_work_may_miss_more_pings(watched: Watched) -> None:
    busy = watched.variant.instances[0]
    busy.outstanding = 1
    watched.containers[0].answers = False
    await_(lambda: busy.missed_pings >= 5)
    assert watched.names == ["first", "second"]
    await_(lambda: watched.launcher.stopped == ["first"])


def test_no_new_container_is_tried_again(watched: Watched) -> None:
    watched.launcher.failures = 2
    watched.containers[0].ended = 1
    await_(lambda: watched.launcher.stopped == ["first"])
    assert watched.names == ["new-0", "second"]


def test_the_others_get_the_requests_while_one_is_replaced(watched: Watched) -> None:
    watched.launcher.failures = 1 << 30
    watched.containers[0].ended = 1
    first = watched.variant.instances[0]
    await_(lambda: first.replacing)
    places = [watched.live.routes.take(None) for _ in range(20)]
    assert {place.instance.id for place in places} == {"second"}


def test_a_fleet_that_serves_no_more_gets_no_new_container(watched: Watched) -> None:
    watched.launcher.failures = 1 << 30
    watched.containers[0].ended = 1
    first = watched.variant.instances[0]
    await_(lambda: first.replacing)
    watched.live.routes.set()
    watched.launcher.failures = 0
    time.sleep(0.1)
    assert watched.names == ["first", "second"]
    assert [i.id for i in watched.launcher.started] == watched.launcher.stopped
