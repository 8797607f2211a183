"""Candles and rolling statistics of a market, computed from its price path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sandbox.venue.fixed_point import E8, ONE, decimal
from sandbox.venue.market import Market

__all__ = ["INTERVALS", "Candle", "DayStatistics", "candle_at", "candles", "day_statistics", "next_open", "opens"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
INTERVALS = {
    "1s": 1000,
    "1m": _MINUTE,
    "3m": 3 * _MINUTE,
    "5m": 5 * _MINUTE,
    "15m": 15 * _MINUTE,
    "30m": 30 * _MINUTE,
    "1h": _HOUR,
    "2h": 2 * _HOUR,
    "4h": 4 * _HOUR,
    "6h": 6 * _HOUR,
    "8h": 8 * _HOUR,
    "12h": 12 * _HOUR,
    "1d": _DAY,
    "3d": 3 * _DAY,
    "1w": 7 * _DAY,
    "1M": 30 * _DAY,
}
"""Binance's intervals and their length in milliseconds; a month's is its usual one."""

_FIRST_MONDAY = 4 * _DAY
_POINTS = 6
_DAY_POINT = 2 * _HOUR


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle; `open_ms` and `close_ms` in venue time, the last millisecond included."""

    open_ms: int
    close_ms: int
    open: E8
    high: E8
    low: E8
    close: E8
    volume: E8
    quote_volume: E8
    first_id: int
    last_id: int
    count: int
    closed: bool


@dataclass(frozen=True, slots=True)
class DayStatistics:
    """The 24 hours just past; times in venue time."""

    open: E8
    high: E8
    low: E8
    last: E8
    last_quantity: E8
    average: E8
    volume: E8
    quote_volume: E8
    open_ms: int
    close_ms: int
    first_id: int
    last_id: int
    count: int

    @property
    def change(self) -> str:
        """From open to last, signed."""
        return f"{decimal(self.last - self.open):.8f}"

    @property
    def change_percent(self) -> str:
        """From open to last in percent of the open, to three decimals."""
        return f"{Decimal(100 * (self.last - self.open)) / self.open:.3f}"


def opens(interval: str, moment: int) -> int:
    """When the candle that holds the moment opened."""
    if interval == "1M":
        month = datetime.fromtimestamp(moment / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return int(month.timestamp()) * 1000
    length = INTERVALS[interval]
    shift = _FIRST_MONDAY if interval == "1w" else 0
    return moment - (moment - shift) % length


def next_open(interval: str, opened: int) -> int:
    """When the candle after the one opened then opens."""
    if interval == "1M":
        return opens(interval, opened + 32 * _DAY)
    return opened + INTERVALS[interval]


def candles(
    market: Market, interval: str, *, start: int | None, end: int | None, limit: int, zone_ms: int = 0
) -> list[Candle]:
    """Candles that open in [start, end], oldest first: from `start` on, else the newest up to `end`."""
    now = market.clock.now_ms()
    newest = opens(interval, min(now, now if end is None else end) + zone_ms)
    if start is None:
        first = newest
        for _ in range(limit - 1):
            first = opens(interval, first - 1)
    else:
        first = opens(interval, max(0, start) + zone_ms)
        if first < start + zone_ms:
            first = next_open(interval, first)
    found: list[Candle] = []
    while first <= newest and len(found) < limit:
        found.append(candle_at(market, interval, first, zone_ms=zone_ms))
        first = next_open(interval, first)
    return found


def candle_at(market: Market, interval: str, opened: int, *, zone_ms: int = 0) -> Candle:
    """The candle that opens then; both in the zone's local time."""
    offset = market.clock.offset_ms + zone_ms
    start, end = opened - offset, next_open(interval, opened) - offset
    now = market.clock.market_ms()
    until = min(end, now)
    # high and low are those of a few points and of every price set in between
    points = [start + (until - start) * number // _POINTS for number in range(_POINTS + 1)]
    prices = [market.price(point) for point in points]
    prices += [market.price(point) for point in market.holds_between(start, until)]
    close = prices[_POINTS] if end <= now else market.last_trade().price
    prices.append(close)
    average = (min(prices) + max(prices)) // 2
    volume = market.volume(start, until)
    first_id, last_id, count = market.trade_count(start, until)
    return Candle(
        open_ms=opened - zone_ms,
        close_ms=end + market.clock.offset_ms - 1,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=close,
        volume=volume,
        quote_volume=volume * average // ONE,
        first_id=first_id,
        last_id=last_id,
        count=count,
        closed=end <= now,
    )


def day_statistics(market: Market) -> DayStatistics:
    """The rolling 24 hours up to now."""
    now = market.clock.market_ms()
    start = now - _DAY
    last = market.last_trade()
    opened = market.price(start)
    low, high = _even_hours(market, now // _DAY_POINT)
    seen = [opened, last.price, low, high, *(market.price(at) for at in market.holds_between(start, now))]
    volume = market.volume(start // _DAY_POINT * _DAY_POINT, now)
    average = (min(seen) + max(seen)) // 2
    first_id, last_id, count = market.trade_count(start, now)
    return DayStatistics(
        open=opened,
        high=max(seen),
        low=min(seen),
        last=last.price,
        last_quantity=last.quantity,
        average=average,
        volume=volume,
        quote_volume=volume * average // ONE,
        open_ms=start + market.clock.offset_ms,
        close_ms=now + market.clock.offset_ms,
        first_id=first_id,
        last_id=max(last_id, last.id),
        count=count,
    )


def _even_hours(market: Market, until: int) -> tuple[E8, E8]:
    """Lowest and highest price of the twelve even hours up to that one, remembered while it lasts."""
    if market.day_range is None or market.day_range[0] != until:
        prices = [market.price((until - number) * _DAY_POINT) for number in range(12)]
        market.day_range = until, min(prices), max(prices)
    return market.day_range[1:]
