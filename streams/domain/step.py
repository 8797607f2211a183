"""The steps that can be taken for a position: values that say what to do, and do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from streams.domain.action import Action
from streams.domain.order import Order


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something happens; `until` is when to decide again at the latest (monotonic seconds)."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the venue what became of these orders."""

    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel these protective orders, all of them of one list."""

    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class CancelEntry:
    """Cancel what the entry may still buy."""

    entry: Order


@dataclass(frozen=True, slots=True)
class Protect:
    """Place a stop, a target, or both as one list; `trailing_stop` is where the trailing stop comes to rest by it.

    `instead_of`: what rests, to be cancelled first; nothing is placed unless all of it ended without a fill.
    """

    quantity: Decimal
    stop: Decimal | None
    target: Decimal | None
    trailing_stop: Decimal | None = None
    instead_of: tuple[Order, ...] = ()

    @property
    def is_move(self) -> bool:
        """Whether it only lets a trailing stop follow a price that has risen."""
        return bool(self.instead_of) and self.trailing_stop is not None


@dataclass(frozen=True, slots=True)
class Sell:
    """Sell at market: for a reason, which ends the position, or because an action asked for a part.

    `instead_of`: resting protection to be cancelled first; nothing is sold unless all of it ended without a fill.
    """

    quantity: Decimal
    reason: str | None = None
    action_id: UUID | None = None
    instead_of: tuple[Order, ...] = ()


@dataclass(frozen=True, slots=True)
class Adopt:
    """The entry has ended and all is protected that can be: the position is monitored from here on."""


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing sellable is left and nothing is at work: end it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer an action, and write what it moves."""

    action: Action
    status: str
    message: str | None = None
    stop: Decimal | None = None
    target: Decimal | None = None


Step = Wait | Ask | Cancel | CancelEntry | Protect | Sell | Adopt | Close | Answer
