"""Looks at a market's orders whenever something could happen to them, and sleeps while nothing can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sandbox.venue.market import Market

__all__ = ["Watch"]


class Watch:
    """Calls `look` when the market moves, when a test changes it, and when `due` says (market time)."""

    def __init__(self, market: Market, look: Callable[[], None], due: Callable[[], int | None]) -> None:
        self._market = market
        self._look = look
        self._due = due
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Watches from now on; to be called again after each look."""
        self._market.listeners.add(self._look)
        self._cancel()
        now = self._market.clock.market_ms()
        moments = [] if self._market.still else [self._market.starts(self._market.slot(now) + 1)]
        due = self._due()
        if due is not None:
            moments.append(due)
        if moments:
            # a timer may go off within the millisecond before the moment
            delay = max(1, min(moments) - now + 1) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def sleep(self) -> None:
        self._market.listeners.discard(self._look)
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
