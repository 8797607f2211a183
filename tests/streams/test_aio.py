"""The seam between Rx and asyncio: work starts on subscription, in order, bounded, and ends with its stream."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.subject import Subject

from streams.aio import (
    Operator,
    from_aiter,
    from_callbacks,
    from_coro,
    gathered,
    on,
    recover,
    serial_by,
    shielded_step,
    spaced,
    step,
)
from tests.streams.virtual_loop import in_virtual_time


class Heard:
    """An observer that remembers."""

    def __init__(self, stream: Observable[Any]) -> None:
        self.items: list[Any] = []
        self.error: Exception | None = None
        self.completed = False
        self.subscription = stream.subscribe(self.items.append, self._fail, self._complete)

    def _fail(self, error: Exception) -> None:
        self.error = error

    def _complete(self) -> None:
        self.completed = True


@in_virtual_time
async def test_a_coroutine_runs_anew_at_each_subscription_and_not_before() -> None:
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(1)
        return runs

    stream = from_coro(work)
    await asyncio.sleep(5)
    assert runs == 0
    assert await stream == 1
    assert await stream == 2


@in_virtual_time
async def test_disposing_cancels_the_coroutine() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("ended")

    heard = Heard(from_coro(work))
    await asyncio.sleep(1)
    heard.subscription.dispose()
    await asyncio.sleep(0)
    assert ended == ["ended"]
    assert not heard.completed


@in_virtual_time
async def test_a_generators_yields_are_the_items() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(1)
            yield number

    heard = Heard(from_aiter(numbers))
    await asyncio.sleep(2.5)
    assert heard.items == [0, 1]
    await asyncio.sleep(1)
    assert (heard.items, heard.completed) == ([0, 1, 2], True)


@in_virtual_time
async def test_a_generators_error_is_the_streams() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise ValueError("two")

    heard = Heard(from_aiter(numbers))
    await asyncio.sleep(1)
    assert heard.items == [1]
    assert isinstance(heard.error, ValueError)


@in_virtual_time
async def test_disposing_ends_the_generator() -> None:
    ended: list[float] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(1)
                yield 1
        finally:
            ended.append(asyncio.get_running_loop().time())

    heard = Heard(from_aiter(numbers))
    await asyncio.sleep(2.5)
    heard.subscription.dispose()
    await asyncio.sleep(5)
    assert ended == [2.5]
    assert heard.items == [1, 1]


async def doubled(number: int) -> int:
    await asyncio.sleep(1)
    return number * 2


@in_virtual_time
async def test_steps_follow_one_another() -> None:
    assert await rx.just(3).pipe(step(doubled), step(doubled)) == 12
    assert asyncio.get_running_loop().time() == pytest.approx(2)  # pyright: ignore[reportUnknownMemberType]


@in_virtual_time
async def test_a_step_is_cancelled_with_its_stream_and_a_shielded_one_is_finished() -> None:
    finished: list[str] = []

    def work(name: str) -> Callable[[int], Any]:
        async def stage(number: int) -> int:
            await asyncio.sleep(1)
            finished.append(name)
            return number

        return stage

    plain = Heard(rx.just(1).pipe(step(work("plain"))))
    shielded = Heard(rx.just(1).pipe(shielded_step(work("shielded")), step(work("what came after"))))
    await asyncio.sleep(0.5)
    plain.subscription.dispose()
    shielded.subscription.dispose()
    await asyncio.sleep(5)
    assert finished == ["shielded"]
    assert (plain.items, shielded.items) == ([], [])


@in_virtual_time
async def test_items_of_one_kind_are_carried_on_and_others_pass() -> None:
    tripled: Operator[int, int] = ops.map(lambda number: number * 3)
    heard = Heard(rx.of(1, "one", 2).pipe(on(int, tripled)))
    assert heard.items == [3, "one", 6]


@in_virtual_time
async def test_a_recovered_failure_is_a_value() -> None:
    async def fail() -> str:
        raise ValueError("no")

    assert await from_coro(fail).pipe(recover(lambda error: rx.just(f"recovered from {error}"))) == "recovered from no"


@in_virtual_time
async def test_a_key_keeps_its_order_and_keys_run_side_by_side() -> None:
    underway: Counter[str] = Counter()
    log: list[tuple[str, int, float]] = []

    async def work(item: tuple[str, int]) -> tuple[str, int]:
        key, number = item
        underway[key] += 1
        assert underway[key] == 1, "two of one key at once"
        await asyncio.sleep(1)
        underway[key] -= 1
        log.append((key, number, asyncio.get_running_loop().time()))
        return item

    items = [(key, number) for number in range(5) for key in "abc"]
    heard = Heard(
        rx.from_iterable(items).pipe(serial_by(lambda item: item[0], lambda item: from_coro(lambda: work(item))))
    )
    await asyncio.sleep(10)
    assert heard.completed
    for key in "abc":
        assert [(number, round(at)) for name, number, at in log if name == key] == [(n, n + 1) for n in range(5)]


@in_virtual_time
async def test_a_key_that_comes_again_before_and_after_it_was_idle_never_overlaps() -> None:
    source: Subject[int] = Subject()
    spans: list[tuple[float, float]] = []

    async def work() -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(1)
        spans.append((began, asyncio.get_running_loop().time()))

    heard = Heard(source.pipe(serial_by(lambda _: "key", lambda _: from_coro(work))))
    for pause in (0.0, 0.5, 0.5, 1.0, 3.0, 0.25):
        await asyncio.sleep(pause)
        source.on_next(1)
    source.on_completed()
    await asyncio.sleep(10)
    assert heard.completed
    assert len(spans) == 6
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


@in_virtual_time
async def test_a_key_that_is_fed_by_its_own_outcome_goes_on() -> None:
    source: Subject[int] = Subject()
    heard = Heard(source.pipe(serial_by(lambda _: "key", rx.just)))
    again = heard.items.append

    def feed(number: int) -> None:
        again(number)
        if number < 5:
            source.on_next(number + 1)

    source.pipe(serial_by(lambda _: "key", rx.just)).subscribe(feed)
    source.on_next(1)
    await asyncio.sleep(1)
    assert heard.items.count(5) == 2


@in_virtual_time
async def test_idle_keys_are_forgotten() -> None:
    ended = 0
    source: Subject[int] = Subject()

    def project(number: int) -> Observable[int]:
        return from_coro(lambda: doubled(number))

    def counted(number: int) -> Observable[int]:
        def count() -> None:
            nonlocal ended
            ended += 1

        return project(number).pipe(ops.finally_action(count))

    heard = Heard(source.pipe(serial_by(lambda number: number, counted)))
    for number in range(2000):
        source.on_next(number)
    await asyncio.sleep(2)
    assert len(heard.items) == ended == 2000
    source.on_completed()
    assert heard.completed  # a group kept open would keep the stream open


@in_virtual_time
async def test_work_waiting_behind_a_disposed_stream_is_never_begun() -> None:
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(1)

    heard = Heard(rx.of(1, 2, 3).pipe(serial_by(lambda _: "key", lambda n: from_coro(lambda: work(n)))))
    await asyncio.sleep(0.5)
    heard.subscription.dispose()
    await asyncio.sleep(10)
    assert begun == [1]


class Batches:
    """A projection that takes a second a batch, and never twice at once."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []
        self._underway = 0

    def project(self, batch: Sequence[int]) -> Observable[int]:
        async def work() -> int:
            self._underway += 1
            assert self._underway == 1, "two batches at once"
            self.seen.append(tuple(batch))
            await asyncio.sleep(1)
            self._underway -= 1
            return sum(batch)

        return from_coro(work)


