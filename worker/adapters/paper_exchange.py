"""Paper trading: real books, simulated fills. An order's row is all there is, but for which stops the price has met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from streams.domain.account import Account
from streams.domain.errors import Broken
from streams.domain.market import Quote
from streams.domain.money import ZERO, text
from streams.domain.order import Fill, Order, OrderReport, Stamp
from streams.domain.paper import Take, walk, walk_bids
from streams.domain.signal import Brief
from streams.domain.sizing import Funds
from streams.ports import Clock, HearOrder, Market

FEE_RATE = Decimal("0.001")
TRIGGERED = frozenset({"stop_loss", "take_profit"})


@dataclass(slots=True)
class _Trigger:
    """A resting stop or target, and whether the price has met it."""

    order: Order
    stop_watching: Callable[[], None]
    met: bool = False


class PaperExchange:
    """Fills orders from the real book; fees are taken in USDT.

    A stop or target is met by the best bid, however short the moment, and then sold into the book of the next look.
    """

    def __init__(self, market: Market, clock: Clock, fee_rate: Decimal = FEE_RATE) -> None:
        self._market = market
        self._clock = clock
        self._fee_rate = fee_rate
        self._triggers: dict[UUID, _Trigger] = {}
        self._listeners: dict[Account, list[HearOrder]] = {}

    async def funds(self, brief: Brief) -> Funds:
        """What the paper balance still has free. Raises Transient where no book could be had to fill from."""
        if brief.paper is None:
            raise Broken(f"user {brief.user_id} has no paper balance")
        await self._market.book(brief.symbol or "")
        return Funds(brief.paper.available, self._fee_rate)

    async def place(self, order: Order) -> OrderReport:
        """Fill what the book offers at once; the rest of a limit order rests, any other rest expires."""
        _check_mode(order)
        if order.type in TRIGGERED:
            self._await_price(order)
            return self._report(order, "submitted", ())
        takes = await self._walk(order, resting=False)
        if self._complete(order, takes):
            return self._report(order, "filled", takes)
        if order.type == "limit" and order.time_in_force == "GTC":
            return self._report(order, "partially_filled" if takes else "submitted", takes)
        bound = "the book" if order.price is None else f"{text(order.price)}, the slippage bound"
        return self._report(order, "expired", takes, f"Nothing was on offer up to {bound}.")

    async def place_list(self, stop: Order, target: Order) -> Sequence[OrderReport]:
        """Both rest; the database ends the other leg with the one that is filled."""
        return [await self.place(leg) for leg in (stop, target)]

    async def look_up(self, order: Order) -> OrderReport:
        """Fill a resting order as the market comes to it."""
        _check_mode(order)
        if order.type in TRIGGERED and not self._await_price(order).met:
            return self._report(order, "submitted", ())
        takes = await self._walk(order, resting=True)
        if self._complete(order, takes):
            self._forget(order)
            return self._report(order, "filled", takes)
        return self._report(order, "partially_filled" if takes else order.status, takes)

    async def cancel(self, order: Order, stamp: Stamp) -> OrderReport:  # noqa: ARG002
        """Cancel what rests; what was filled before stays filled."""
        _check_mode(order)
        self._forget(order)
        reason = f"The limit of {text(order.price or ZERO)} was not reached within the time allowed."
        return self._report(order, "cancelled", (), reason)

    async def cancel_all(self, orders: Sequence[Order], stamp: Stamp) -> Sequence[OrderReport]:
        """Cancel each; a stop that the price has met is not cancelled but sold."""
        reports: list[OrderReport] = []
        for order in orders:
            trigger = self._triggers.get(order.id)
            met = trigger is not None and trigger.met
            reports.append(await self.look_up(order) if met else await self.cancel(order, stamp))
        return reports

    async def owned(self, account: Account, asset: str) -> Decimal | None:  # noqa: ARG002
        """Paper keeps no coins but its rows."""
        return None

    def listen(self, account: Account, heard: HearOrder) -> Callable[[], None]:
        """Tell of the account's stops and targets as the price meets them; the answer ends it."""
        listeners = self._listeners.setdefault(account, [])
        listeners.append(heard)

        def stop() -> None:
            listeners.remove(heard)
            if not listeners:
                self._listeners.pop(account, None)

        return stop

    def now_ms(self) -> int | None:
        """Paper has no clock of its own."""
        return None

    def _await_price(self, order: Order) -> _Trigger:
        """The order's trigger; one that is not known, as after a restart, is made."""
        known = self._triggers.get(order.id)
        if known is not None:
            return known
        trigger = self._triggers[order.id] = _Trigger(order, _nothing)

        def seen(quote: Quote) -> None:
            if not trigger.met and _meets(order, quote.bid):
                trigger.met = True
                trigger.stop_watching()
                for heard in tuple(self._listeners.get(order.account, ())):
                    heard(order.client_order_id, None)

        trigger.stop_watching = self._market.watch(order.symbol, seen)
        if trigger.met:  # by the last price that was known
            trigger.stop_watching()
        return trigger

    def _forget(self, order: Order) -> None:
        trigger = self._triggers.pop(order.id, None)
        if trigger is not None and not trigger.met:
            trigger.stop_watching()

    async def _walk(self, order: Order, resting: bool) -> tuple[Take, ...]:
        book = await self._market.book(order.symbol)
        if order.side == "sell":
            return walk_bids(book.bids, order.remaining, self._fee_rate)
        step = self._market.rules(order.symbol).step
        return walk(book.asks, order.remaining, order.price, order.reserved, self._fee_rate, step, resting)

    def _complete(self, order: Order, takes: tuple[Take, ...]) -> bool:
        return sum((take.quantity for take in takes), ZERO) >= order.remaining

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
            failure_reason=reason if unfilled and order.purpose == "entry" else None,
            known_fills=order.fills,
        )


def _check_mode(order: Order) -> None:
    """Raise Broken for an order of another mode: what happens to it is not for paper to say."""
    if order.mode != "paper":
        raise Broken(f"order {order.id} in {order.mode} mode was handed to paper trading")


def _meets(order: Order, bid: Decimal) -> bool:
    stop = order.stop_price or ZERO
    return bid <= stop if order.type == "stop_loss" else bid >= stop


def _nothing() -> None:
    """Nothing is watched yet."""
