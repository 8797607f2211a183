"""Sells on their way: the intent is committed, the orders are sent once, and what became of them is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from streams.domain.errors import Rejected
from streams.domain.order import Order, OrderReport
from streams.domain.reconcile import ended_bare, failed_to_place, never_sent
from streams.leash import Leash
from streams.ports import Exchange, ExitPlan, Heard, Store

NO_VERDICTS = ("entry_not_accepted", "keys_rejected")
"""Too late to be sent, or under a key that is refused: neither says that the order itself could not be placed."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is to be booked of a plan. `refusal`: why the exchange would not have the orders; `out_of_reach`: it does
    not take anything now."""

    heard: tuple[Heard, ...]
    refusal: Rejected | None = None
    out_of_reach: bool = False


class Placing:
    """Places one exit, or a stop, a target or both as one list; and cancels what they replace."""

    def __init__(self, store: Store, exchange: Exchange, recv_window_ms: int) -> None:
        self._store = store
        self._exchange = exchange
        self._recv_window_ms = recv_window_ms
        self._leash = Leash(store, recv_window_ms)
        self._unsent: set[UUID] = set()

    def plan(self, orders: tuple[Order, ...], heard: Sequence[Heard]) -> ExitPlan:
        """The intent to send these, together with what was heard of those that they replace."""
        venue_ms = self._exchange.now_ms()
        ahead_ms = 0 if venue_ms is None else venue_ms - self._store.now_ms()
        return ExitPlan(orders[0].position_id, orders, self._recv_window_ms, ahead_ms, tuple(heard))

    async def place(self, plan: ExitPlan) -> Sent | None:
        """Commit the intent and send it; None where the rows say otherwise by now. Raises what the store raises."""
        if plan.instead_of:
            return await self._place_instead(plan)
        orders = await self._commit(plan)
        return None if orders is None else await self._send(orders)

    async def cancel(self, orders: Sequence[Order]) -> Sequence[OrderReport | None]:
        """Cancel protective orders, all of one list. Raises Transient or Rejected where that cannot be asked for."""
        return await self._exchange.cancel_all(orders, self._leash.stamp(self._exchange))

    def surely_unsent(self, order: Order) -> bool:
        """Whether its intent was committed and the answer lost, so that nobody ever sent it, nor can."""
        return order.id in self._unsent

    async def _place_instead(self, plan: ExitPlan) -> Sent | None:
        """Have what rests cancelled, and send only what is known to come after it.

        An exit races with the price: its intent is committed meanwhile. Protection is not let go before the intent of
        what replaces it is in the rows.
        """
        orders: tuple[Order, ...] | BaseException | None
        if plan.exit_reason is not None:
            orders, reports = await asyncio.gather(
                self._commit(plan), self.cancel(plan.instead_of), return_exceptions=True
            )
        else:
            orders = await self._commit(plan)
            if orders is None:
                return None
            (reports,) = await asyncio.gather(self.cancel(plan.instead_of), return_exceptions=True)
        if isinstance(orders, BaseException):
            raise orders
        if isinstance(reports, BaseException):
            if orders is None:
                raise reports
            return Sent(_unsent(orders, f"what rested could not be cancelled: {reports}"), out_of_reach=True)
        told = zip(plan.instead_of, reports, strict=True)
        heard = tuple(Heard(order.id, report) for order, report in told if report is not None)
        if orders is None:
            return Sent(heard) if heard else None
        if len(heard) < len(reports) or not all(ended_bare(one.report) for one in heard):
            executed = any(one.report.fills or one.report.status == "filled" for one in heard)
            reason = "what rested was executed" if executed else "what rested may rest still"
            return Sent((*heard, *_unsent(orders, reason)), out_of_reach=not executed)
        sent = await self._send(orders)
        return replace(sent, heard=(*heard, *sent.heard))

    async def _commit(self, plan: ExitPlan) -> tuple[Order, ...] | None:
        """The orders as they may be sent, once this returns."""
        named = {order.id for order in plan.orders}
        self._unsent |= named
        prepared = await self._store.prepare_exits(plan)
        if prepared.outcome == "late":  # too little is left of the lease: renew it and ask again
            await self._store.heartbeat()
            prepared = await self._store.prepare_exits(replace(plan, heard=()))
        self._unsent -= named
        if prepared.outcome != "prepared":
            return None
        stamped = {
            "signed_at_ms": prepared.signed_at_ms,
            "recv_window_ms": plan.recv_window_ms,
            "status": "submitting",
        }
        return tuple(order.model_copy(update=stamped) for order in plan.orders)

    async def _send(self, orders: Sequence[Order]) -> Sent:
        """Send them once."""
        refusal: Rejected | None = None
        try:
            reports = await self._placed(orders)
        except Exception as error:
            if isinstance(error, Rejected) and error.code not in NO_VERDICTS:
                refusal = error
            reports = [failed_to_place(error)] * len(orders)
        heard = tuple(Heard(order.id, report) for order, report in zip(orders, reports, strict=True))
        failed = any(report.status == "failed" for report in reports)
        return Sent(heard, refusal, out_of_reach=failed and refusal is None)

    async def _placed(self, orders: Sequence[Order]) -> Sequence[OrderReport]:
        if len(orders) == 1:
            return [await self._exchange.place(orders[0])]
        return await self._exchange.place_list(*orders)


def _unsent(orders: Sequence[Order], reason: str) -> tuple[Heard, ...]:
    return tuple(Heard(order.id, never_sent(reason)) for order in orders)
