"""What may be asked of the venue now: one budget for the whole process, since Binance counts an address, not a key.

From binance-spot-api-docs, LIMITS: each answer tells the weight used in the running minute (X-MBX-USED-WEIGHT-1M);
past the limit come 429 and, for going on, 418, both with Retry-After.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from enum import Enum

from streams.domain.errors import Transient
from streams.ports import Clock

WEIGHT_PER_MINUTE = 6000
USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
PAUSE_STATUSES = (418, 429)
OWN_LIMIT = "-1015"
"""Too many orders of one account, told with 429 as well: no reason for the others to be quiet."""
UNTOLD_PAUSE_SECONDS = 60.0
MINUTE_MS = 60_000


class Urgency(Enum):
    """How much of a minute's weight may be gone before a request has to wait.

    Protection and exits always find room: what is cancelled for them leaves them some, and entries wait long before.
    """

    ORDER = 1.0
    CANCEL = 0.98
    QUESTION = 0.9
    ENTRY = 0.8
    MARKET = 0.75


class RequestBudget:
    """Counts what is on its way with what the venue told last; keeps silent while it asked for a pause."""

    def __init__(self, clock: Clock, venue_ms: Callable[[], int]) -> None:
        self._clock = clock
        self._venue_ms = venue_ms
        self._told = 0
        self._minute = 0
        self._on_its_way = 0
        self._closed_until = 0.0

    @property
    def used(self) -> int:
        """The weight of this minute, of the venue's clock, that is gone or on its way."""
        return self._on_its_way + (self._told if self._venue_ms() // MINUTE_MS == self._minute else 0)

    def check_room(self, weight: int, urgency: Urgency) -> None:
        """Raises Transient where a request of this weight would have to wait."""
        wait = self._closed_until - self._clock.monotonic()
        if wait > 0:
            raise Transient(f"the exchange asked for a pause; {wait:.0f} s are left")
        if self.used + weight > WEIGHT_PER_MINUTE * urgency.value:
            left = (MINUTE_MS - self._venue_ms() % MINUTE_MS) / 1000
            raise Transient(f"this minute's requests to the exchange are used up; {left:.0f} s are left of it")

    @contextmanager
    def spending(self, weight: int, urgency: Urgency) -> Generator[None]:
        """Send a request of this weight inside. Raises Transient, and nothing is sent, where there is no room."""
        self.check_room(weight, urgency)
        self._on_its_way += weight
        try:
            yield
        finally:
            self._on_its_way -= weight

    def answered(self, status: int, headers: Mapping[str, str], code: str | None) -> None:
        """Take in what an answer says of the limits."""
        told = headers.get(USED_WEIGHT, "")
        if told.isdigit():
            self._told, self._minute = int(told), self._venue_ms() // MINUTE_MS
        if status in PAUSE_STATUSES and code != OWN_LIMIT:
            said = headers.get("Retry-After", "")
            pause = float(said) if said.isdigit() else UNTOLD_PAUSE_SECONDS
            self._closed_until = max(self._closed_until, self._clock.monotonic() + pause)
