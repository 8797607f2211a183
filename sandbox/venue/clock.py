"""The venue's time, which a test may set off from everybody else's."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["VenueClock", "unix_ms"]


def unix_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class VenueClock:
    """Two times in milliseconds: `market_ms`, by which prices move, and `now_ms`, which the venue shows.

    They differ by `offset_ms` alone, so that setting the venue's clock moves no price.
    """

    def __init__(self, source: Callable[[], int] = unix_ms) -> None:
        self._source = source
        self.offset_ms = 0

    def market_ms(self) -> int:
        return self._source()

    def now_ms(self) -> int:
        return self._source() + self.offset_ms
