"""Settles what a stopped or dead worker left behind: open positions handed on first, then unfinished entries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from reactivex import Observable

from streams.aio import finished, from_aiter
from streams.booking import Booking
from streams.domain.account import Account
from streams.domain.errors import Dismissed, Rejected, Transient
from streams.domain.order import Order, OrderReport
from streams.domain.reconcile import Next, never_placed, next_move
from streams.in_hand import InHand
from streams.outcome import InDoubt, Opened, Outcome, Resting
from streams.ports import Clock, Exchange, Market, Store, Unfinished

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
STALE_SECONDS = 2.0
"""Rows read longer ago than this are read anew before the next order is settled by them."""


class Recovery:
    """Reads the rows of accounts and brings every unfinished order one move further."""

    def __init__(
        self,
        store: Store,
        markets: Mapping[str, Market],
        exchanges: Mapping[str, Exchange],
        clock: Clock,
        in_hand: InHand,
    ) -> None:
        self._store = store
        self._exchanges = exchanges
        self._clock = clock
        self._in_hand = in_hand
        self._booking = Booking(store, markets)
        self._out_of_reach: set[UUID] = set()
        self.all_settled = False
        """Whether the last recheck found nothing at all to settle, not even in hand."""

    def take_over(self, account: Account, stopping: Callable[[], bool]) -> Observable[Outcome]:
        """Name an account's open positions, so that they are protected, then settle its unfinished entries."""
        return from_aiter(lambda: self._take_over(account, stopping), name="take over")

    def recheck(self) -> Observable[Outcome]:
        """Settle whatever this worker holds and has not in hand: doubts, and what a lost answer left."""
        self.all_settled = False
        return from_aiter(lambda: self._settle_all(None), name="recheck")

    async def _take_over(self, account: Account, stopping: Callable[[], bool]) -> AsyncIterator[Outcome]:
        """Name what is open, to be protected first, then settle, until it has been done once: signals wait behind."""
        named: set[UUID] = set()
        while not stopping():
            try:
                for position in await self._store.open_positions([account]):
                    if position.id not in named:
                        named.add(position.id)
                        yield Opened(position, found=True)
                async for outcome in self._settle_all([account]):
                    if isinstance(outcome, Opened):
                        named.add(outcome.position.id)
                    yield outcome
            except Transient:
                await asyncio.sleep(RETRY_SECONDS)
            except Dismissed:
                return
            else:
                return

    async def _settle_all(self, accounts: Sequence[Account] | None) -> AsyncIterator[Outcome]:
        settled: set[UUID] = set()
        while True:
            read_at = self._clock.monotonic()
            found = await self._store.unfinished(accounts)
            if accounts is None:
                self.all_settled = not found
            rows = [row for row in found if row.order.id not in settled]
            for unfinished in rows:
                if self._clock.monotonic() - read_at > STALE_SECONDS:
                    break
                settled.add(unfinished.order.id)
                for outcome in await self._settle_unless_in_hand(unfinished):
                    yield outcome
            else:
                return

    async def _settle_unless_in_hand(self, unfinished: Unfinished) -> Sequence[Outcome]:
        order = unfinished.order
        if order.id in self._in_hand:
            return ()
        self._in_hand.hold(order.id)
        try:
            return await finished(self._settle(unfinished), name="settle")
        finally:
            self._in_hand.release(order.id)

    async def _settle(self, unfinished: Unfinished) -> Sequence[Outcome]:
        order, signal_id, protection = unfinished.order, unfinished.signal_id, unfinished.protection
        match next_move(order, unfinished.expired):
            case Next.LEAVE:
                return ()
            case Next.FOLLOW:
                return (Resting(order, signal_id, protection, unfinished.age),)
            case Next.GIVE_UP:
                report = never_placed(order.id in self._out_of_reach)
            case Next.PLACE_ANEW:
                report = await self._asked(order, self._exchanges[order.mode].place)
        if isinstance(report, InDoubt):
            return (report,)
        self._out_of_reach.discard(order.id)
        return await self._booking.book(order, signal_id, protection, report, unfinished.age)

    async def _asked(self, order: Order, ask: Callable[[Order], Awaitable[OrderReport]]) -> OrderReport | InDoubt:
        """What the exchange says; one odd order must not keep the others from being settled."""
        try:
            return await ask(order)
        except Rejected as error:
            return OrderReport("failed", failure_code=error.code, failure_reason=error.reason)
        except Exception as error:
            if isinstance(error, Transient):
                self._out_of_reach.add(order.id)
            else:
                log.exception("order %s could not be settled", order.id)
            return InDoubt(order.id, order.account, f"{type(error).__name__}: {error}", unheard=False)
