"""Exact amounts as whole numbers of 1e-8, the finest unit Binance shows; quick to add up and to print."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

__all__ = ["E8", "ONE", "decimal", "exact", "plain", "text", "times"]

E8 = int
"""An amount in units of 1e-8."""

ONE: E8 = 10**8
_LARGEST = Decimal(10) ** 20


def text(amount: E8) -> str:
    """The amount with eight decimals, as Binance writes it; not for negative amounts."""
    whole, rest = divmod(amount, ONE)
    return f"{whole}.{rest:08d}"


def decimal(amount: E8) -> Decimal:
    """The amount as an exact Decimal."""
    return Decimal(amount).scaleb(-8)


def plain(amount: E8) -> str:
    """The amount without needless zeros."""
    return f"{decimal(amount).normalize():f}"


def times(price: E8, quantity: E8) -> E8:
    """Their product, cut off after eight decimals."""
    return price * quantity // ONE


def exact(amount: str | Decimal) -> E8:
    """The amount as a whole number of 1e-8. Raises ValueError for what is no plain amount at or above zero."""
    try:
        value = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f"{amount!r} is not a number; write an amount as text, such as '0.25'") from None
    if not value.is_finite() or not 0 <= value < _LARGEST:
        raise ValueError(f"{amount} is out of range; an amount is at least 0")
    scaled = value.scaleb(8)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} has more than 8 decimals")
    return int(scaled)
