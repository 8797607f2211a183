"""How many unfilled orders an account has placed lately (binance-spot-api-docs, faqs/order_count_decrement.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.venue.request_weight import RATE_LIMITS, TooMuch

__all__ = ["OrderCount"]

_LIMITS = tuple(limit for limit in RATE_LIMITS if limit["rateLimitType"] == "ORDERS")
_INTERVAL_MS = {"SECOND": 1000, "MINUTE": 60_000, "DAY": 86_400_000}
_TOOK, _MADE = 1, 5  # orders forgiven with an order's first trade


class OrderCount:
    """Counts by account and interval of the venue's time."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}

    def charge(self, api_key: str, orders: int) -> None:
        """Counts new orders. Raises TooMuch with 429 and -1015 where they are more than the account may place."""
        now = self._now_ms()
        for limit, period in self._limits():
            if self._count(api_key, period) + orders > limit["limit"]:
                raise TooMuch(
                    429,
                    f"Too many new orders; current limit is {limit['limit']} orders per "
                    f"{limit['intervalNum']} {limit['interval']}.",
                    max(1, -(-(period - now % period) // 1000)),
                    code=-1015,
                )
        self._add(api_key, orders)

    def forgive(self, api_key: str, *, maker: bool) -> None:
        """Counts back for an order that trades for the first time."""
        self._add(api_key, -(_MADE if maker else _TOOK))

    def headers(self, api_key: str) -> dict[str, str]:
        return {
            f"X-MBX-ORDER-COUNT-{limit['intervalNum']}{str(limit['interval'])[0]}": str(self._count(api_key, period))
            for limit, period in self._limits()
        }

    def document(self, api_key: str) -> list[dict[str, Any]]:
        """The counts as rateLimit/order answers them."""
        return [{**limit, "count": self._count(api_key, period)} for limit, period in self._limits()]

    def clear(self) -> None:
        self._counts.clear()

    @staticmethod
    def _limits() -> list[tuple[dict[str, Any], int]]:
        return [(dict(limit), _INTERVAL_MS[str(limit["interval"])] * int(limit["intervalNum"])) for limit in _LIMITS]

    def _count(self, api_key: str, period: int) -> int:
        at, count = self._counts.get((api_key, period), (-1, 0))
        return count if at == self._now_ms() // period else 0

    def _add(self, api_key: str, orders: int) -> None:
        for _, period in self._limits():
            count = max(0, self._count(api_key, period) + orders)
            self._counts[api_key, period] = self._now_ms() // period, count
