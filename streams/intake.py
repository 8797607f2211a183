"""Four sources, one stream: broadcast, row changes, catch-up and sweep, each signal once.

Realtime only hints; the table is the truth. Whatever the hints do, the sweep finds every ready signal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from streams.aio import from_coro, gathered
from streams.domain.account import Account
from streams.domain.errors import Dismissed, Transient
from streams.execution import Claimed
from streams.ports import Claim, Clock, Hint, Store

log = logging.getLogger(__name__)

UNSEEN_PAUSES = (0.003, 0.01, 0.03)
"""Seconds to wait for announced rows to show: a commit is told of a moment before other sessions see it."""

LOW_WATER = 50
"""With no more than this many signals in hand there is room for more."""

SETTLE_SECONDS = (3.0, 10.0)
"""When to look again after a subscription stands: rows committed in between may have been lost unsaid."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An account that this worker has just taken; its rows come before its signals."""

    account: Account


Item = Takeover | Claimed


def wakes(
    hints: Observable[Hint], feedback: Observable[Hint], sweeps: Observable[int], scheduler: abc.SchedulerBase
) -> Observable[Hint]:
    """Merge every reason to look at the table: hints, catch-up some seconds after each, room again, the sweep."""

    def echoes(hint: Hint) -> Observable[Hint]:
        if not hint.everything:
            return rx.just(hint)
        later = [rx.timer(seconds, scheduler=scheduler).pipe(ops.map(lambda _: hint)) for seconds in SETTLE_SECONDS]
        return rx.merge(rx.just(hint), *later)

    swept = Hint(everything=True, reason="sweep")
    sweep = sweeps.pipe(ops.map(lambda _: swept), ops.start_with(swept))
    return rx.merge(hints.pipe(ops.flat_map(echoes)), feedback, sweep)


class Intake:
    """Claims through the store, one call at a time, and lets each signal through once while it is worked on."""

    def __init__(self, store: Store, clock: Clock, alarm: Callable[[Exception], None]) -> None:
        self._store = store
        self._clock = clock
        self._alarm = alarm
        self._working: dict[UUID, Account] = {}
        self._more = False
        self._taken_over: dict[Account, float] = {}
        self._taking_over: set[Account] = set()

    @property
    def accounts(self) -> frozenset[Account]:
        """The accounts being taken over, or with a signal being worked on or waiting its turn."""
        return frozenset(self._working.values()) | self._taking_over

    @property
    def working(self) -> int:
        """How many signals are being worked on or wait their turn."""
        return len(self._working)

    @property
    def wants_more(self) -> bool:
        """Whether the table has more ready signals than were handed out, and there is room for them."""
        return self._more and len(self._working) <= LOW_WATER

    def items(self, woken: Observable[Hint]) -> Observable[Item]:
        """Turn wakes into accounts to take over and signals to execute, in the table's order."""
        return woken.pipe(gathered(self._claim))

    def release(self, item: Item) -> None:
        """Let a signal come again: what became of it is in the table now."""
        if isinstance(item, Claimed):
            self._working.pop(item.brief.id, None)
        else:
            self._taking_over.discard(item.account)

    def doubt(self, account: Account) -> None:
        """Have an account taken over once more: what became of an order of it was not heard."""
        self._taken_over.pop(account, None)

    def _claim(self, hints: Sequence[Hint]) -> Observable[Item]:
        sweep = any(hint.everything for hint in hints)
        ids = None if sweep else tuple(dict.fromkeys(signal for hint in hints for signal in hint.ids))
        told = next((hint for hint in reversed(hints) if hint.held is not None), None)

        async def items() -> list[Item]:
            untold = [] if told is None else self._untold(told.held or frozenset(), told.held_at)
            return untold if ids == () else untold + await self._looked_up(ids)

        return from_coro(items, name="claim").pipe(ops.flat_map(_each))

    async def _looked_up(self, ids: tuple[UUID, ...] | None) -> list[Item]:
        """Look at the table once; whatever comes of it, the next look is as good as this one."""
        asked_at = self._clock.monotonic()  # of what is traded from now on, the answer may know nothing
        items: list[Item] = []
        try:
            found = await self._store.claim(ids)
            items += self._admit_once(found, asked_at)
            self._more = found.more or (self._more and ids is not None)  # only a whole look can say that all are out
            for pause in UNSEEN_PAUSES:
                if not found.unseen:
                    break
                await asyncio.sleep(pause)
                found = await self._store.claim(found.unseen)
                items += self._admit_once(found, asked_at)
        except Exception as error:
            if isinstance(error, Dismissed):
                self._taken_over.clear()
            elif not isinstance(error, Transient):
                log.exception("the table could not be looked at")
            self._alarm(error)
        return items

    def _admit_once(self, claim: Claim, read_at: float) -> list[Item]:
        """An account whose taking was answered in vain shows by its signals; its rows come before them all the same."""
        untold = (brief.account for brief in claim.briefs if brief.account not in self._taken_over)
        items = self._take_over(dict.fromkeys((*claim.taken, *untold)))
        for brief in claim.briefs:
            if brief.id not in self._working:
                self._working[brief.id] = brief.account
                items.append(Claimed(brief, read_at))
        return items

    def _untold(self, held: frozenset[Account], asked_at: float) -> list[Item]:
        """The accounts that the heartbeat says are held, and of whose taking no answer told.

        A heartbeat asked before a claim was answered may know nothing of what the claim took.
        """
        known = self._taken_over.items()
        self._taken_over = {account: at for account, at in known if account in held or at >= asked_at}
        return self._take_over(held.difference(self._taken_over))

    def _take_over(self, accounts: Iterable[Account]) -> list[Item]:
        taken = list(accounts)
        self._taken_over |= dict.fromkeys(taken, self._clock.monotonic())
        self._taking_over.update(taken)
        return [Takeover(account) for account in taken]


def _each(items: list[Item]) -> Observable[Item]:
    return rx.from_iterable(items)


def account_of(item: Item) -> Account:
    """Whose turn an item takes."""
    return item.account if isinstance(item, Takeover) else item.brief.account