@in_virtual_time
async def test_what_comes_while_a_batch_runs_is_gathered_into_the_next() -> None:
    source: Subject[int] = Subject()
    batches = Batches()
    heard = Heard(source.pipe(gathered(batches.project)))
    source.on_next(1)
    await asyncio.sleep(0.5)
    for number in (2, 3, 4):
        source.on_next(number)
    source.on_completed()
    await asyncio.sleep(10)
    assert batches.seen == [(1,), (2, 3, 4)]
    assert (heard.items, heard.completed) == ([1, 9], True)


@in_virtual_time
async def test_gathering_goes_on_after_a_batch_that_answered_for_its_failure() -> None:
    source: Subject[int] = Subject()

    def project(batch: Sequence[int]) -> Observable[int]:
        async def work() -> int:
            if 2 in batch:
                raise ValueError
            return sum(batch)

        return from_coro(work).pipe(recover(lambda _: rx.empty()))

    heard = Heard(source.pipe(gathered(project)))
    for number in (1, 2, 3):
        source.on_next(number)
        await asyncio.sleep(1)
    assert heard.items == [1, 3]


@in_virtual_time
async def test_gathering_ends_its_batch_when_disposed() -> None:
    source: Subject[int] = Subject()
    batches = Batches()
    heard = Heard(source.pipe(gathered(batches.project)))
    source.on_next(1)
    source.on_next(2)
    await asyncio.sleep(0.5)
    heard.subscription.dispose()
    await asyncio.sleep(10)
    assert batches.seen == [(1,)]
    assert heard.items == []


