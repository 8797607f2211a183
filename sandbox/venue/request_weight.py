"""Request limits by address: so much weight a minute, then 429, then a ban (binance-spot-api-docs, LIMITS)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from sandbox.venue.refusal import VenueError

__all__ = [
    "RATE_LIMITS",
    "WEIGHT_PER_MINUTE",
    "RequestWeight",
    "TooMuch",
    "flat",
    "weigh_day_tickers",
    "weigh_depth",
    "weigh_prices",
]

WEIGHT_PER_MINUTE = 6000
RATE_LIMITS = (
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": WEIGHT_PER_MINUTE},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
)
_MINUTE_MS = 60_000
_PATIENCE = 20  # requests answered 429 within a minute before an address is banned
_FIRST_BAN_MS = 120_000
_LONGEST_BAN_MS = 3 * 24 * 3_600_000
_CONNECTIONS = 300
_CONNECTIONS_MS = 300_000


class TooMuch(VenueError):
    """Refused for asking too much; `retry_after` in seconds."""

    def __init__(self, status: int, message: str, retry_after: int, code: int = -1003) -> None:
        super().__init__(code, message, status)
        self.retry_after = retry_after

    def response(self) -> web.Response:
        response = super().response()
        response.headers["Retry-After"] = str(self.retry_after)
        return response


@dataclass
class _Address:
    minute: int = -1
    used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until: int = 0
    connections: deque[int] = field(default_factory=lambda: deque[int]())


class RequestWeight:
    """Keeps the weight each address has used in the running minute of the venue's time."""

    def __init__(self, now_ms: Callable[[], int], limit: int = WEIGHT_PER_MINUTE) -> None:
        self._now_ms = now_ms
        self._limit = limit
        self._addresses: dict[str, _Address] = {}

    def used(self, address: str) -> int:
        """What that address has used in this minute."""
        known = self._addresses.get(address)
        return known.used if known and known.minute == self._now_ms() // _MINUTE_MS else 0

    def show(self, address: str, headers: CIMultiDict[str]) -> None:
        """Writes what that address has used into the headers of an answer."""
        used = str(self.used(address))
        headers["X-MBX-USED-WEIGHT"] = used
        headers["X-MBX-USED-WEIGHT-1M"] = used

    def charge(self, address: str, weight: int) -> None:
        """Books the weight. Raises TooMuch with 429 past the limit, with 418 while banned for going on."""
        now = self._now_ms()
        known = self._addresses.setdefault(address, _Address())
        if now < known.banned_until:
            raise self._ban(known, now)
        if known.minute != now // _MINUTE_MS:
            known.minute, known.used, known.refused = now // _MINUTE_MS, 0, 0
        known.used += weight
        if known.used <= self._limit:
            return
        known.refused += 1
        if known.refused > _PATIENCE:
            known.banned_until = now + min(_FIRST_BAN_MS << min(known.bans, 20), _LONGEST_BAN_MS)
            known.bans += 1
            raise self._ban(known, now)
        raise TooMuch(
            429,
            f"Too much request weight used; current limit is {self._limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API.",
            _seconds(_MINUTE_MS - now % _MINUTE_MS),
        )

    def connect(self, address: str) -> None:
        """Books a websocket connection: 300 in five minutes. Raises TooMuch with 429 past that."""
        now = self._now_ms()
        opened = self._addresses.setdefault(address, _Address()).connections
        while opened and not now - _CONNECTIONS_MS < opened[0] <= now:
            opened.popleft()
        if len(opened) >= _CONNECTIONS:
            message = f"Too many connection attempts from IP; current limit is {_CONNECTIONS} per '5 MINUTES'."
            raise TooMuch(429, message, _seconds(opened[0] + _CONNECTIONS_MS - now))
        opened.append(now)

    def forgive(self) -> None:
        """Forgets every address."""
        self._addresses.clear()

    @staticmethod
    def _ban(known: _Address, now: int) -> TooMuch:
        return TooMuch(
            418,
            f"Way too much request weight used; IP banned until {known.banned_until}. "
            "Please use WebSocket Streams for live updates to avoid bans.",
            _seconds(known.banned_until - now),
        )


def _seconds(milliseconds: int) -> int:
    return max(1, -(-milliseconds // 1000))


def flat(weight: int) -> Callable[[MultiMapping[str]], int]:
    """The same weight for every query."""

    def weigh(query: MultiMapping[str]) -> int:
        del query
        return weight

    return weigh


def weigh_depth(query: MultiMapping[str]) -> int:
    """By the number of levels asked for; 100 where the query does not say."""
    sent = query.get("limit", "")
    limit = int(sent) if sent.isdecimal() and len(sent) < 20 else 100
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


def weigh_prices(query: MultiMapping[str]) -> int:
    """Of price and book tickers: one symbol, or more."""
    return 2 if "symbol" in query else 4


def weigh_day_tickers(query: MultiMapping[str]) -> int:
    """Of 24 hour tickers, by the number of symbols."""
    if "symbol" in query:
        return 2
    if "symbols" not in query:
        return 80
    count = query["symbols"].count(",") + 1
    return 2 if count <= 20 else 40 if count <= 100 else 80
