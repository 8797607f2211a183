"""The one place where Rx meets asyncio.

Everything runs on one event loop. Work starts on subscription, never before it, so that `merge`, `retry` and
dispose mean what they say.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable, SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject

A = TypeVar("A")
B = TypeVar("B")
Operator = Callable[[Observable[A]], Observable[B]]
Close = Callable[[], Awaitable[None]]

_begun: set[asyncio.Task[Any]] = set()
"""Shielded stages not finished yet: the loop itself holds its tasks weakly only."""


class LoopScheduler(AsyncIOScheduler):
    """Schedules on a loop, by the loop's own clock.

    Rx takes the wall clock's time off each period of an interval: set back in that moment, it would stop the ticks for
    as long.
    """

    @property
    def now(self) -> datetime:
        return self.to_datetime(self._loop.time())


def from_coro(start: Callable[[], Coroutine[Any, Any, A]], name: str | None = None) -> Observable[A]:
    """Run a coroutine on subscription; disposing cancels its task."""

    def subscribe(_: abc.SchedulerBase) -> Observable[A]:
        return rx.from_future(asyncio.get_running_loop().create_task(start(), name=name))

    return rx.defer(subscribe)


def from_aiter(start: Callable[[], AsyncIterator[A]], name: str | None = None) -> Observable[A]:
    """Run an asynchronous generator on subscription, an item a yield; disposing cancels it."""

    def subscribe(observer: abc.ObserverBase[A], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        async def run() -> None:
            try:
                async for item in start():
                    observer.on_next(item)
            except Exception as error:  # whatever it is, it is the stream's error
                observer.on_error(error)
            else:
                observer.on_completed()

        task = asyncio.get_running_loop().create_task(run(), name=name)

        def cancel() -> None:
            task.cancel()

        return Disposable(cancel)

    return rx.create(subscribe)


def step(stage: Callable[[A], Coroutine[Any, Any, B]]) -> Operator[A, B]:
    """One stage that waits for the world; disposing cancels it."""
    return ops.concat_map(lambda item: from_coro(lambda: stage(item), name=stage.__name__))


def shielded_step(stage: Callable[[A], Coroutine[Any, Any, B]]) -> Operator[A, B]:
    """One stage that is finished once begun: disposing stops listening to it, never the stage itself."""

    async def finish(item: A) -> B:
        return await finished(stage(item), name=stage.__name__)

    return ops.concat_map(lambda item: from_coro(lambda: finish(item), name=f"await {stage.__name__}"))


async def finished(work: Coroutine[Any, Any, A], name: str | None = None) -> A:
    """Wait for work that is finished once begun: cancelling ends the waiting, never the work."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _begun.add(task)
    task.add_done_callback(_begun.discard)
    return await asyncio.shield(task)


def on(kind: type[A], then: Operator[A, B]) -> Operator[Any, Any]:
    """Carry items of one kind through `then`; all others pass untouched."""

    def project(item: object) -> Observable[Any]:
        return rx.just(item).pipe(then) if isinstance(item, kind) else rx.just(item)

    return ops.concat_map(project)


def recover(answer: Callable[[Exception], Observable[B]]) -> Operator[B, B]:
    """Turn a failure of one item's stream into that item's outcome, so that the trunk never sees an error."""

    def handle(error: Exception, _: Observable[B]) -> Observable[B]:
        return answer(error)

    return ops.catch(handle)


def serial_by(key: Callable[[A], Hashable], project: Callable[[A], Observable[B]]) -> Operator[A, B]:
    """Keep order within a key, run keys side by side, forget a key once it has nothing pending."""

    def operator(source: Observable[A]) -> Observable[B]:
        def subscribe(_: abc.SchedulerBase) -> Observable[B]:
            pending: Counter[Hashable] = Counter()
            idle: dict[Hashable, Subject[None]] = {}

            def admit(item: A) -> None:
                pending[key(item)] += 1

            def settle(k: Hashable) -> None:
                pending[k] -= 1
                if not pending[k]:
                    del pending[k]
                    idle.pop(k).on_next(None)

            def until_idle(group: Any) -> Observable[None]:
                return idle.setdefault(group.key, Subject[None]())

            def run_group(group: Any) -> Observable[B]:
                def run_item(item: A) -> Observable[B]:
                    return project(item).pipe(ops.finally_action(lambda: settle(group.key)))

                return group.pipe(ops.concat_map(run_item))

            group_pending = cast(
                "Callable[[Observable[A]], Observable[Any]]", ops.group_by_until(key, None, until_idle)
            )
            return source.pipe(ops.do_action(admit), group_pending, ops.flat_map(run_group))

        return rx.defer(subscribe)

    return operator