@in_virtual_time
async def test_gathering_ends_its_batch_even_where_it_began_inside_one_that_ended_at_once() -> None:
    source: Subject[int] = Subject()
    ended: list[str] = []

    async def forever() -> int:
        try:
            return await asyncio.sleep(100, 0)
        finally:
            ended.append("ended")

    def project(batch: Sequence[int]) -> Observable[int]:
        return rx.just(1) if batch == (1,) else from_coro(forever)

    def feed(number: int) -> None:
        source.on_next(number + 1)

    subscription = source.pipe(gathered(project)).subscribe(feed)
    source.on_next(1)
    await asyncio.sleep(1)
    subscription.dispose()
    await asyncio.sleep(1)
    assert ended == ["ended"]


@in_virtual_time
async def test_what_comes_close_together_is_handed_on_together_and_none_of_it_is_lost() -> None:
    source = Subject[int]()
    heard = Heard(source.pipe(spaced(1.0)))
    source.on_next(1)
    assert heard.items == [(1,)]
    await asyncio.sleep(0.5)
    source.on_next(2)
    source.on_next(3)
    await asyncio.sleep(0.4)
    assert heard.items == [(1,)]
    await asyncio.sleep(0.2)
    assert heard.items == [(1,), (2, 3)]
    await asyncio.sleep(5)
    source.on_next(4)
    source.on_next(5)
    assert heard.items == [(1,), (2, 3), (4,)]
    source.on_completed()
    assert heard.items == [(1,), (2, 3), (4,), (5,)]
    assert heard.completed


@in_virtual_time
async def test_nothing_is_handed_on_once_disposed() -> None:
    source = Subject[int]()
    heard = Heard(source.pipe(spaced(1.0)))
    source.on_next(1)
    source.on_next(2)
    heard.subscription.dispose()
    await asyncio.sleep(5)
    assert heard.items == [(1,)]


@in_virtual_time
async def test_callbacks_become_items_and_the_connection_ends_with_the_stream() -> None:
    closed: list[str] = []
    emitters: list[Callable[[int], None]] = []

    async def connect(emit: Callable[[int], None]) -> Callable[[], Any]:
        emitters.append(emit)

        async def close() -> None:
            closed.append("closed")

        return close

    heard = Heard(from_callbacks(connect))
    await asyncio.sleep(1)
    emitters[0](1)
    assert heard.items == []  # never inside the caller's stack
    await asyncio.sleep(1)
    assert heard.items == [1]
    heard.subscription.dispose()
    await asyncio.sleep(1)
    emitters[0](2)
    await asyncio.sleep(1)
    assert (heard.items, closed) == ([1], ["closed"])


@in_virtual_time
async def test_a_connection_that_cannot_be_made_is_the_streams_error() -> None:
    async def connect(_: Callable[[int], None]) -> Callable[[], Any]:
        raise OSError("no route")

    heard = Heard(from_callbacks(connect))
    await asyncio.sleep(1)
    assert isinstance(heard.error, OSError)


def test_callbacks_may_come_from_any_thread() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()
        threads: list[int] = []

        async def connect(emit: Callable[[int], None]) -> Callable[[], Any]:
            thread = threading.Thread(target=emit, args=(7,))
            thread.start()

            async def close() -> None:
                thread.join()

            return close

        def hear(_: int) -> None:
            threads.append(threading.get_ident())
            arrived.set()

        subscription = from_callbacks(connect).subscribe(hear)
        await asyncio.wait_for(arrived.wait(), 5)
        subscription.dispose()
        assert threads == [threading.get_ident()]

    asyncio.run(scenario())
