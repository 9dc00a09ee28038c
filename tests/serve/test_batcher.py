"""Requests share model calls, and whatever one of them does, the others get their own answers."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batcher import MicroBatcher, Overloaded

# A broken batcher does not fail, it hangs, and so does leaving it: only the thread method gets out.
pytestmark = pytest.mark.timeout(30, method="thread")


class Doubler:
    """The model of these tests: twice the number; it can be held, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.started = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, batch: list[int]) -> list[int]:
        self.calls.append(batch)
        self.started.set()
        assert self.may_go.wait(10)
        return [2 * item for item in batch]


def batcher(
    predict: Any, *, max_size: int = 8, max_wait_s: float = 0.0, capacity: int = 100
) -> MicroBatcher[int, int]:
    return MicroBatcher(predict, max_size=max_size, max_wait_s=max_wait_s, capacity=capacity)


async def soon(condition: Any) -> None:
    """Lets the others run until the condition holds; the test's timeout is the only clock."""
    while not condition():
        await asyncio.sleep(0.001)


async def held(batches: MicroBatcher[int, int], model: Doubler) -> "asyncio.Task[int]":
    """A request that is in the model and stays there until `may_go`."""
    model.may_go.clear()
    first = asyncio.create_task(batches.submit(0))
    await asyncio.to_thread(model.started.wait)
    return first


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_requests_that_arrive_together_share_one_call() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model) as batches:
            answers = await asyncio.gather(*(batches.submit(n) for n in range(5)))
        assert answers == [0, 2, 4, 6, 8]
        assert model.calls == [[0, 1, 2, 3, 4]]

    run(story())


def test_requests_that_arrive_during_a_call_share_the_next() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model) as batches:
            first = await held(batches, model)
            others = [asyncio.create_task(batches.submit(n)) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            model.may_go.set()
            assert await asyncio.gather(first, *others) == [0, 2, 4, 6]
        assert model.calls == [[0], [1, 2, 3]]

    run(story())


def test_a_batch_waits_for_more_from_its_first_request_on() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model, max_size=2, max_wait_s=20) as batches:
            first = asyncio.create_task(batches.submit(1))
            await asyncio.sleep(0.01)
            assert model.calls == []
            assert await batches.submit(2) == 4  # full: it goes without waiting on
            assert await first == 2
        assert model.calls == [[1, 2]]

    run(story())


def test_a_lone_request_waits_no_longer_than_max_wait() -> None:
    async def story() -> None:
        async with batcher(Doubler(), max_wait_s=0.01) as batches:
            assert await batches.submit(1) == 2

    run(story())


def test_a_batch_of_one_never_waits() -> None:
    async def story() -> None:
        async with batcher(Doubler(), max_size=1, max_wait_s=1000) as batches:
            assert await batches.submit(1) == 2

    run(story())


@pytest.mark.parametrize("max_wait_s", [0.0, 0.01])
def test_a_batch_never_exceeds_max_size(max_wait_s: float) -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model, max_size=3, max_wait_s=max_wait_s) as batches:
            answers = await asyncio.gather(*(batches.submit(n) for n in range(20)))
        assert answers == [2 * n for n in range(20)]
        assert max(map(len, model.calls)) == 3

    run(story())


def test_batches_are_in_the_order_of_arrival() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model, max_size=4) as batches:
            await asyncio.gather(*(batches.submit(n) for n in range(10)))
        assert [item for call in model.calls for item in call] == list(range(10))

    run(story())


def test_a_client_that_goes_away_does_not_hurt_its_neighbours() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model) as batches:
            first = await held(batches, model)
            gone, stays = (asyncio.create_task(batches.submit(n)) for n in (1, 2))
            await asyncio.sleep(0)
            gone.cancel()
            model.may_go.set()
            assert await asyncio.gather(first, stays) == [0, 4]
        assert gone.cancelled()
        assert model.calls == [[0], [2]], "the model saw an item that nobody waits for"

    run(story())


def test_a_client_that_goes_away_while_the_model_runs_does_not_hurt_its_neighbours() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model) as batches:
            model.may_go.clear()
            gone, stays = (asyncio.create_task(batches.submit(n)) for n in (1, 2))
            await asyncio.to_thread(model.started.wait)
            gone.cancel()
            await asyncio.sleep(0)
            model.may_go.set()
            assert await stays == 4
            assert await batches.submit(3) == 6
        assert model.calls == [[1, 2], [3]]

    run(story())


def test_the_model_is_not_called_for_clients_that_are_all_gone() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model) as batches:
            first = await held(batches, model)
            gone = asyncio.create_task(batches.submit(1))
            await asyncio.sleep(0)
            gone.cancel()
            model.may_go.set()
            await first
        assert model.calls == [[0]]

    run(story())


