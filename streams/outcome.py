"""What became of a signal or an order: values, so that no stream ever ends by an error."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from streams.domain.account import Account
from streams.domain.order import Order
from streams.domain.position import Position
from streams.domain.risk import Protection


@dataclass(frozen=True, slots=True)
class Opened:
    """A position holds coins; the order behind it may still be working.

    `found`: it was open already, and a start or a takeover names it to the consumers of this process. `entry` is its
    entry order, where that was at hand.
    """

    position: Position
    found: bool = False
    entry: Order | None = None


@dataclass(frozen=True, slots=True)
class Resting:
    """The venue has the order and it has not ended: the tracker follows it. `age` is seconds since admission."""

    order: Order
    signal_id: UUID
    protection: Protection
    age: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The entry came to nothing, and its rows say why."""

    position: Position


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A rule refused the signal, and its row says why."""

    signal_id: UUID
    account: Account
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The signal was not settled now; for as long as its row is ready, the next sweep brings it again."""

    signal_id: UUID
    account: Account
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """Somebody else has the work, or it is no more."""

    signal_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Admitted, and then something went wrong: recovery settles it from the rows.

    `unheard`: a report was sent to the store and its answer never came, so the rows may know more than was named.
    """

    order_id: UUID
    account: Account
    reason: str
    unheard: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The entry of an open position bought more, or has ended."""

    position: Position


@dataclass(frozen=True, slots=True)
class Monitored:
    """A position was adopted: its entry has ended, and what can be protected is."""

    position: Position


@dataclass(frozen=True, slots=True)
class Closed:
    """A position has ended, and its profit is on its row."""

    position: Position


Outcome = Opened | Changed | Monitored | Closed | Resting | Failed | TurnedAway | Deferred | Dropped | InDoubt
