"""Ticks of one clock for all that is done again and again: at rest waking up is what costs, so it is done together."""

from __future__ import annotations

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops


class Cadence:
    """Ticks for as long as one of its streams is subscribed to; all of them count the same ticks."""

    def __init__(self, seconds: float, scheduler: abc.SchedulerBase) -> None:
        self._seconds = seconds
        # It counts from tick to tick; a timer with a period would wait for the wall clock, which may be set back.
        self._ticks: Observable[int] = rx.interval(seconds, scheduler=scheduler).pipe(ops.share())

    def every(self, seconds: float) -> Observable[int]:
        """As often as asked or a little more often: each so many ticks, and each tick at most."""
        ticks = max(int(seconds / self._seconds), 1)
        return self._ticks.pipe(ops.filter(lambda tick: (tick + 1) % ticks == 0))
