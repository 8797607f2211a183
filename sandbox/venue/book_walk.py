"""What an order finds in the other side of the book."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sandbox.venue.book import Level
from sandbox.venue.fixed_point import E8, ONE, times

__all__ = ["cost_of", "cut", "quantity_for", "reachable"]


def reachable(
    levels: Iterable[Level], limit: E8 | None, wanted: E8, taken: Mapping[E8, E8], *, buys: bool
) -> list[Level]:
    """The levels an order may trade at, best first, up to what it wants; `taken` is what it had of them before."""
    found: list[Level] = []
    for price, resting in levels:
        if wanted <= 0 or (limit is not None and (price > limit if buys else price < limit)):
            break
        quantity = min(wanted, resting - taken.get(price, 0))
        if quantity > 0:
            found.append((price, quantity))
            wanted -= quantity
    return found


def cut(levels: Iterable[Level], wanted: E8) -> list[Level]:
    """The first of the levels, as many as make up the quantity."""
    return reachable(levels, None, wanted, {}, buys=True)


def cost_of(levels: Iterable[Level]) -> E8:
    return sum(times(price, quantity) for price, quantity in levels)


def quantity_for(levels: Iterable[Level], value: E8, step: E8) -> E8:
    """The most whole steps whose value is not above that."""
    total = 0
    for price, resting in levels:
        affordable = value * ONE // price
        quantity = min(resting, affordable - affordable % step)
        total += quantity
        value -= times(price, quantity)
        if quantity < resting:
            break
    return total
