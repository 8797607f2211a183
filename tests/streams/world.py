"""A whole worker without its process: real streams on fake ports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar
from uuid import UUID

from reactivex import abc
from reactivex.subject import Subject

from streams.accounts import Presence
from streams.aio import LoopScheduler
from streams.domain.account import Account
from streams.domain.signal import Brief
from streams.execution import Execution, ExecutionSettings
from streams.in_hand import InHand
from streams.intake import Intake
from streams.marks import Marks
from streams.monitor import Monitor, MonitorSettings
from streams.outcome import Outcome
from streams.pipeline import Pipeline
from streams.ports import Hint
from streams.recovery import Recovery
from streams.tracker import Tracker, TrackingSettings
from tests.domain import specimens
from tests.streams.fakes import FakeClock, FakeExchange, FakeMarket, FakeStore

O = TypeVar("O")  # noqa: E741

SWEEP = 2.0
RECHECK = 5.0
LEASE = 10.0
POLL = 1.0
MAX_EXECUTION = 60.0
LATE_FILL = 5.0
RECV_WINDOW_MS = 5000
UNKNOWN_MARGIN_MS = 15_000


class World:
    """Everything wired as the composition root does it; `outcomes` is what came out, with its time."""

    def __init__(self, *briefs: Brief) -> None:
        loop = asyncio.get_running_loop()
        self.clock = FakeClock()
        self.store = FakeStore(self.clock, *briefs)
        self.market = FakeMarket()
        self.exchange = FakeExchange()
        self.in_hand = InHand()
        self.hints: Subject[Hint] = Subject()
        self.alarms: list[Exception] = []
        self.outcomes: list[Outcome] = []
        self.timed: list[tuple[float, Outcome]] = []
        self.completed: asyncio.Future[None] = loop.create_future()
        self.scheduler = LoopScheduler(loop)
        numbers = count(0x1000)
        self.venue = FakeExchange(self.clock)
        exchanges = {"paper": self.exchange, "testnet": self.venue}
        markets = dict.fromkeys(exchanges, self.market)

        def new_id() -> UUID:
            return UUID(int=next(numbers))

        self.intake = Intake(self.store, self.clock, self.alarms.append)
        tracking = TrackingSettings(POLL, MAX_EXECUTION, LATE_FILL, RECV_WINDOW_MS, UNKNOWN_MARGIN_MS)
        self.tracker = Tracker(self.store, markets, exchanges, self.clock, tracking, self.in_hand)
        keeping = MonitorSettings(1000, POLL, UNKNOWN_MARGIN_MS)
        self.monitor = Monitor(
            self.store,
            markets,
            exchanges,
            self.clock,
            new_id,
            keeping,
            self.tracker.cancel,
            lambda: bool(self.tracker.accounts),
        )
        settings = ExecutionSettings(default_slippage=specimens.Decimal("0.5"), recv_window_ms=RECV_WINDOW_MS)
        self.execution = Execution(self.store, markets, exchanges, self.clock, new_id, settings, self.in_hand)

        def busy() -> frozenset[Account]:
            return self.intake.accounts | self.tracker.accounts | self.monitor.accounts

        def keep_only(held: frozenset[Account]) -> None:
            self.execution.keep_only(held | self.intake.accounts)

        self.presence = Presence(self.store, self.clock, new_id, LEASE, busy, keep_only, self.alarms.append)
        self.recovery = Recovery(self.store, markets, exchanges, self.clock, self.in_hand)
        self.pipeline = Pipeline(
            self.presence,
            self.intake,
            self.execution,
            self.tracker,
            self.recovery,
            self.monitor,
            Marks(self.store, exchanges, self.clock, lambda: self.monitor.keepers, self.monitor.any_kept),
            SWEEP,
            RECHECK,
            self.scheduler,
        )

    async def start(self) -> abc.DisposableBase:
        """Register and run; outcomes are gathered until the stream completes."""
        await self.presence.register()
        return self.pipeline.outcomes(self.hints).subscribe(
            self._gather, self.completed.set_exception, lambda: self.completed.set_result(None)
        )

    async def stop(self) -> None:
        """Stop, and wait until the last outcome is out."""
        self.pipeline.stop()
        await self.completed

    def of(self, kind: type[O]) -> list[O]:
        """The outcomes of one kind."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, kind)]

    def _gather(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.timed.append((asyncio.get_running_loop().time(), outcome))


async def running(scenario: Callable[[World], Awaitable[None]], *briefs: Brief) -> World:
    """Run a scenario in a started world, and stop the world after it."""
    world = World(*briefs)
    await world.start()
    await scenario(world)
    await world.stop()
    return world


async def passed(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)
