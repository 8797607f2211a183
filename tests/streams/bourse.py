"""A small exchange in memory that fires what rests on it, loses answers, and sells no coin that is not there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from streams.domain.account import Account
from streams.domain.errors import Rejected, Transient, Unknown
from streams.domain.money import ZERO
from streams.domain.order import Fill, Order, OrderReport, Stamp
from streams.domain.signal import Brief
from streams.domain.sizing import Funds
from streams.ports import HearOrder
from tests.domain import specimens
from tests.streams.fakes import FakeClock, FakeMarket, now_ms

LATENCY = 0.001
FEE = Decimal("0.001")


@dataclass
class Resting:
    """An order as the exchange has it."""

    order: Order
    status: str = "submitted"
    fills: list[Fill] = field(default_factory=list[Fill])

    @property
    def filled(self) -> Decimal:
        return sum((fill.quantity for fill in self.fills), ZERO)

    def report(self) -> OrderReport:
        return OrderReport(self.status, f"venue-{self.order.client_order_id}", tuple(self.fills), tells_all=True)


class Bourse:
    """Implements streams.ports.Exchange for sells of one coin; `faults` befall what is placed next, in their order.

    `refused`, `no coins`, `down`; `lost`: carried out, and nobody hears; `never came`: not carried out, likewise.
    `part`: how much of a triggered order is filled at once. `in_reach`: whether cancels and look-ups are answered.
    """

    def __init__(self, market: FakeMarket, clock: FakeClock, coins: Decimal) -> None:
        self.market = market
        self.clock = clock
        self.coins = coins
        self.cash = ZERO
        self.orders: dict[str, Resting] = {}
        self.faults: deque[str] = deque()
        self.part = Decimal(1)
        self.in_reach = True
        self.listeners: list[HearOrder] = []
        self.entries: set[str] = set()
        self.was_reset = False
        self._trades = 0
        market.watch("BTC/USDT", lambda quote: self.trade(quote.bid))

    @property
    def working(self) -> list[Resting]:
        """What rests."""
        return [one for one in self.orders.values() if one.status in ("submitted", "partially_filled")]

    def trade(self, price: Decimal) -> None:
        """Fire what the price has reached."""
        for one in self.working:
            stop = one.order.stop_price or ZERO
            reached = price <= stop if one.order.type == "stop_loss" else price >= stop
            if reached:
                for other in self.working:
                    same = other.order.list_client_order_id == one.order.list_client_order_id
                    if same and one.order.list_client_order_id and other is not one:
                        other.status = "expired"
                self._fill(one, price, max(one.order.quantity * self.part // Decimal("0.001") * Decimal("0.001"), ZERO))
                self.tell(one.order.client_order_id)

    def cancel_everything(self) -> None:
        """As an exchange does in a maintenance."""
        for one in self.working:
            one.status = "cancelled"

    def reset(self) -> None:
        """As a testnet does: it knows nothing any more, and the coins are gone."""
        self.orders.clear()
        self.was_reset = True
        self.coins = ZERO

    def tell(self, client_order_id: str | None, status: str | None = None) -> None:
        for heard in tuple(self.listeners):
            heard(client_order_id, status)

    async def place(self, order: Order) -> OrderReport:
        (report,) = await self._placed([order])
        return report

    async def place_list(self, stop: Order, target: Order) -> Sequence[OrderReport]:
        return await self._placed([stop, target])

    async def look_up(self, order: Order) -> OrderReport | None:
        await self._reach()
        if order.purpose == "entry":
            return None if self.was_reset else OrderReport(order.status, "venue-entry")
        known = self.orders.get(order.client_order_id)
        return None if known is None else known.report()

    async def cancel(self, order: Order, stamp: Stamp) -> OrderReport | None:
        (report,) = await self.cancel_all([order], stamp)
        return report

    async def cancel_all(self, orders: Sequence[Order], stamp: Stamp) -> Sequence[OrderReport | None]:
        await self._reach()
        for order in orders:
            known = self.orders.get(order.client_order_id)
            if known is not None and known.status in ("submitted", "partially_filled"):
                known.status = "cancelled"
        return [None if (one := self.orders.get(order.client_order_id)) is None else one.report() for order in orders]

    async def owned(self, account: Account, asset: str) -> Decimal | None:
        await asyncio.sleep(LATENCY)
        return self.coins

    async def funds(self, brief: Brief) -> Funds:
        return Funds(Decimal(10000), FEE, at_venue=True)

    def listen(self, account: Account, heard: HearOrder) -> Callable[[], None]:
        self.listeners.append(heard)
        return lambda: self.listeners.remove(heard)

    def now_ms(self) -> int | None:
        return now_ms(self.clock)

    async def _reach(self) -> None:
        await asyncio.sleep(LATENCY)
        if not self.in_reach:
            raise Transient("out of reach")

    async def _placed(self, orders: list[Order]) -> list[OrderReport]:
        fault = self.faults.popleft() if self.faults else None
        await asyncio.sleep(LATENCY)
        match fault:
            case "refused":
                raise Rejected("venue_rejected", "Refused.")
            case "no coins":
                raise Rejected("insufficient_balance", "No coins.")
            case "down":
                raise Transient("down")
            case "never came":
                raise Unknown("no answer")
            case _:
                self._take(orders)
        if fault == "lost":
            raise Unknown("no answer")
        return [self.orders[order.client_order_id].report() for order in orders]

    def _take(self, orders: list[Order]) -> None:
        promised = sum((one.order.quantity - one.filled for one in self._distinct()), ZERO)
        if orders[0].quantity > self.coins - promised:
            raise Rejected("insufficient_balance", "Account has insufficient balance for requested action.")
        for order in orders:
            stop = order.stop_price
            if stop is not None:
                at_once = self.market.price <= stop if order.type == "stop_loss" else self.market.price >= stop
                if at_once:
                    raise Rejected("venue_rejected", "Order would trigger immediately.")
        for order in orders:
            assert order.client_order_id not in self.orders, "an id was used twice"
            one = self.orders[order.client_order_id] = Resting(order)
            if order.type == "market":
                self._fill(one, self.market.price, order.quantity)

    def _distinct(self) -> list[Resting]:
        by_list = {one.order.list_client_order_id or one.order.client_order_id: one for one in self.working}
        return list(by_list.values())

    def _fill(self, one: Resting, price: Decimal, quantity: Decimal) -> None:
        quantity = min(quantity, one.order.quantity - one.filled)
        if quantity <= ZERO:
            return
        assert quantity <= self.coins, "more was sold than was there"
        self._trades += 1
        value = quantity * price
        fee = value * FEE
        one.fills.append(Fill(f"trade-{self._trades}", price, quantity, value, fee, "USDT", fee, specimens.NOON))
        self.coins -= quantity
        self.cash += value - fee
        one.status = "filled" if one.filled == one.order.quantity else "partially_filled"
