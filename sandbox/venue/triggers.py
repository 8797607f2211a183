"""When a conditional order begins to work (binance-spot-api-docs, faqs/trailing-stop-faq.md)."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.venue.fixed_point import E8
from sandbox.venue.orders import Order, Terms

__all__ = ["begin_trailing", "calm_between", "reached", "triggered"]

_WHOLE = 10_000  # a trailing delta is in basis points


def reached(terms: Terms, last: E8) -> bool:
    """Whether the last price is at the stop price or beyond it."""
    from_below = terms.buys == terms.type.startswith("STOP_LOSS")
    return last >= terms.stop_price if from_below else last <= terms.stop_price


def calm_between(orders: Sequence[Order]) -> tuple[E8, E8] | None:
    """Between which last prices nothing happens to these orders; None where they do not wait for their stops alone."""
    low, high = -1, 1 << 127
    for order in orders:
        terms = order.terms
        if order.late_at is not None or not order.waits_for_stop or terms.trailing_delta:
            return None
        if terms.buys == terms.type.startswith("STOP_LOSS"):
            high = min(high, terms.stop_price)
        else:
            low = max(low, terms.stop_price)
    return low, high


def begin_trailing(order: Order, last: E8, now_ms: int) -> None:
    """Starts to follow the price where the order trails it and its stop price, if any, is reached."""
    terms = order.terms
    if terms.trailing_delta and not order.extreme and (not terms.stop_price or reached(terms, last)):
        order.extreme, order.trailing_ms = last, now_ms


def triggered(order: Order, last: E8, now_ms: int) -> bool:
    """Whether the order begins to work at that price."""
    terms = order.terms
    if not terms.trailing_delta:
        return reached(terms, last)
    begin_trailing(order, last, now_ms)
    if not order.extreme:
        return False
    if terms.buys:
        order.extreme = min(order.extreme, last)
        return last * _WHOLE >= order.extreme * (_WHOLE + terms.trailing_delta)
    order.extreme = max(order.extreme, last)
    return last * _WHOLE <= order.extreme * (_WHOLE - terms.trailing_delta)
