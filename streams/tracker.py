"""Follows orders that rest at a venue to their end: look, book what is new, cancel when their time is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from uuid import UUID

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from streams.aio import finished, from_aiter
from streams.booking import Booking
from streams.domain.account import Account
from streams.domain.errors import Transient
from streams.domain.order import Order, OrderReport
from streams.domain.reconcile import UNSURE, never_accepted, proven_absent
from streams.in_hand import InHand
from streams.outcome import Outcome, Resting
from streams.ports import Clock, Exchange, Market, Store

log = logging.getLogger(__name__)

UNSURE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Seconds between looks at an order, and seconds after admission when what is left is cancelled.

    `unknown_margin_ms`: how long after its window an order that cannot be found is proven never accepted.
    """

    poll_interval: float
    max_execution_time: float
    unknown_margin_ms: int


class Tracker:
    """Turns each resting order into the outcomes that its later fills and its end bring."""

    def __init__(
        self,
        store: Store,
        markets: Mapping[str, Market],
        exchanges: Mapping[str, Exchange],
        clock: Clock,
        settings: TrackingSettings,
        in_hand: InHand,
    ) -> None:
        self._booking = Booking(store, markets)
        self._exchanges = exchanges
        self._clock = clock
        self._settings = settings
        self._in_hand = in_hand
        self._tracked: dict[UUID, Account] = {}

    @property
    def accounts(self) -> frozenset[Account]:
        """The accounts with an order being followed."""
        return frozenset(self._tracked.values())

    def follow(self, resting: Resting) -> Observable[Outcome]:
        """Follow one order to its end; an order already followed is left to its follower."""

        def subscribe(_: abc.SchedulerBase) -> Observable[Outcome]:
            if resting.order.id in self._tracked:
                return rx.empty()
            self._tracked[resting.order.id] = resting.order.account
            self._in_hand.hold(resting.order.id)
            looks = from_aiter(lambda: self._looks(resting), name="follow order")
            return looks.pipe(ops.finally_action(lambda: self._let_go(resting)))

        return rx.defer(subscribe)

    async def _looks(self, resting: Resting) -> AsyncIterator[Outcome]:
        """Look once an interval, until the order has ended, is in doubt, or is no longer this worker's."""
        cancel_at = self._clock.monotonic() + self._settings.max_execution_time - resting.age
        state: Resting | None = resting
        while state is not None:
            await asyncio.sleep(self._pause(state, cancel_at))
            try:
                report = await finished(self._look(state.order, cancel_at))
            except Transient:
                continue
            except Exception:  # a venue's oddity must not end the following
                log.exception("order %s could not be looked at", state.order.id)
                continue
            if report is None or (not report.fills and report.status == state.order.status):
                continue
            booked = self._booking.book(state.order, state.signal_id, state.protection, report, state.age)
            state = None
            for outcome in await finished(booked):
                if isinstance(outcome, Resting):
                    state = outcome
                else:
                    yield outcome

    def _pause(self, state: Resting, cancel_at: float) -> float:
        """Seconds until the next look: soon where it is not even known whether the order was placed."""
        poll, left = self._settings.poll_interval, cancel_at - self._clock.monotonic()
        if state.order.status in UNSURE:
            return min(poll, UNSURE_SECONDS)
        return min(poll, left) if left > 0 else poll

    async def _look(self, order: Order, cancel_at: float) -> OrderReport | None:
        """What is new of the order: looked up, or cancelled when its time is up; None where nothing is known yet."""
        exchange = self._exchanges[order.mode]
        if order.status not in UNSURE and self._clock.monotonic() >= cancel_at:
            return await exchange.cancel(order)
        venue_ms = exchange.now_ms()  # before the question: the answer is of this moment or later
        report = await exchange.look_up(order)
        if report is None and venue_ms is not None and proven_absent(order, venue_ms, self._settings.unknown_margin_ms):
            return never_accepted()
        return report

    def _let_go(self, resting: Resting) -> None:
        del self._tracked[resting.order.id]
        self._in_hand.release(resting.order.id)
