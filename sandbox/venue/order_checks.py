"""What an order must be to be taken, and what it takes from its account."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.venue import filters
from sandbox.venue.accounts import Account
from sandbox.venue.book_walk import cost_of, quantity_for, reachable
from sandbox.venue.fixed_point import E8, times
from sandbox.venue.ledger import Ledger
from sandbox.venue.market import Market
from sandbox.venue.orders import Terms
from sandbox.venue.refusal import filter_failure, order_rejected
from sandbox.venue.triggers import reached

__all__ = ["INSUFFICIENT", "check_price", "examine", "need", "paid_asset", "quantity_of"]

INSUFFICIENT = "Account has insufficient balance for requested action."


def examine(
    ledger: Ledger, account: Account, market: Market, orders: Sequence[Terms], *, unsized: Sequence[Terms] = ()
) -> None:
    """Checks one order, or all of a list, against filters and ids; of `unsized` the quantity comes later.

    Raises VenueError.
    """
    if not market.instrument.trading:
        raise order_rejected("Market is closed.")
    for terms in orders:
        filters.check(terms, market, quantity_known=not any(terms is each for each in unsized))
    open_orders = ledger.open_orders(account, market.instrument.symbol)
    open_lists = len({order.order_list.id for order in open_orders if order.order_list})
    filters.check_counts(open_orders, orders, open_lists=open_lists if len(orders) > 1 else None)
    used = {order.terms.client_order_id for order in open_orders}
    ids = [terms.client_order_id for terms in orders]
    if used.intersection(ids) or len(set(ids)) < len(ids):
        raise order_rejected("Duplicate order sent.")


def check_price(market: Market, terms: Terms) -> None:
    """Raises VenueError for a maker that would take, and for a stop that is reached already."""
    if terms.type == "LIMIT_MAKER":
        top = market.top()
        if (terms.price >= top.ask > 0) if terms.buys else (terms.price <= top.bid):
            raise order_rejected("Order would immediately match and take.")
    if terms.conditional and not terms.trailing_delta and reached(terms, market.last_trade().price):
        raise order_rejected("Order would trigger immediately.")


def quantity_of(market: Market, terms: Terms) -> E8:
    """What is ordered; of a market order by value, what that comes to. Raises VenueError where it is nothing."""
    if terms.quantity:
        return terms.quantity
    book = market.book()
    levels = book.asks if terms.buys else book.bids
    if not levels:
        raise order_rejected("Order book liquidity is less than symbol minimum quantity.")
    quantity = quantity_for(levels, terms.quote_quantity, market.instrument.step)
    if not quantity:
        raise filter_failure("LOT_SIZE")
    return quantity


def paid_asset(market: Market, terms: Terms) -> str:
    return market.instrument.quote if terms.buys else market.instrument.base


def need(market: Market, terms: Terms, quantity: E8) -> E8:
    """How much of it must be set aside for the order."""
    if not terms.buys:
        return quantity
    if terms.type == "MARKET":
        return cost_of(reachable(market.book().asks, None, quantity, {}, buys=True))
    return times(terms.price or terms.stop_price or market.last_trade().price, quantity)
