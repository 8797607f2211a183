"""Exact amounts: Decimal at 60 digits, steps and ticks, averages as the database rounds them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
AVERAGE_PLACES = Decimal("1e-18")
SMALLEST, LARGEST = Decimal("1e-18"), Decimal("1e15")
"""No market has prices beyond these; what is written beyond them is a mistake, and would not fit 60 digits."""
HUNDRED = Decimal(100)
ZERO = Decimal(0)


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Compute a whole function at 60 digits, whatever the caller's decimal context is."""

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return computed


def text(amount: Decimal) -> str:
    """Write an amount as plain digits, as it crosses the wire: no exponent, no trailing zeros."""
    written = format(amount, "f")
    if "." in written:
        written = written.rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


@exact
def floor_to(amount: Decimal, step: Decimal) -> Decimal:
    """Round down to a multiple of the step (a step of zero leaves the amount alone)."""
    if step <= 0:
        return amount
    return (amount / step).to_integral_value(ROUND_FLOOR) * step


@exact
def ceil_to(amount: Decimal, step: Decimal) -> Decimal:
    """Round up to a multiple of the step (a step of zero leaves the amount alone)."""
    if step <= 0:
        return amount
    return (amount / step).to_integral_value(ROUND_CEILING) * step


@exact
def average(value: Decimal, quantity: Decimal) -> Decimal:
    """Value per unit, rounded half-even to 18 places, as the database does it."""
    return (value / quantity).quantize(AVERAGE_PLACES)


@exact
def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    """So many percent of an amount."""
    return amount * percent / HUNDRED


@exact
def raised_by(amount: Decimal, percent: Decimal) -> Decimal:
    """An amount raised by so many percent; a negative percentage lowers it."""
    return amount + amount * percent / HUNDRED
