"""This worker's presence: registered, alive by its heartbeat, holding its fair share of accounts and no more."""

from __future__ import annotations

import logging
from collections.abc import Callable

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from streams.aio import from_coro, recover
from streams.cadence import Cadence
from streams.domain.account import Account
from streams.domain.errors import Dismissed, Transient
from streams.ports import Clock, Hint, NewId, Store

log = logging.getLogger(__name__)

BEATS_A_LEASE = 4


class Presence:
    """Keeps this worker's lease; `busy` names the accounts with work in hand, which are never let go."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: NewId,
        lease_seconds: float,
        busy: Callable[[], frozenset[Account]],
        held: Callable[[frozenset[Account]], None],
        alarm: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._lease_seconds = lease_seconds
        self._busy = busy
        self._held = held
        self._alarm = alarm

    async def register(self) -> None:
        """Register under a fresh id. Raises what the store raises."""
        worker_id = self._new_id()
        await self._store.register(worker_id)
        log.info("registered as worker %s", worker_id)

    async def retire(self) -> None:
        """Let everything go at once, so that nobody has to wait for the lease to end."""
        await self._store.retire()

    @property
    def beat_seconds(self) -> float:
        """Seconds that may lie between two beats."""
        return self._lease_seconds / BEATS_A_LEASE

    def beats(self, cadence: Cadence) -> Observable[Hint]:
        """Beat for as long as it is subscribed to; a hint comes when the table must be looked at anew."""
        beat = from_coro(self._beat, name="heartbeat").pipe(recover(self._missed))
        ticks = cadence.every(self.beat_seconds)
        return ticks.pipe(ops.map(lambda _: beat), ops.exclusive(), ops.flat_map(rx.from_iterable))

    async def _beat(self) -> list[Hint]:
        asked_at = self._clock.monotonic()
        pulse = await self._store.heartbeat()
        if not pulse.alive:
            return await self._begin_anew()
        idle = sorted(pulse.accounts - self._busy(), key=lambda account: (account.user_id, account.mode))
        surplus = idle[: pulse.surplus]
        if surplus:
            await self._store.release(surplus)
        held = pulse.accounts.difference(surplus)
        self._held(held)
        return [Hint(held=held, held_at=asked_at, reason="heartbeat")]

    async def _begin_anew(self) -> list[Hint]:
        """A worker that finds itself dead drops what it holds and registers under a fresh id."""
        log.warning("this worker was declared dead: its heartbeat came too late; it registers anew")
        self._held(frozenset())
        await self.register()
        return [Hint(everything=True, reason="registered anew")]

    def _missed(self, error: Exception) -> Observable[list[Hint]]:
        if isinstance(error, Dismissed):
            return from_coro(self._begin_anew, name="register anew").pipe(recover(self._missed_again))
        return self._missed_again(error)

    def _missed_again(self, error: Exception) -> Observable[list[Hint]]:
        if not isinstance(error, Transient):
            log.error("the heartbeat failed", exc_info=error)
        self._alarm(error)
        nothing: list[Hint] = []
        return rx.just(nothing)
