"""Settles what a stopped or dead worker left behind: unfinished orders first, then open positions handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from reactivex import Observable

from streams.aio import from_aiter
from streams.booking import Booking
from streams.domain.errors import Dismissed, Rejected, Transient
from streams.domain.order import OrderReport
from streams.domain.reconcile import Next, never_placed, next_move
from streams.domain.signal import Account
from streams.in_hand import InHand
from streams.outcome import Dropped, InDoubt, Opened, Outcome, Resting
from streams.ports import Exchange, Market, Store, Unfinished

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Recovery:
    """Reads the rows of accounts and brings every unfinished order one move further."""

    def __init__(self, store: Store, market: Market, exchanges: Mapping[str, Exchange], in_hand: InHand) -> None:
        self._store = store
        self._exchanges = exchanges
        self._in_hand = in_hand
        self._booking = Booking(store, market)

    def take_over(self, account: Account) -> Observable[Outcome]:
        """Settle an account just taken, then name its open positions, so that their consumers find them all."""
        return from_aiter(lambda: self._take_over(account), name="take over")

    def recheck(self) -> Observable[Outcome]:
        """Settle whatever this worker holds and has not in hand: doubts, and what a lost answer left."""
        return from_aiter(lambda: self._settle_all(None), name="recheck")

    async def _take_over(self, account: Account) -> AsyncIterator[Outcome]:
        """Settle and name again until it has been done once: the account's signals wait behind it."""
        while True:
            try:
                async for outcome in self._settle_all([account]):
                    if not isinstance(outcome, Opened):  # named below, with all the others
                        yield outcome
                for position in await self._store.open_positions([account]):
                    yield Opened(position, found=True)
            except Transient:
                await asyncio.sleep(RETRY_SECONDS)
            except Dismissed:
                return
            else:
                return

    async def _settle_all(self, accounts: Sequence[Account] | None) -> AsyncIterator[Outcome]:
        for unfinished in await self._store.unfinished(accounts):
            if unfinished.order.id in self._in_hand:
                continue
            self._in_hand.hold(unfinished.order.id)
            try:
                for outcome in await self._settle(unfinished):
                    yield outcome
            finally:
                self._in_hand.release(unfinished.order.id)

    async def _settle(self, unfinished: Unfinished) -> list[Outcome]:
        order, brief = unfinished.order, unfinished.brief
        try:
            match next_move(order, unfinished.expired):
                case Next.LEAVE:
                    return []
                case Next.FOLLOW:
                    return [Resting(order, brief, unfinished.age)]
                case Next.GIVE_UP:
                    report = never_placed()
                case Next.LOOK:
                    report = await self._look_up(unfinished)
            return await self._booking.book(order, brief, report, unfinished.age)
        except Dismissed as error:
            return [Dropped(brief.id, str(error))]
        except Exception as error:  # one odd order must not keep the others from being settled
            if not isinstance(error, Transient):
                log.exception("order %s could not be settled", order.id)
            return [InDoubt(order.id, brief.account, f"{type(error).__name__}: {error}")]

    async def _look_up(self, unfinished: Unfinished) -> OrderReport:
        try:
            return await self._exchanges[unfinished.order.mode].look_up(unfinished.order)
        except Rejected as error:
            return OrderReport("failed", failure_code=error.code, failure_reason=error.reason)
