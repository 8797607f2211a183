"""A position as whoever holds it sees it, and what that one remembers beside the rows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.domain.action import Action
from streams.domain.order import ENDED, Order
from streams.domain.position import Position

PROTECTION = frozenset({"stop_loss", "take_profit"})


@dataclass(frozen=True, slots=True)
class Held:
    """A position as its holder sees it: its entry, the sells at work, how many there ever were, what is asked of it.

    `last_sale`: the order that sold some of it last.
    """

    position: Position
    entry: Order
    orders: tuple[Order, ...] = ()
    attempts: int = 0
    actions: tuple[Action, ...] = ()
    last_sale: Order | None = None

    @property
    def entry_works(self) -> bool:
        """Whether the entry may still buy."""
        return self.entry.status not in ENDED

    @property
    def one_of_each_list(self) -> tuple[Order, ...]:
        """An order of each list, and those of none: what befalls one leg of a list ends the other."""
        first: dict[object, Order] = {}
        for order in self.orders:
            first.setdefault(order.list_client_order_id or order.id, order)
        return tuple(first.values())

    @property
    def guards(self) -> tuple[Order, ...]:
        """The protective orders at work."""
        return tuple(order for order in self.orders if order.purpose in PROTECTION)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the rows do not say: the highest bid since the entry, and since when things stand as they do.

    `trailed`: the price was at the trailing stop. `through_since`: since when (monotonic seconds) the price is through
    what rests. `partly_since`: since when a protective order is filled in part. `unprotectable`: why no protective
    order can be placed. `lost`: the coins are gone, or the venue was reset.
    """

    peak: Decimal | None = None
    trailed: bool = False
    through_since: float | None = None
    partly_since: float | None = None
    unprotectable: str | None = None
    lost: bool = False
