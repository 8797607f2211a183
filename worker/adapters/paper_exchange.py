"""Paper trading: real books, simulated fills, no memory of its own: an order's row is all there is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from streams.domain.account import Account
from streams.domain.errors import Broken
from streams.domain.money import text
from streams.domain.order import Fill, Order, OrderReport, Stamp
from streams.domain.paper import Take, walk
from streams.domain.signal import Brief
from streams.domain.sizing import Funds
from streams.ports import Clock, Market

FEE_RATE = Decimal("0.001")


class PaperExchange:
    """Fills buy orders from the real book; the fee is taken in USDT."""

    def __init__(self, market: Market, clock: Clock, fee_rate: Decimal = FEE_RATE) -> None:
        self._market = market
        self._clock = clock
        self._fee_rate = fee_rate

    async def funds(self, brief: Brief) -> Funds:
        """What the paper balance still has free. Raises Transient where no book could be had to fill from."""
        if brief.paper is None:
            raise Broken(f"user {brief.user_id} has no paper balance")
        await self._market.book(brief.symbol or "")
        return Funds(brief.paper.available, self._fee_rate)

    async def place(self, order: Order) -> OrderReport:
        """Fill what the book offers at once; the rest of a limit order rests, any other rest expires."""
        takes = await self._walk(order, resting=False)
        if self._complete(order, takes):
            return self._report(order, "filled", takes)
        if order.type == "limit" and order.time_in_force == "GTC":
            return self._report(order, "partially_filled" if takes else "submitted", takes)
        bound = "the book" if order.price is None else f"{text(order.price)}, the slippage bound"
        return self._report(order, "expired", takes, f"Nothing was on offer up to {bound}.")

    async def look_up(self, order: Order) -> OrderReport:
        """Fill a resting order as the market comes to it."""
        takes = await self._walk(order, resting=True)
        if self._complete(order, takes):
            return self._report(order, "filled", takes)
        return self._report(order, "partially_filled" if takes else order.status, takes)

    async def cancel(self, order: Order, stamp: Stamp) -> OrderReport:  # noqa: ARG002
        """Cancel what rests; what was filled before stays filled."""
        reason = f"The limit of {text(order.price or Decimal(0))} was not reached within the time allowed."
        return self._report(order, "cancelled", (), reason)

    def listen(self, account: Account, heard: Callable[[str | None], None]) -> Callable[[], None]:  # noqa: ARG002
        """Nothing happens to a paper order but by looking at it, so there is nothing to tell of."""
        return _nothing

    def now_ms(self) -> int | None:
        """Paper has no clock of its own."""
        return None

    async def _walk(self, order: Order, resting: bool) -> tuple[Take, ...]:
        if order.side != "buy":
            raise Broken(f"order {order.id}: only buy orders are filled on paper, was {order.side}")
        book = await self._market.book(order.symbol)
        step = self._market.rules(order.symbol).step
        return walk(book.asks, order.remaining, order.price, order.reserved, self._fee_rate, step, resting)

    def _complete(self, order: Order, takes: tuple[Take, ...]) -> bool:
        return sum((take.quantity for take in takes), Decimal(0)) >= order.remaining

    def _report(self, order: Order, status: str, takes: tuple[Take, ...], reason: str | None = None) -> OrderReport:
        now = self._clock.now()
        short = order.id.hex[:16]
        fills = tuple(
            Fill(
                exchange_trade_id=f"paper-{short}-{number}",
                price=take.price,
                quantity=take.quantity,
                value=take.value,
                fee=take.fee,
                fee_asset="USDT",
                fee_usdt=take.fee,
                executed_at=now,
            )
            for number, take in enumerate(takes, start=order.fills + 1)
        )
        unfilled = status in ("expired", "cancelled") and not fills and not order.filled_quantity
        return OrderReport(
            status=status,
            exchange_order_id=f"paper-{short}",
            fills=fills,
            failure_code="entry_not_filled" if unfilled else None,
            failure_reason=reason if unfilled else None,
            known_fills=order.fills,
        )


def _nothing() -> None:
    """Nobody was told anything."""
