"""Books what a venue reports of an entry order, and says what that made of the position."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from streams.domain.errors import Dismissed, Transient
from streams.domain.money import ZERO, average, exact
from streams.domain.order import Order, OrderReport
from streams.domain.risk import Protection
from streams.outcome import Changed, Dropped, Failed, InDoubt, Opened, Outcome, Resting
from streams.ports import Market, Store

log = logging.getLogger(__name__)


class Booking:
    """Writes reports through the store; stop and target follow the price that was really paid."""

    def __init__(self, store: Store, markets: Mapping[str, Market]) -> None:
        self._store = store
        self._markets = markets

    async def book(
        self, order: Order, signal_id: UUID, protection: Protection, report: OrderReport, age: float
    ) -> Sequence[Outcome]:
        """Book a report and name its outcomes: opened, still resting, failed, or dropped when the row knew better.

        Where no answer comes, the outcome is a doubt: the row may have changed, so whoever goes on must read it
        anew. A row that knew better may have learnt it from this very report; so what became of the position is
        named all the same, and naming it twice is harmless.
        """
        try:
            stop, target = self._prices(order, protection, report)
            booked = await self._store.record(order.id, report, stop, target)
        except Dismissed as error:
            return [Dropped(signal_id, str(error))]
        except Exception as error:
            if not isinstance(error, Transient):
                log.exception("what is known of order %s could not be booked", order.id)
            return [InDoubt(order.id, order.account, f"{type(error).__name__}: {error}", unheard=True)]
        position = booked.position
        outcomes: list[Outcome] = []
        if position.is_open and order.filled_quantity == ZERO:
            outcomes.append(Opened(position, entry=order.after(report)))
        elif position.is_open and booked.changed:
            outcomes.append(Changed(position))
        if position.status == "failed":
            outcomes.append(Failed(position))
        if not booked.changed:
            outcomes.append(Dropped(signal_id, f"the order's row already says {booked.order_status}"))
        elif not (report.ended and report.final):
            outcomes.append(Resting(order.after(report), signal_id, protection, age))
        return outcomes

    @exact
    def _prices(
        self, order: Order, protection: Protection, report: OrderReport
    ) -> tuple[Decimal | None, Decimal | None]:
        after = order.after(report)
        if not report.fills or after.filled_quantity == ZERO:
            return None, None
        entry_price = average(after.total_value, after.filled_quantity)
        return protection.prices(entry_price, self._markets[order.mode].rules(order.symbol))
