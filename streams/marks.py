"""What open positions are worth: live to their owners by the second, written in batches by the five."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from math import ceil
from uuid import UUID

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from streams.aio import from_coro
from streams.domain.account import Account
from streams.domain.errors import ExecutionError
from streams.domain.signal import QUOTE_CURRENCY
from streams.keeper import Keeper
from streams.outcome import Outcome
from streams.ports import Clock, Exchange, Mark, Store

log = logging.getLogger(__name__)

SEND_SECONDS = 1.0
MARKS_A_TURN, MOST_TURNS = 100, 10
"""Of many positions, so many are told and written in one turn: what else is to be done stands behind one turn, not
behind all."""
HASTE_SECONDS = 0.01
"""By so much a timer may be early."""
WRITE_SECONDS = 5.0
BALANCE_SECONDS = 60.0
"""How old what an account has at an exchange may be: each question costs a request weight of 20."""
MESSAGES_A_SECOND = 50
"""Over all workers; each user gets one at most."""


class Marks:
    """Reads the keepers' last prices on a timer; what cannot be written now is written with the next batch."""

    def __init__(
        self,
        store: Store,
        exchanges: Mapping[str, Exchange],
        clock: Clock,
        keepers: Callable[[], Sequence[Keeper]],
        any_kept: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._exchanges = exchanges
        self._clock = clock
        self._keepers = keepers
        self._any_kept = any_kept
        self._sent: dict[Keeper, Decimal] = {}
        self._last_told: dict[UUID, float] = {}
        self._written_at = 0.0
        self._owes_a_batch = False  # with it, what has ended since the last one is held against the limits
        self._to_write: list[UUID] = []
        self._balances: dict[Account, tuple[float, Decimal]] = {}
        self._workers = 1

    def told(self) -> Observable[Outcome]:
        """Tell and write for as long as it is subscribed to; nothing comes out."""
        nothing: Observable[Outcome] = rx.empty()
        return from_coro(self._keep_telling, name="marks").pipe(ops.flat_map(lambda _: nothing))

    async def _keep_telling(self) -> None:
        """A plain loop, since it is to cost next to nothing while nothing is held."""
        while True:
            if not self._owes_a_batch:
                await self._any_kept()
            kept = self._kept()
            turns = min(max(ceil(len(self._keepers()) / MARKS_A_TURN), 1), MOST_TURNS)
            for _ in range(turns):
                await asyncio.sleep(SEND_SECONDS / turns)
                await self._guarded(self._send, kept, turns)
                await self._guarded(self._write, kept)

    async def _guarded(self, work: Callable[..., Awaitable[None]], *of: object) -> None:
        try:
            await work(*of)
        except ExecutionError as error:
            log.debug("marks wait for the next batch: %s", error)
        except Exception:  # whatever it is, the next ones are told
            log.exception("marks could not be written")

    def _kept(self) -> Mapping[UUID, Sequence[Keeper]]:
        """What is kept of each user; what was told of others is forgotten."""
        kept: dict[UUID, list[Keeper]] = {}
        for keeper in self._keepers():
            kept.setdefault(keeper.held.position.user_id, []).append(keeper)
        self._last_told = {user_id: self._last_told.get(user_id, 0.0) for user_id in kept}
        self._sent = {keeper: self._sent[keeper] for keeper in self._keepers() if keeper in self._sent}
        return kept

    async def _send(self, kept: Mapping[UUID, Sequence[Keeper]], turns: int) -> None:
        """Send what changed to those whose turn it is: of more users than may be told, those who waited longest."""
        now = self._clock.monotonic()
        due = [user_id for user_id, at in self._last_told.items() if at <= now - SEND_SECONDS + HASTE_SECONDS]
        room = ceil(min(len(kept), MESSAGES_A_SECOND / self._workers) / turns)
        told: dict[Keeper, Mark] = {}
        for user_id in sorted(due, key=self._last_told.__getitem__):
            if not room:
                break
            marks = {keeper: mark for keeper in kept[user_id] if (mark := _mark_of(keeper)) is not None}
            moved = {keeper: mark for keeper, mark in marks.items() if mark.price != self._sent.get(keeper)}
            if moved:
                told |= moved
                self._last_told[user_id] = now
                room -= 1
        if told:
            await self._store.send_marks(list(told.values()))
            self._sent.update((keeper, mark.price) for keeper, mark in told.items())

    async def _write(self, kept: Mapping[UUID, Sequence[Keeper]]) -> None:
        """Write the batch that is due: of many positions a part of it in each turn, all of a user's in one."""
        now = self._clock.monotonic()
        begins = not self._to_write and now - self._written_at >= WRITE_SECONDS
        if begins:
            self._written_at, self._to_write = now, list(kept)
            accounts = {keeper.held.position.account for keepers in kept.values() for keeper in keepers}
            await self._ask_for_a_balance(accounts, now)
        marks: list[Mark] = []
        while self._to_write and len(marks) < MARKS_A_TURN:
            marks += _marks_of(kept.get(self._to_write.pop(), ()))
        if marks or (begins and self._owes_a_batch and not kept):
            accounts = {mark.account for mark in marks}
            balances = {account: owned for account, (_, owned) in self._balances.items() if account in accounts}
            self._workers = max(await self._store.write_marks(marks, balances), 1)
            self._owes_a_batch = bool(marks)

    async def _ask_for_a_balance(self, accounts: set[Account], now: float) -> None:
        """Ask what one account has of the quote currency, the one that was asked for longest ago."""
        held = {account: seen for account, seen in self._balances.items() if account in accounts}
        due = [one for one in accounts if one.mode != "paper" and held.get(one, (0.0,))[0] <= now - BALANCE_SECONDS]
        self._balances = held
        for account in sorted(due, key=lambda one: held.get(one, (0.0,))[0])[:1]:
            owned = await self._exchanges[account.mode].owned(account, QUOTE_CURRENCY)
            if owned is not None:
                held[account] = (now, owned)


def _marks_of(keepers: Sequence[Keeper]) -> list[Mark]:
    return [mark for keeper in keepers if (mark := _mark_of(keeper)) is not None]


def _mark_of(keeper: Keeper) -> Mark | None:
    if keeper.quote is None:
        return None
    return Mark(keeper.held.position.id, keeper.held.position.account, keeper.quote.bid)
