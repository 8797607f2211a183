"""Follows orders that rest at a venue to their end: look, book what is new, cancel when their time is up.

An account's stream at the venue says when to look; looks go on all the same, for the stream may lose anything unsaid.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from streams.aio import finished, from_aiter
from streams.booking import Booking
from streams.domain.account import Account
from streams.domain.errors import Rejected, Transient, Unknown
from streams.domain.order import ENDED, Order, OrderReport
from streams.domain.reconcile import UNSURE, never_accepted, proven_absent, proven_gone, vanished
from streams.in_hand import InHand
from streams.leash import Leash
from streams.outcome import Outcome, Resting
from streams.ports import Clock, Exchange, Market, Store

log = logging.getLogger(__name__)

UNSURE_SECONDS = 0.25
"""Between looks at an order that may not be placed, or of which news was heard that the venue does not show yet."""
EAGER_LOOKS = 8
"""How many such looks follow on news: the venue's queries lag behind its stream."""
PASSING_FAILURES, LONGEST_PAUSE_SECONDS = 3, 30.0
"""How many looks may fail before the pauses between them grow, and how far: a venue that is down is left alone."""
LOOKS_A_SECOND = 12
"""At most, over all orders: at a request weight of 4 each, half of what Binance gives an address in a minute."""


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Seconds between looks at an order, and seconds after admission when what is left is cancelled.

    `late_fill_seconds`: how long after a cancel a fill may still be told. `recv_window_ms`: how long a cancel is good
    for. `unknown_margin_ms`: how long after its window an order that cannot be found is proven never accepted.
    """

    poll_interval: float
    max_execution_time: float
    late_fill_seconds: float
    recv_window_ms: int
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
        self._leash = Leash(store, settings.recv_window_ms)
        self._exchanges = exchanges
        self._clock = clock
        self._settings = settings
        self._in_hand = in_hand
        self._tracked: dict[UUID, Account] = {}
        self._news: dict[UUID, asyncio.Event] = {}
        self._unwanted: set[UUID] = set()

    @property
    def accounts(self) -> frozenset[Account]:
        """The accounts with an order being followed."""
        return frozenset(self._tracked.values())

    def cancel(self, order: Order) -> None:
        """Have an entry cancelled as soon as it is known to rest."""
        self._unwanted.add(order.id)
        news = self._news.get(order.id)
        if news is not None:
            news.set()

    def follow(self, resting: Resting) -> Observable[Outcome]:
        """Follow one order to its end; an order already followed is left to its follower."""

        def subscribe(_: abc.SchedulerBase) -> Observable[Outcome]:
            if resting.order.id in self._tracked:
                return rx.empty()
            order = resting.order
            news = self._news[order.id] = asyncio.Event()
            self._tracked[order.id] = order.account
            self._in_hand.hold(order.id)

            def heard(client_order_id: str | None, _: str | None) -> None:
                if client_order_id in (None, order.client_order_id):
                    news.set()

            stop_listening = self._exchanges[order.mode].listen(order.account, heard)

            def let_go() -> None:
                stop_listening()
                del self._tracked[order.id], self._news[order.id]
                self._unwanted.discard(order.id)
                self._in_hand.release(order.id)

            looks = from_aiter(lambda: self._looks(resting, news), name="follow order")
            return looks.pipe(ops.finally_action(let_go))

        return rx.defer(subscribe)

    async def _looks(self, resting: Resting, news: asyncio.Event) -> AsyncIterator[Outcome]:
        """Look on news and once an interval, until the order has ended, is in doubt, or no longer this worker's."""
        settings, now = self._settings, self._clock.monotonic()
        cancel_at, settle_at = now + settings.max_execution_time - resting.age, now + settings.late_fill_seconds
        state: Resting | None = resting
        eager = failures = 0
        while state is not None:
            due_at = settle_at if state.order.status in ENDED else cancel_at
            patience = 2.0 ** max(failures - PASSING_FAILURES, 0)
            pause = min(self._pause(state, due_at, eager > 0) * patience, LONGEST_PAUSE_SECONDS)
            eager = EAGER_LOOKS if await self._told(news, pause) else eager - 1
            failures = min(failures + 1, 10)
            try:
                report = await finished(self._look(state.order, due_at))
            except (Transient, Unknown):  # the answer to a cancel may be lost, and it may be sent again
                continue
            except Rejected as error:  # the key, for a look asks nothing else that could be refused
                log.warning("order %s cannot be looked at: %s", state.order.id, error.reason)
                continue
            except Exception:  # a venue's oddity must not end the following
                log.exception("order %s could not be looked at", state.order.id)
                continue
            failures = 0
            if report is None or not _is_news(report, state.order):
                continue
            booked = self._booking.book(state.order, state.signal_id, state.protection, report, state.age)
            state, eager = None, 0
            for outcome in await finished(booked):
                if isinstance(outcome, Resting):
                    state, settle_at = outcome, self._clock.monotonic() + settings.late_fill_seconds
                else:
                    yield outcome

    def _pause(self, state: Resting, due_at: float, eager: bool) -> float:
        """Seconds until the next look: soon where something is to be expected, longer the more orders there are."""
        wait, left = self._settings.poll_interval, due_at - self._clock.monotonic()
        unsure = state.order.status in UNSURE
        if unsure or eager:
            wait = min(wait, UNSURE_SECONDS)
        wait = max(wait, len(self._tracked) / LOOKS_A_SECOND)
        return min(wait, left) if left > 0 and not unsure else wait

    async def _told(self, news: asyncio.Event, seconds: float) -> bool:
        """Wait so long at most; whether the venue said meanwhile that the order changed."""
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return False
        news.clear()
        return True

    async def _look(self, order: Order, due_at: float) -> OrderReport | None:
        """What is new of the order: looked up, or cancelled when its time is up; None where nothing is known yet."""
        exchange = self._exchanges[order.mode]
        is_due = self._clock.monotonic() >= due_at
        venue_ms = exchange.now_ms()  # before the question: the answer is of this moment or later
        if order.status not in UNSURE | ENDED and (is_due or order.id in self._unwanted):
            report = await exchange.cancel(order, self._leash.stamp(exchange))
            return _not_final(order, report or self._missing(order, venue_ms))
        report = await exchange.look_up(order)
        if order.status in ENDED:
            report = report or (self._missing(order, venue_ms) if is_due else None)
            return None if report is None else replace(report, final=is_due)
        if report is None and order.status in UNSURE:
            report = self._missing(order, venue_ms)
        return _not_final(order, report)

    def _missing(self, order: Order, venue_ms: int | None) -> OrderReport | None:
        """What it means that the venue does not know an order: nothing yet, that it never came, or that it is gone."""
        margin_ms = self._settings.unknown_margin_ms
        if venue_ms is None:
            return None
        if proven_absent(order, venue_ms, margin_ms):
            return never_accepted()
        return vanished() if proven_gone(order, venue_ms, margin_ms) else None


def _not_final(order: Order, report: OrderReport | None) -> OrderReport | None:
    """A cancel is the end on paper alone: a venue may still tell of a fill that came before it."""
    if report is None or report.status != "cancelled" or order.mode == "paper":
        return report
    return replace(report, final=False)


def _is_news(report: OrderReport, order: Order) -> bool:
    """Whether the row has something to learn: fills, another state, or that an end is final now."""
    after = order.after(report)
    if (after.filled_quantity, after.status) != (order.filled_quantity, order.status):
        return True
    return order.status in ENDED and report.final
