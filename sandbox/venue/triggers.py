"""When a conditional order begins to work (binance-spot-api-docs, faqs/trailing-stop-faq.md)."""

from __future__ import annotations

from sandbox.venue.fixed_point import E8
from sandbox.venue.orders import Order, Terms

__all__ = ["begin_trailing", "reached", "triggered"]

_WHOLE = 10_000  # a trailing delta is in basis points


def reached(terms: Terms, last: E8) -> bool:
    """Whether the last price is at the stop price or beyond it."""
    from_below = terms.buys == terms.type.startswith("STOP_LOSS")
    return last >= terms.stop_price if from_below else last <= terms.stop_price


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