def gathered(project: Callable[[Sequence[A]], Observable[B]]) -> Operator[A, B]:
    """Run one projection at a time; what arrives meanwhile is gathered into the next one's batch.

    A failing projection must answer for itself: an error here ends the stream.
    """

    def operator(source: Observable[A]) -> Observable[B]:
        def subscribe(observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            waiting: list[A] = []
            running = ended = False
            current = SerialDisposable()

            def begin() -> None:
                nonlocal running
                while waiting and not running:
                    running = True
                    batch = tuple(waiting)
                    waiting.clear()
                    batch_run = SingleAssignmentDisposable()  # in its place before it runs: it may end at once
                    current.disposable = batch_run
                    batch_run.disposable = project(batch).subscribe(
                        observer.on_next, observer.on_error, finish, scheduler=scheduler
                    )

            def finish() -> None:
                nonlocal running
                running = False
                begin()
                if ended and not running:
                    observer.on_completed()

            def take(item: A) -> None:
                waiting.append(item)
                begin()

            def end() -> None:
                nonlocal ended
                ended = True
                if not running:
                    observer.on_completed()

            upstream = source.subscribe(take, observer.on_error, end, scheduler=scheduler)

            def dispose() -> None:
                upstream.dispose()
                current.dispose()

            return Disposable(dispose)

        return rx.create(subscribe)

    return operator


def spaced(seconds: float) -> Operator[A, Sequence[A]]:
    """Hand on what comes in groups that are at least so far apart: the first at once, and none is left out."""

    def operator(source: Observable[A]) -> Observable[Sequence[A]]:
        def subscribe(observer: abc.ObserverBase[Sequence[A]], _: abc.SchedulerBase | None = None) -> Disposable:
            loop = asyncio.get_running_loop()
            waiting: list[A] = []
            handed_at, timer = -seconds, None

            def take(item: A) -> None:
                nonlocal timer
                waiting.append(item)
                if timer is None:
                    wait = handed_at + seconds - loop.time()
                    if wait <= 0:
                        hand_on()
                    else:
                        timer = loop.call_later(wait, hand_on)

            def hand_on() -> None:
                nonlocal handed_at, timer
                timer, handed_at = None, loop.time()
                group = tuple(waiting)
                waiting.clear()
                observer.on_next(group)

            def end() -> None:
                stop_timer()
                if waiting:
                    hand_on()
                observer.on_completed()

            def stop_timer() -> None:
                if timer is not None:
                    timer.cancel()

            upstream = source.subscribe(take, observer.on_error, end)

            def dispose() -> None:
                upstream.dispose()
                stop_timer()

            return Disposable(dispose)

        return rx.create(subscribe)

    return operator


def from_callbacks(connect: Callable[[Callable[[A], None]], Awaitable[Close]]) -> Observable[A]:
    """Bridge `connect(emit) -> close` into a stream. `emit` may be called from any thread and cannot raise."""

    def subscribe(observer: abc.ObserverBase[A], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        loop = asyncio.get_running_loop()

        def emit(item: A) -> None:
            loop.call_soon_threadsafe(observer.on_next, item)

        async def run() -> None:
            try:
                close = await connect(emit)
            except Exception as error:  # whatever it is, it is the stream's error
                observer.on_error(error)
                return
            try:
                await asyncio.Event().wait()
            finally:
                await close()

        task = loop.create_task(run(), name="callback source")

        def cancel() -> None:
            task.cancel()

        return Disposable(cancel)

    return rx.create(subscribe)
