"""Paper fills: orders walk the real book; a buy never past its price or what is reserved for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from streams.domain.market import Level
from streams.domain.money import ZERO, exact, floor_to


@dataclass(frozen=True, slots=True)
class Take:
    """A quantity traded at a price; value and fee in quote."""

    price: Decimal
    quantity: Decimal
    value: Decimal
    fee: Decimal


@exact
def walk_bids(bids: Sequence[Level], quantity: Decimal, fee_rate: Decimal) -> tuple[Take, ...]:
    """Sell into the bids at market, best price first, until the quantity or the book ends."""
    takes: list[Take] = []
    wanted = quantity
    for level in bids:
        sold = min(wanted, level.quantity)
        if sold <= ZERO:
            break
        value = level.price * sold
        takes.append(Take(level.price, sold, value, value * fee_rate))
        wanted -= sold
    return tuple(takes)


@exact
def walk(
    asks: Sequence[Level],
    quantity: Decimal,
    limit: Decimal | None,
    reserved: Decimal,
    fee_rate: Decimal,
    step: Decimal,
    resting: bool = False,
) -> tuple[Take, ...]:
    """Take what the asks offer, best price first, until quantity, limit or reservation ends.

    A resting order was there first, so it takes at its own limit what is offered there or below.
    """
    return tuple(_takes(asks, quantity, limit, reserved, fee_rate, step, resting))


def _takes(
    asks: Sequence[Level],
    quantity: Decimal,
    limit: Decimal | None,
    reserved: Decimal,
    fee_rate: Decimal,
    step: Decimal,
    resting: bool,
) -> Iterator[Take]:
    wanted, budget = quantity, reserved
    for level in asks:
        if limit is not None and level.price > limit:
            return
        price = limit if resting and limit is not None else level.price
        affordable = floor_to(budget / (price * (1 + fee_rate)), step)
        taken = min(wanted, level.quantity, affordable)
        if taken <= ZERO:
            return
        value = price * taken
        fee = value * fee_rate
        yield Take(price, taken, value, fee)
        wanted -= taken
        budget -= value + fee
        if wanted <= ZERO:
            return