def test_a_full_queue_is_refused() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model, capacity=2) as batches:
            first = await held(batches, model)
            waiting = [asyncio.create_task(batches.submit(n)) for n in (1, 2)]
            await asyncio.sleep(0)
            sentence = "2 requests are already waiting. Retry later or add instances."
            with pytest.raises(Overloaded, match=sentence):
                await batches.submit(3)
            model.may_go.set()
            assert await asyncio.gather(first, *waiting) == [0, 2, 4]
            assert await batches.submit(4) == 8

    run(story())


def test_a_failing_call_fails_its_batch_and_the_loop_goes_on() -> None:
    def fails_on_one(batch: list[int]) -> list[int]:
        if 1 in batch:
            raise ArithmeticError("no ones")
        return batch

    async def story() -> None:
        async with batcher(fails_on_one) as batches:
            failed = await asyncio.gather(*map(batches.submit, (0, 1, 2)), return_exceptions=True)
            assert [str(error) for error in failed] == ["no ones"] * 3
            assert batches.alive
            assert await batches.submit(5) == 5

    run(story())


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3]], ids=["none", "too few", "too many"])
def test_wrong_number_of_results_is_an_error_for_all(results: list[int]) -> None:
    async def story() -> None:
        async with batcher(lambda batch: results) as batches:
            answers = await asyncio.gather(*map(batches.submit, (1, 2)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [ValueError, ValueError]
            assert batches.alive

    run(story())


@given(
    pauses=st.lists(st.sampled_from([None, 0, 0.0005, 0.002]), min_size=1, max_size=30),
    leaving=st.sets(st.integers(0, 29)),
    max_size=st.integers(1, 5),
    max_wait_s=st.sampled_from([0, 0.0005, 0.002]),
)
@settings(deadline=None, max_examples=60)
def test_no_item_is_lost_under_random_arrivals(
    pauses: list[float | None], leaving: set[int], max_size: int, max_wait_s: float
) -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model, max_size=max_size, max_wait_s=max_wait_s) as batches:
            tasks = []
            for n, pause in enumerate(pauses):
                tasks.append(asyncio.create_task(batches.submit(n)))
                if pause is not None:
                    await asyncio.sleep(pause)
                if n in leaving:
                    tasks[n // 2].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        stayed = [(n, a) for n, a in enumerate(answers) if not isinstance(a, BaseException)]
        assert all(answer == 2 * n for n, answer in stayed)
        left = {n // 2 for n in leaving if n < len(pauses)}
        assert {n for n, _ in stayed} >= set(range(len(pauses))) - left
        seen = [item for call in model.calls for item in call]
        assert len(seen) == len(set(seen)), "an item was given to the model twice"

    run(story())


def test_the_loop_stays_free_while_the_model_runs() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model) as batches:
            first = await held(batches, model)
            for _ in range(10):
                await asyncio.sleep(0)  # each is a turn of the loop that the model did not block
            assert not first.done()
            model.may_go.set()
            assert await first == 0

    run(story())


def test_model_calls_never_overlap_and_have_one_thread() -> None:
    busy = threading.Lock()
    threads = set()

    def predict(batch: list[int]) -> list[int]:
        assert busy.acquire(blocking=False), "two calls at once"
        threads.add(threading.current_thread())
        busy.release()
        return batch

    async def story() -> None:
        async with batcher(predict, max_size=1) as batches:
            await asyncio.gather(*(batches.submit(n) for n in range(20)))

    run(story())
    assert len(threads) == 1


def test_leaving_the_context_answers_what_was_accepted() -> None:
    async def story() -> None:
        model = Doubler()
        async with batcher(model, max_size=2) as batches:
            first = await held(batches, model)
            others = [asyncio.create_task(batches.submit(n)) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(model.may_go.set)
        assert [task.done() for task in (first, *others)] == [True] * 4
        assert [task.result() for task in (first, *others)] == [0, 2, 4, 6]

    run(story())


def test_leaving_the_context_ends_its_thread_and_its_task() -> None:
    async def story() -> None:
        async with batcher(Doubler()) as batches:
            assert batches.alive
            await batches.submit(1)
        await soon(lambda: not batches.alive)
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("model")]

    run(story())


class Stopped(BaseException):
    """What no model should raise: the kind that ends a thread or a task."""


def test_a_batcher_that_died_says_so_and_can_be_left() -> None:
    def dies(batch: list[int]) -> list[int]:
        raise Stopped

    async def story() -> None:
        async with batcher(dies) as batches:
            lost = asyncio.create_task(batches.submit(1))
            await soon(lambda: not batches.alive)
            lost.cancel()

    run(story())
