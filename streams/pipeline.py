"""The trunk: wakes become claims, claims become work in order per account, work becomes outcomes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.subject import Subject

from streams.accounts import Presence
from streams.aio import recover, serial_by
from streams.cadence import Cadence
from streams.domain.position import Position
from streams.execution import Execution
from streams.intake import Intake, Item, Takeover, account_of, wakes
from streams.marks import Marks
from streams.monitor import Monitor
from streams.outcome import Changed, Deferred, InDoubt, Opened, Outcome, Resting
from streams.ports import Hint
from streams.recovery import Recovery
from streams.tracker import Tracker

log = logging.getLogger(__name__)

RECHECKS_AT_REST = 10
"""At rest, one recheck of so many is made."""


class Pipeline:
    """Everything that runs, as one stream of outcomes that never fails and ends after `stop`."""

    def __init__(
        self,
        presence: Presence,
        intake: Intake,
        execution: Execution,
        tracker: Tracker,
        recovery: Recovery,
        monitor: Monitor,
        marks: Marks,
        sweep_interval: float,
        recheck_interval: float,
        scheduler: abc.SchedulerBase,
    ) -> None:
        self._presence = presence
        self._intake = intake
        self._execution = execution
        self._tracker = tracker
        self._recovery = recovery
        self._monitor = monitor
        self._marks = marks
        self._sweep_interval = sweep_interval
        self._recheck_interval = recheck_interval
        self._cadence = Cadence(min(sweep_interval, recheck_interval, presence.beat_seconds), scheduler)
        self._scheduler = scheduler
        self._stop: Subject[None] = Subject()
        self._room: Subject[Hint] = Subject()
        self._stopping = False
        self._worked = True

    def stop(self) -> None:
        """Take nothing more on; what is being worked on is finished, what waits is left in the table."""
        self._stopping = True
        self._stop.on_next(None)

    def outcomes(self, hints: Observable[Hint]) -> Observable[Outcome]:
        """Run until stopped. Completes when nothing is in hand any more."""
        sweeps = self._cadence.every(self._sweep_interval)
        woken = wakes(hints, self._room, sweeps, self._scheduler).pipe(ops.share())
        worked: Observable[Outcome] = self._intake.items(woken.pipe(ops.take_until(self._stop))).pipe(
            serial_by(account_of, self._work)
        )
        rechecks = self._cadence.every(self._recheck_interval).pipe(
            ops.take_until(self._stop),
            ops.filter_indexed(lambda _, number: not self._at_rest() or number % RECHECKS_AT_REST == 0),
            ops.map(lambda _: self._recheck()),
            ops.exclusive(),
        )
        asked = self._monitor.asked(woken.pipe(ops.take_until(self._stop)))
        settled: Observable[Outcome] = rx.merge(
            worked,
            rechecks,
            asked.pipe(ops.take_until(self._stop)),
            self._marks.told().pipe(ops.take_until(self._stop)),
        )
        return rx.using(
            self._beating, lambda _: settled.pipe(ops.flat_map(self._followed), ops.do_action(self._notice))
        )

    def _notice(self, outcome: Outcome) -> None:
        """Look once more at an account whose rows may say more than was heard."""
        self._worked = True
        if isinstance(outcome, InDoubt) and outcome.unheard:
            self._intake.doubt(outcome.account)

    def _beating(self) -> abc.DisposableBase:
        """Beat until the last outcome is out: a worker that drains is alive."""
        return self._presence.beats(self._cadence).subscribe(self._room.on_next, self._room.on_error)

    def _work(self, item: Item) -> Observable[Outcome]:
        def begin(_: abc.SchedulerBase) -> Observable[Outcome]:
            if self._stopping:
                return rx.empty()
            if isinstance(item, Takeover):
                return self._recovery.take_over(item.account, lambda: self._stopping)
            return self._execution.execute(item)

        progressed = False

        def notice(outcome: Outcome) -> None:
            nonlocal progressed
            progressed = progressed or not isinstance(outcome, Deferred)

        return rx.defer(begin).pipe(
            recover(self._unforeseen("work")),
            ops.do_action(notice),
            ops.finally_action(lambda: self._finished(item, progressed)),
        )

    def _at_rest(self) -> bool:
        """Whether the last recheck found nothing to settle, and nothing has been worked on since it began."""
        return self._recovery.all_settled and not self._worked

    def _recheck(self) -> Observable[Outcome]:
        self._worked = False
        return self._recovery.recheck().pipe(recover(self._unforeseen("recheck")))

    def _followed(self, outcome: Outcome) -> Observable[Outcome]:
        """Let each outcome out; follow an order that rests and keep a position that is open while the worker runs."""
        later = rx.empty() if self._stopping else self._later(outcome)
        return rx.concat(rx.just(outcome), later)

    def _later(self, outcome: Outcome) -> Observable[Outcome]:
        match outcome:
            case Resting():
                begun, what = self._tracker.follow(outcome), "tracking"
            case Opened(position=position, entry=entry) if position.is_open:
                begun, what = self._monitor.keep(position, entry), "keeping"
            case Changed(position=position) if position.is_open:
                begun, what = self._monitor.keep(position), "keeping"
            case _:
                return rx.empty()
        return begun.pipe(recover(self._unforeseen(what)), ops.take_until(self._stop), ops.flat_map(self._followed))

    def _finished(self, item: Item, progressed: bool) -> None:
        """Ask for more where there is room; what was put off would only come again, so that waits for the sweep."""
        self._worked = True
        self._intake.release(item)
        if progressed and self._intake.wants_more and not self._stopping:
            self._room.on_next(Hint(everything=True, reason="room for more"))

    def _unforeseen(self, what: str) -> Callable[[Exception], Observable[Outcome]]:
        def answer(error: Exception) -> Observable[Outcome]:
            log.warning("%s was cut short: %s: %s", what, type(error).__name__, error)
            return rx.empty()

        return answer


def positions_opened(outcomes: Observable[Outcome]) -> Observable[Position]:
    """The positions that hold coins, as they open and as a start or a takeover finds them."""
    return outcomes.pipe(
        ops.filter(lambda outcome: isinstance(outcome, Opened)), ops.map(_position), ops.filter(lambda p: p.is_open)
    )


def _position(outcome: Outcome) -> Position:
    assert isinstance(outcome, Opened)
    return outcome.position
