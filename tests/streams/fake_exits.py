"""What the store in memory makes of exits: intents, the coins they promise, closes and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from streams.domain.action import Action
from streams.domain.errors import Broken
from streams.domain.held import Held
from streams.domain.money import ZERO
from streams.domain.order import ENDED, MOVES, Order, OrderReport
from streams.domain.position import Position
from streams.domain.step import Answer
from streams.ports import ExitPlan, Prepared


@dataclass
class Exits:
    """Sells of positions that somebody else keeps, and what is asked of those."""

    positions: dict[UUID, Position]
    entry_of: Callable[[UUID], Order]
    now_ms: Callable[[], int]
    orders: dict[UUID, Order] = field(default_factory=dict[UUID, Order])
    trade_ids: dict[UUID, set[str]] = field(default_factory=dict[UUID, set[str]])
    values: dict[UUID, Decimal] = field(default_factory=dict[UUID, Decimal])
    actions: list[Action] = field(default_factory=list[Action])
    answers: list[Answer] = field(default_factory=list[Answer])
    last_sale: dict[UUID, UUID] = field(default_factory=dict[UUID, UUID])

    def held(self, position_id: UUID) -> Held:
        """A position with all that is its own."""
        mine = [order for order in self.orders.values() if order.position_id == position_id]
        working = tuple(order for order in mine if order.status not in ENDED)
        asked = tuple(one for one in self.actions if one.position_id == position_id)
        sale = self.last_sale.get(position_id)
        return Held(
            self.positions[position_id],
            self.entry_of(position_id),
            working,
            len(mine),
            asked,
            None if sale is None else self.orders[sale],
        )

    def prepare(self, plan: ExitPlan) -> Prepared:
        """Commit an intent, unless it would sell more than is held and not promised yet."""
        for heard in plan.heard:
            self.book(heard.order_id, heard.report)
        position = self.positions[plan.position_id]
        wanted = max(order.quantity for order in plan.orders)
        if not position.is_open or wanted > position.remaining - self._promised(plan):
            return Prepared("stale")
        for order in plan.orders:
            self.orders[order.id] = order.model_copy(update={"status": "submitting", "signed_at_ms": self.now_ms()})
        if plan.exit_reason is not None:
            self._change(position.id, status="closing", exit_reason=position.exit_reason or plan.exit_reason)
        if plan.trailing_stop_price is not None:
            self._change(position.id, trailing_stop_price=plan.trailing_stop_price)
        return Prepared("prepared", self.now_ms())

    def book(self, order_id: UUID, report: OrderReport) -> bool:
        """Take a report in; False where nothing is new."""
        order = self.orders[order_id]
        known = self.trade_ids.setdefault(order_id, set())
        new = tuple(one for one in report.fills if one.exchange_trade_id not in known)
        if report.status not in MOVES[order.status] and not new:
            return False
        status = report.status if report.status in MOVES[order.status] else order.status
        after = order.after(OrderReport(status, fills=new))
        if after.filled_quantity > after.quantity:
            raise Broken(f"order {order_id} sold more than it is for")
        self.orders[order_id] = after
        known.update(one.exchange_trade_id for one in new)
        if new:
            self.last_sale[order.position_id] = order_id
            position = self.positions[order.position_id]
            sold = sum((one.quantity for one in new), ZERO)
            value = sum((one.value for one in new), ZERO)
            self._change(
                position.id,
                exit_quantity=(position.exit_quantity or ZERO) + sold,
                exit_value=(position.exit_value or ZERO) + value,
            )
            if order.mode == "paper" and order.list_client_order_id is not None:
                self._end_siblings(order)
        return True

    def adopt(self, position_id: UUID) -> Held:
        """Open becomes monitoring."""
        if self.positions[position_id].status == "open":
            self._change(position_id, status="monitoring")
        return self.held(position_id)

    def resume(self, position_id: UUID) -> Held:
        """Closing becomes monitoring."""
        self._change(position_id, status="monitoring", exit_reason=None)
        return self.held(position_id)

    def close(self, position_id: UUID, reason: str) -> Held:
        """End it, unless something is at work."""
        held = self.held(position_id)
        if not held.orders and not held.entry_works:
            kept = None if reason == "lost_at_venue" else held.position.exit_reason
            self._change(position_id, status="closed", exit_reason=kept or reason)
        return self.held(position_id)

    def answer(self, answer: Answer) -> Held:
        """Write an answer, once."""
        if answer.action in self.actions:
            self.actions.remove(answer.action)
            self.answers.append(answer)
            changes = {"stop_loss_price": answer.stop, "take_profit_price": answer.target}
            self._change(answer.action.position_id, **{name: price for name, price in changes.items() if price})
        return self.held(answer.action.position_id)

    def _promised(self, plan: ExitPlan) -> Decimal:
        promises: dict[str, Decimal] = {}
        instead_of = {order.id for order in plan.instead_of}
        for order in self.orders.values():
            replaced = order.id in instead_of and order.status == "submitted" and order.purpose != "exit"
            if order.position_id == plan.position_id and order.status not in ENDED and not replaced:
                name = order.list_client_order_id or str(order.id)
                promises[name] = max(promises.get(name, ZERO), order.remaining)
        return sum(promises.values(), ZERO)

    def _end_siblings(self, order: Order) -> None:
        for other in tuple(self.orders.values()):
            same = other.list_client_order_id == order.list_client_order_id
            if same and other.id != order.id and other.status not in ENDED:
                self.orders[other.id] = other.model_copy(update={"status": "expired"})

    def _change(self, position_id: UUID, **changes: object) -> None:
        self.positions[position_id] = self.positions[position_id].model_copy(update=changes)


def named(positions: Sequence[UUID] | None, found: UUID) -> bool:
    """Whether a position is among those asked for; none named means all."""
    return positions is None or found in positions
