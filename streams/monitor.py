"""Every open position kept: a keeper each, one stream of prices a symbol, and what is asked of them seen to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from streams.aio import from_aiter, from_coro, gathered, recover
from streams.domain.account import Account
from streams.domain.errors import Dismissed, ExecutionError, Refused, Transient
from streams.domain.held import Held
from streams.domain.order import Order
from streams.domain.position import Position
from streams.keeper import Keeper, KeepingSettings
from streams.outcome import Outcome
from streams.ports import Clock, Exchange, Hint, Market, NewId, Store
from streams.prices import Prices, Span

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
TOGETHER_SECONDS = 0.005
GUARD_FACTOR = 5
"""What rests is looked at so much less often than an exit at work: the venue's stream tells of it."""
GUARDS_A_SECOND = 4
"""At most, over all positions: at a request weight of 4 each, a sixth of an address's minute."""
MOVES_AT_ONCE = 2
"""Trailing stops that follow a rise by turns: a rally moves them by the hundred, and an exit must not stand in line."""


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """`recv_window_ms` of exits, protection and cancels; `poll_interval` in seconds; `unknown_margin_ms` as tracked."""

    recv_window_ms: int
    poll_interval: float
    unknown_margin_ms: int


class Monitor:
    """Keeps positions from their first fill, or from the moment they are found, to their end."""

    def __init__(
        self,
        store: Store,
        markets: Mapping[str, Market],
        exchanges: Mapping[str, Exchange],
        clock: Clock,
        new_id: NewId,
        settings: MonitorSettings,
        cancel_entry: Callable[[Order], None],
        entries_at_work: Callable[[], bool],
    ) -> None:
        self._store = store
        self._entries_at_work = entries_at_work
        self._markets = markets
        self._exchanges = exchanges
        self._clock = clock
        self._new_id = new_id
        self._cancel_entry = cancel_entry
        shared = {id(market): Prices(market) for market in markets.values()}
        self._prices = {mode: shared[id(market)] for mode, market in markets.items()}
        self._moves = asyncio.Semaphore(MOVES_AT_ONCE)
        self._keepers: dict[UUID, Keeper] = {}
        self._any_kept = asyncio.Event()
        self._starting: set[UUID] = set()
        self._wanted: set[UUID] = set()
        self._reading: asyncio.Task[Mapping[UUID, Held]] | None = None
        self._settings = KeepingSettings(
            settings.recv_window_ms, settings.poll_interval, self._guard_interval, settings.unknown_margin_ms
        )

    @property
    def accounts(self) -> frozenset[Account]:
        """The accounts of which a position is in the middle of a step."""
        return frozenset(keeper.held.position.account for keeper in self._keepers.values() if keeper.acting)

    @property
    def keepers(self) -> Sequence[Keeper]:
        """All positions kept now."""
        return tuple(self._keepers.values())

    async def any_kept(self) -> None:
        """Wait until at least one position is kept."""
        await self._any_kept.wait()

    def keep(self, position: Position, entry: Order | None = None) -> Observable[Outcome]:
        """Keep a position to its end; one that is kept already is only told to look at its rows.

        With its entry, it has just been opened, and nothing else of it is in the rows.
        """

        def subscribe(_: abc.SchedulerBase) -> Observable[Outcome]:
            keeper = self._keepers.get(position.id)
            if keeper is not None:
                keeper.news()
            if keeper is not None or position.id in self._starting:
                return rx.empty()
            self._starting.add(position.id)
            kept = from_aiter(lambda: self._kept(position, entry), name="keep position")
            return kept.pipe(ops.finally_action(lambda: self._starting.discard(position.id)))

        return rx.defer(subscribe)

    def asked(self, wakes: Observable[Hint]) -> Observable[Outcome]:
        """Look for what is asked of positions whenever there may be something, and see to it."""
        return wakes.pipe(gathered(self._look), ops.flat_map(self._see_to))

    def _look(self, hints: Sequence[Hint]) -> Observable[Held]:
        everything = any(hint.everything for hint in hints) and self._has_positions()
        named = None if everything else tuple({one for hint in hints for one in hint.positions})

        async def look() -> Sequence[Held]:
            return await self._store.held(named, asked=True)

        found = rx.empty() if named == () else from_coro(look, name="look for actions").pipe(recover(_nothing_found))
        return found.pipe(ops.flat_map(rx.from_iterable))

    def _has_positions(self) -> bool:
        """Whether anything can be asked of this worker at all: at rest, nothing is looked for."""
        return bool(self._keepers or self._starting) or self._entries_at_work()

    def _see_to(self, held: Held) -> Observable[Outcome]:
        if held.position.is_open:
            return self.keep(held.position)
        if any(action.action in ("cancel_entry", "close") for action in held.actions):
            self._cancel_entry(held.entry)
        return rx.empty()

    async def _kept(self, position: Position, entry: Order | None) -> AsyncIterator[Outcome]:
        held = await self._begun(position, entry)
        if held is None:
            return
        market, exchange = self._markets[position.mode], self._exchanges[position.mode]
        keeper = Keeper(
            held,
            self._store,
            market,
            exchange,
            self._clock,
            self._new_id,
            self._settings,
            self._cancel_entry,
            self._moves,
        )
        self._keepers[position.id] = keeper
        self._any_kept.set()
        stop_listening = exchange.listen(position.account, keeper.heard)
        prices = self._prices[position.mode].of(position.symbol).subscribe(_guarded(keeper), self._price_failure)
        try:
            async for outcome in keeper.steps():
                yield outcome
        finally:
            prices.dispose()
            stop_listening()
            del self._keepers[position.id]
            if not self._keepers:
                self._any_kept.clear()

    async def _begun(self, position: Position, entry: Order | None) -> Held | None:
        """The position's rows, once its market is known; None where it is another worker's or has ended."""
        while True:
            try:
                self._markets[position.mode].rules(position.symbol)
                if entry is not None:
                    return Held(position, entry)
                return await self._read(position.id)
            except (Transient, Refused) as error:
                log.debug("position %s cannot be kept yet: %s", position.id, error)
                await asyncio.sleep(RETRY_SECONDS)
            except Dismissed:
                return None

    async def _read(self, position_id: UUID) -> Held | None:
        """A position's rows; those that are wanted in one moment, as at a takeover, are read together."""
        self._wanted.add(position_id)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_together(), name="read positions")
        return (await asyncio.shield(self._reading)).get(position_id)

    async def _read_together(self) -> Mapping[UUID, Held]:
        await asyncio.sleep(TOGETHER_SECONDS)
        wanted, self._wanted, self._reading = tuple(self._wanted), set[UUID](), None
        return {held.position.id: held for held in await self._store.held(wanted)}

    def _guard_interval(self) -> float:
        return max(self._settings.poll_interval * GUARD_FACTOR, len(self._keepers) / GUARDS_A_SECOND)

    def _price_failure(self, error: Exception) -> None:
        log.error("a price stream failed", exc_info=error)


def _guarded(keeper: Keeper) -> Callable[[Span], None]:
    """A keeper's view of prices that can raise nothing: whoever hands them on would stop for all others too."""

    def seen(span: Span) -> None:
        try:
            keeper.span(span)
        except Exception:
            log.exception("a price of %s could not be judged", keeper.held.position.symbol)

    return seen


def _nothing_found(error: Exception) -> Observable[Sequence[Held]]:
    if not isinstance(error, ExecutionError):
        log.error("what is asked of positions could not be read", exc_info=error)
    return rx.empty()
