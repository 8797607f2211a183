"""Sells on their way: the intent is committed, the orders are sent once, and what became of them is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from streams.domain.errors import Rejected
from streams.domain.order import Order, OrderReport
from streams.domain.reconcile import failed_to_place
from streams.ports import Exchange, ExitPlan, Heard, Store

NO_VERDICTS = ("entry_not_accepted", "keys_rejected")
"""Too late to be sent, or under a key that is refused: neither says that the order itself could not be placed."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is to be booked of orders that were sent; `refusal`: why the exchange would not have them."""

    heard: tuple[Heard, ...]
    refusal: Rejected | None = None

    @property
    def failed(self) -> bool:
        """Whether nothing was placed."""
        return any(one.report.status == "failed" for one in self.heard)


class Placing:
    """Places one exit, or a stop, a target or both as one list."""

    def __init__(self, store: Store, exchange: Exchange, recv_window_ms: int) -> None:
        self._store = store
        self._exchange = exchange
        self._recv_window_ms = recv_window_ms

    def plan(self, orders: tuple[Order, ...], heard: Sequence[Heard]) -> ExitPlan:
        """The intent to send these, together with what was heard of those that they replace."""
        venue_ms = self._exchange.now_ms()
        ahead_ms = 0 if venue_ms is None else venue_ms - self._store.now_ms()
        return ExitPlan(orders[0].position_id, orders, self._recv_window_ms, ahead_ms, tuple(heard))

    async def commit(self, plan: ExitPlan) -> tuple[Order, ...] | None:
        """Commit the intent: the orders as they may be sent; None where the rows say otherwise by now."""
        prepared = await self._store.prepare_exits(plan)
        if prepared.outcome == "late":  # too little is left of the lease: renew it and ask again
            await self._store.heartbeat()
            prepared = await self._store.prepare_exits(replace(plan, heard=()))
        if prepared.outcome != "prepared":
            return None
        stamped = {
            "signed_at_ms": prepared.signed_at_ms,
            "recv_window_ms": plan.recv_window_ms,
            "status": "submitting",
        }
        return tuple(order.model_copy(update=stamped) for order in plan.orders)

    async def send(self, orders: Sequence[Order]) -> Sent:
        """Send them once."""
        refusal: Rejected | None = None
        try:
            reports = await self._placed(orders)
        except Exception as error:
            if isinstance(error, Rejected) and error.code not in NO_VERDICTS:
                refusal = error
            reports = [failed_to_place(error)] * len(orders)
        heard = (Heard(order.id, report) for order, report in zip(orders, reports, strict=True))
        return Sent(tuple(heard), refusal)

    async def _placed(self, orders: Sequence[Order]) -> Sequence[OrderReport]:
        if len(orders) == 1:
            return [await self._exchange.place(orders[0])]
        return await self._exchange.place_list(*orders)
