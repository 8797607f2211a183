"""What happens to an order in its life, each with its news to the ledger and to the account's listeners."""

from __future__ import annotations

from sandbox.venue.clock import VenueClock
from sandbox.venue.fixed_point import E8, times
from sandbox.venue.ledger import Ledger
from sandbox.venue.order_count import OrderCount
from sandbox.venue.orders import Order, OrderList
from sandbox.venue.settlement import Settlement
from sandbox.venue.user_events import UserEvents

__all__ = ["Executions"]


class Executions:
    """Opens, fills, expires and cancels orders, and ends what depends on them.

    `released` are the lists whose working order has filled; the orders that waited for it are to be placed.
    """

    def __init__(
        self, clock: VenueClock, ledger: Ledger, events: UserEvents, counts: OrderCount, settlement: Settlement
    ) -> None:
        self.released: list[OrderList] = []
        self._clock = clock
        self._ledger = ledger
        self._events = events
        self._counts = counts
        self._settlement = settlement

    def trigger(self, order: Order) -> None:
        """Lets a conditional order begin to work."""
        order.working_ms = order.updated_ms = self._clock.now_ms()
        self._exclude_sibling(order)
        self._relock(order)
        self._ledger.note(order)
        self._events.execution(order, "NEW")

    def fill(self, order: Order, price: E8, quantity: E8, *, maker: bool) -> bool:
        """One trade; False, and nothing done, where the account cannot pay for it."""
        if not self._settlement.affordable(order, price, quantity):
            return False
        if not order.executed:
            self._exclude_sibling(order)
            self._counts.forgive(order.account.api_key, maker=maker)
        now = self._clock.now_ms()
        fill = self._settlement.settle(
            order, price, quantity, maker=maker, trade_id=self._ledger.next_id("trade"), at_ms=now
        )
        order.executed += quantity
        order.cost += fill.quote_quantity
        order.updated_ms = now
        order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
        self._relock(order)
        self._keep_proceeds(order)
        self._ledger.book(order, fill)
        self._events.execution(order, "TRADE", fill=fill)
        if not order.remaining:
            self.end(order)
        return True

    def expire(self, order: Order, reason: str) -> None:
        """Ends an order for a reason that is the venue's."""
        order.status, order.expiry_reason = "EXPIRED", reason
        order.updated_ms = self._clock.now_ms()
        self._events.execution(order, "EXPIRED")
        self.end(order)

    def cancel(self, order: Order, cancel_id: str) -> None:
        """Ends an order as its owner asks; where a test wants a late fill, its coins stay set aside for that."""
        order.status = "CANCELED"
        order.updated_ms = self._clock.now_ms()
        if order.plan.late is not None and order.order_list is None:
            order.late_at = self._clock.market_ms() + int(order.plan.late * 1000)
        self._events.execution(order, "CANCELED", cancel_id=cancel_id)
        if order.late_at is None:
            self.end(order)
        else:
            self._ledger.note(order)

    def end(self, order: Order) -> None:
        """Lets go of what was set aside for an order that is over, and ends its list with its last order."""
        order.seen, order.taken = None, {}
        order.lock.holders -= 1
        if not order.lock.holders:
            order.account.resize(order.lock, 0)
        self._ledger.note(order)
        orders = order.order_list
        if orders is None:
            return
        if order is orders.working and order.status == "FILLED":
            self.released.append(orders)
        elif order is orders.working and order.status == "EXPIRED":
            for each in orders.pair:
                if each.open:
                    self.expire(each, "OTO_PHASE_ONE_EXPIRED")
        elif order.status == "EXPIRED" and order.expiry_reason != "OCO_TRIGGER":
            self._exclude_sibling(order)
        if not orders.done and not any(each.open for each in orders.orders):
            orders.done, orders.updated_ms = True, self._clock.now_ms()
            if orders.proceeds:
                orders.account.resize(orders.proceeds, 0)
            self._ledger.note_list(orders)
            self._events.list_status(orders)

    def _relock(self, order: Order) -> None:
        """Lets go of what the rest of the order cannot cost."""
        if not order.terms.buys:
            need = order.remaining
        elif order.terms.limit is not None:
            need = times(order.terms.limit, order.remaining)
        else:
            return
        if need < order.lock.amount:
            order.account.resize(order.lock, need)

    def _keep_proceeds(self, order: Order) -> None:
        """Sets aside what the working order of an OPO has received, for the orders that will sell it."""
        orders = order.order_list
        if orders and orders.proceeds and order is orders.working:
            free = order.account.free(order.instrument.base)
            order.account.resize(orders.proceeds, min(order.executed, orders.proceeds.amount + free))
            self._ledger.note_list(orders)

    def _exclude_sibling(self, order: Order) -> None:
        sibling = order.order_list.sibling(order) if order.order_list else None
        if sibling and sibling.open:
            self.expire(sibling, "OCO_TRIGGER")
