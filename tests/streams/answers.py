"""What a venue may answer of an order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from streams.domain.order import ENDED, Fill, Order, OrderReport
from streams.domain.reconcile import UNSURE
from tests.domain import specimens

Answer = Callable[[Order], OrderReport]


def filled(order: Order) -> OrderReport:
    """All that was left, at 100."""
    return _traded(order, "filled", order.remaining)


def at_100(order: Order) -> OrderReport:
    """As a market at 100 makes of it: an order whose price is there is filled, another one rests or expires."""
    if order.status in ENDED:
        return OrderReport(order.status, f"venue-{order.id}", known_fills=order.fills)
    if order.stop_price is not None:
        return resting(order)
    if order.price is None or order.price >= 100:
        return filled(order)
    return _unfilled(order, "expired") if order.time_in_force == "IOC" else resting(order)


def cancelled_at_100(order: Order) -> OrderReport:
    """Cancelled, unless it has ended already."""
    return _unfilled(order, "cancelled") if order.status not in ENDED else at_100(order)


def _unfilled(order: Order, status: str) -> OrderReport:
    bare = not order.filled_quantity
    return OrderReport(
        status,
        f"venue-{order.id}",
        failure_code="entry_not_filled" if bare else None,
        failure_reason="The exchange ended the order without a fill." if bare else None,
        known_fills=order.fills,
    )


def resting(order: Order) -> OrderReport:
    """Nothing new: the order rests as it is."""
    status = "submitted" if order.status in UNSURE else order.status
    return OrderReport(status, f"venue-{order.id}", known_fills=order.fills)


def partly(order: Order) -> OrderReport:
    """A tenth of a BTC more, at 100."""
    return _traded(order, "partially_filled", Decimal("0.1"))


def parts(*quantities: str) -> Answer:
    """Fills of these quantities of BTC at 100, by whoever believes what the order says of itself."""

    def answer(order: Order) -> OrderReport:
        wanted = [Decimal(quantity) for quantity in quantities]
        return _traded(order, "filled" if sum(wanted) >= order.remaining else "partially_filled", *wanted)

    return answer


def cancelled(order: Order) -> OrderReport:
    """Cancelled, with nothing more filled."""
    return OrderReport("cancelled", f"venue-{order.id}", known_fills=order.fills)


def _traded(order: Order, status: str, *quantities: Decimal) -> OrderReport:
    fills: list[Fill] = []
    for number, quantity in enumerate(quantities, start=order.fills + 1):
        value = quantity * 100
        fee = value / 1000
        fills.append(Fill(f"{order.id}-{number}", Decimal(100), quantity, value, fee, "USDT", fee, specimens.NOON))
    return OrderReport(status, f"venue-{order.id}", tuple(fills), known_fills=order.fills)
