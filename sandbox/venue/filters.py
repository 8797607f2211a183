"""The rules of a symbol that an order must keep (binance-spot-api-docs, filters.md)."""

from __future__ import annotations

from collections.abc import Collection

from sandbox.venue.fixed_point import E8, exact, times
from sandbox.venue.instrument import (
    MAX_ALGO_ORDERS,
    MAX_ORDER_LISTS,
    MAX_ORDERS,
    MULTIPLIER_DOWN,
    MULTIPLIER_UP,
    TRAILING_DELTAS,
    Instrument,
)
from sandbox.venue.market import Market
from sandbox.venue.orders import Order, Terms
from sandbox.venue.refusal import filter_failure

__all__ = ["check", "check_counts"]

_AVERAGE_MS = 5 * 60_000
_UP, _DOWN = exact(MULTIPLIER_UP), exact(MULTIPLIER_DOWN)
_AT_MARKET = frozenset({"MARKET", "STOP_LOSS", "TAKE_PROFIT"})


def check(terms: Terms, market: Market, *, quantity_known: bool = True) -> None:
    """Raises VenueError with -1013 and the name of the filter that the order fails.

    `quantity_known` is False for an order that sells what another will have bought.
    """
    instrument = market.instrument
    for price in (terms.price, terms.stop_price):
        if price and (price < instrument.tick or price > instrument.max_price or price % instrument.tick):
            raise filter_failure("PRICE_FILTER")
    if terms.trailing_delta and not TRAILING_DELTAS[0] <= terms.trailing_delta <= TRAILING_DELTAS[1]:
        raise filter_failure("TRAILING_DELTA")
    if terms.price:
        average = market.average(_AVERAGE_MS)
        if not times(average, _DOWN) <= terms.price <= times(average, _UP):
            raise filter_failure("PERCENT_PRICE_BY_SIDE")
    if not quantity_known:
        return
    if not terms.quote_quantity:
        _check_lots(terms, instrument)
    _check_notional(terms, market)


def check_counts(open_orders: Collection[Order], added: Collection[Terms], *, open_lists: int | None = None) -> None:
    """Whether an account may have these orders more, on the symbol of those it has open; `open_lists` where they
    come as a list."""
    if len(open_orders) + len(added) > MAX_ORDERS:
        raise filter_failure("MAX_NUM_ORDERS")
    conditional = sum(terms.conditional for terms in added)
    if conditional and conditional + sum(order.terms.conditional for order in open_orders) > MAX_ALGO_ORDERS:
        raise filter_failure("MAX_NUM_ALGO_ORDERS")
    if open_lists is not None and open_lists >= MAX_ORDER_LISTS:
        raise filter_failure("MAX_NUM_ORDER_LISTS")


def _check_lots(terms: Terms, instrument: Instrument) -> None:
    step = instrument.step
    for quantity in (terms.quantity, terms.iceberg_quantity):
        if quantity and (quantity < step or quantity > instrument.max_quantity or quantity % step):
            raise filter_failure("LOT_SIZE")
    if terms.type in _AT_MARKET and terms.quantity > instrument.market_max_quantity:
        raise filter_failure("MARKET_LOT_SIZE")


def _check_notional(terms: Terms, market: Market) -> None:
    instrument = market.instrument
    value: E8 = terms.quote_quantity
    if not value:
        price = terms.price or terms.stop_price or market.average(_AVERAGE_MS)
        value = times(price, terms.quantity)
    if value < instrument.min_notional:
        raise filter_failure("NOTIONAL")
    if terms.type != "MARKET" and value > instrument.max_notional:
        raise filter_failure("NOTIONAL")
