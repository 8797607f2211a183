"""Books what a venue reports of an entry order, and says what that made of the position."""

from __future__ import annotations

from decimal import Decimal

from streams.domain.errors import Refused
from streams.domain.money import ZERO, average, exact
from streams.domain.order import Order, OrderReport
from streams.domain.risk import protective_prices
from streams.domain.signal import Brief, validate
from streams.outcome import Dropped, Failed, Opened, Outcome, Resting
from streams.ports import Market, Store


class Booking:
    """Writes reports through the store; stop and target follow the price that was really paid."""

    def __init__(self, store: Store, market: Market) -> None:
        self._store = store
        self._market = market

    async def book(self, order: Order, brief: Brief, report: OrderReport, age: float) -> list[Outcome]:
        """Book a report and name its outcomes: opened, still resting, failed, or dropped when the row knew better.

        Raises what the store raises; booking the same report again changes nothing. A row that knew better may
        have learnt it from this very report, its answer lost: so what became of the position is named all the
        same, and naming it twice is harmless.
        """
        stop, target = self._protection(order, brief, report)
        booked = await self._store.record(order.id, report, stop, target)
        position = booked.position
        outcomes: list[Outcome] = []
        if position.is_open and order.filled_quantity == ZERO:
            outcomes.append(Opened(position))
        if position.status == "failed":
            outcomes.append(Failed(position))
        if not booked.changed:
            outcomes.append(Dropped(brief.id, f"the order's row already says {booked.order_status}"))
        elif not report.ended:
            outcomes.append(Resting(order.after(report), brief, age))
        return outcomes

    @exact
    def _protection(self, order: Order, brief: Brief, report: OrderReport) -> tuple[Decimal | None, Decimal | None]:
        after = order.after(report)
        if not report.fills or after.filled_quantity == ZERO:
            return None, None
        entry_price = average(after.total_value, after.filled_quantity)
        try:
            return protective_prices(validate(brief), entry_price, self._market.rules(order.symbol))
        except Refused:  # the trader's settings changed since admission: what was planned then stands
            return None, None
