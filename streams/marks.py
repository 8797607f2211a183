"""What open positions are worth: live to their owners by the second, written in batches by the five."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
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
TURNS_A_SECOND = 2
"""Users are told in so many groups, one after the other: what else is to be done does not wait for all of them."""
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
        self, store: Store, exchanges: Mapping[str, Exchange], clock: Clock, keepers: Callable[[], Sequence[Keeper]]
    ) -> None:
        self._store = store
        self._exchanges = exchanges
        self._clock = clock
        self._keepers = keepers
        self._sent: dict[UUID, Decimal] = {}
        self._last_told: dict[UUID, float] = {}
        self._written_at = 0.0
        self._balances: dict[Account, tuple[float, Decimal]] = {}
        self._workers = 1

    def told(self) -> Observable[Outcome]:
        """Tell and write for as long as it is subscribed to; nothing comes out."""
        nothing: Observable[Outcome] = rx.empty()
        return from_coro(self._keep_telling, name="marks").pipe(ops.flat_map(lambda _: nothing))

    async def _keep_telling(self) -> None:
        """A plain loop: it turns several times a second, and is to cost nothing while nothing is held."""
        while True:
            await asyncio.sleep(SEND_SECONDS / TURNS_A_SECOND)
            if not self._keepers():
                continue
            try:
                await self._beat()
            except ExecutionError as error:
                log.debug("marks wait for the next batch: %s", error)
            except Exception:  # whatever it is, the next ones are told
                log.exception("marks could not be written")

    async def _beat(self) -> None:
        marks = [
            Mark(keeper.held.position.id, keeper.held.position.account, keeper.quote.bid)
            for keeper in self._keepers()
            if keeper.quote is not None
        ]
        now = self._clock.monotonic()
        await self._send(marks, now)
        if marks and now - self._written_at >= WRITE_SECONDS:
            self._written_at = now
            balances = await self._known_balances({mark.account for mark in marks}, now)
            self._workers = max(await self._store.write_marks(marks, balances), 1)

    async def _send(self, marks: Sequence[Mark], now: float) -> None:
        """Send what changed to those whose turn it is: of more users than may be told, those who waited longest."""
        moved = [mark for mark in marks if self._sent.get(mark.position_id) != mark.price]
        due_since = now - SEND_SECONDS + HASTE_SECONDS
        due = {mark.account.user_id for mark in moved if self._last_told.get(mark.account.user_id, 0.0) <= due_since}
        everybody = len({mark.account.user_id for mark in marks})
        turn = ceil(min(everybody, MESSAGES_A_SECOND / self._workers) / TURNS_A_SECOND)
        users = set(sorted(due, key=lambda user: self._last_told.get(user, 0.0))[:turn])
        told = [mark for mark in moved if mark.account.user_id in users]
        if not told:
            return
        await self._store.send_marks(told)
        kept = {mark.position_id for mark in marks}
        self._sent = {one: price for one, price in self._sent.items() if one in kept}
        self._sent.update((mark.position_id, mark.price) for mark in told)
        self._last_told = {mark.account.user_id: self._last_told.get(mark.account.user_id, 0.0) for mark in marks}
        self._last_told.update(dict.fromkeys(users, now))

    async def _known_balances(self, accounts: set[Account], now: float) -> Mapping[Account, Decimal]:
        """What each account has of the quote currency; one account a batch is asked for anew."""
        held = {account: seen for account, seen in self._balances.items() if account in accounts}
        due = [one for one in accounts if one.mode != "paper" and held.get(one, (0.0,))[0] <= now - BALANCE_SECONDS]
        for account in sorted(due, key=lambda one: held.get(one, (0.0,))[0])[:1]:
            owned = await self._exchanges[account.mode].owned(account, QUOTE_CURRENCY)
            if owned is not None:
                held[account] = (now, owned)
        self._balances = held
        return {account: balance for account, (_, balance) in held.items()}
