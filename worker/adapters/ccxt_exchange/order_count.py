"""How many orders each account sent of late: Binance takes 100 in 10 s from one (exchangeInfo, rateLimits ORDERS)."""

from __future__ import annotations

from collections import deque

from streams.domain.account import Account
from streams.domain.errors import Transient
from streams.ports import Clock

WINDOW_SECONDS = 10.0
MOST_ENTRIES = 80
"""Beyond these only exits and protection are sent: they are never kept waiting by entries."""


class OrderCount:
    """Counts what was sent; what was sent longer ago than the window is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[Account, deque[float]] = {}

    def note(self, account: Account) -> None:
        """An order of the account's is sent now."""
        self._recent(account).append(self._clock.monotonic())

    def check_room(self, account: Account) -> None:
        """Raises Transient where an entry has to wait for the window to move on."""
        recent = self._recent(account)
        if len(recent) >= MOST_ENTRIES:
            left = recent[0] + WINDOW_SECONDS - self._clock.monotonic()
            raise Transient(f"the account sent {len(recent)} orders in {WINDOW_SECONDS:.0f} s; room in {left:.1f} s")

    def _recent(self, account: Account) -> deque[float]:
        sent = self._sent.setdefault(account, deque(maxlen=2 * MOST_ENTRIES))
        while sent and sent[0] <= self._clock.monotonic() - WINDOW_SECONDS:
            sent.popleft()
        return sent
