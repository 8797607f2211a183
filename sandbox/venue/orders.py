"""Orders of the venue, lists of them, and the trades they made."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.venue.accounts import Account, Lock
from sandbox.venue.book import Level
from sandbox.venue.fill_plan import FillPlan
from sandbox.venue.fixed_point import E8
from sandbox.venue.instrument import Instrument

__all__ = ["CONDITIONAL", "OPEN", "Fill", "Order", "OrderList", "Terms"]

CONDITIONAL = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})
OPEN = frozenset({"PENDING_NEW", "NEW", "PARTIALLY_FILLED"})
_AT_ANY_PRICE = frozenset({"MARKET", "STOP_LOSS", "TAKE_PROFIT"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What was ordered. Amounts are zero where the kind of order has none; a market order may name
    `quote_quantity` instead of `quantity`."""

    side: str
    type: str
    client_order_id: str
    quantity: E8 = 0
    quote_quantity: E8 = 0
    price: E8 = 0
    stop_price: E8 = 0
    trailing_delta: int = 0
    time_in_force: str = "GTC"
    iceberg_quantity: E8 = 0
    strategy_id: int | None = None
    strategy_type: int | None = None
    self_trade_prevention: str = "NONE"

    @property
    def buys(self) -> bool:
        return self.side == "BUY"

    @property
    def conditional(self) -> bool:
        return self.type in CONDITIONAL

    @property
    def limit(self) -> E8 | None:
        """The worst price; None for an order at any price."""
        return None if self.type in _AT_ANY_PRICE else self.price

    @property
    def takes_only(self) -> bool:
        """What it cannot have at once, it does not wait for."""
        return self.limit is None or self.time_in_force in ("IOC", "FOK")


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of an order."""

    id: int
    price: E8
    quantity: E8
    quote_quantity: E8
    commission: E8
    commission_asset: str
    at_ms: int
    maker: bool


@dataclass(slots=True, eq=False)
class Order:
    """An order that the venue took. Times in venue milliseconds, but those of `plan` in market time.

    `resting`: it waits on the book, and trades at its own price. `hidden_until`: queries do not see it before.
    `late_at`: cancelled, and to be filled all the same then.
    """

    id: int
    account: Account
    instrument: Instrument
    terms: Terms
    quantity: E8
    received_ns: int
    created_ms: int
    lock: Lock
    plan: FillPlan
    hidden_until: int = 0
    status: str = "NEW"
    executed: E8 = 0
    cost: E8 = 0
    updated_ms: int = 0
    working_ms: int = -1
    trailing_ms: int = -1
    extreme: E8 = 0
    resting: bool = False
    plan_started: int | None = None
    late_at: int | None = None
    expiry_reason: str | None = None
    order_list: OrderList | None = None
    fills: list[Fill] = field(default_factory=lambda: list[Fill]())
    seen: tuple[Level, ...] | None = None
    taken: dict[E8, E8] = field(default_factory=lambda: dict[E8, E8]())

    @property
    def symbol(self) -> str:
        return self.instrument.symbol

    @property
    def open(self) -> bool:
        return self.status in OPEN

    @property
    def remaining(self) -> E8:
        return self.quantity - self.executed

    @property
    def waits_for_stop(self) -> bool:
        """Whether its stop has not been reached yet."""
        return self.terms.conditional and self.working_ms < 0


@dataclass(slots=True, eq=False)
class OrderList:
    """Orders that depend on one another.

    The orders of `pair` exclude each other where there are two; those of an OTO wait for `working` to fill.
    `pays`: what `working` receives is what the pair sells, and `proceeds` hold it meanwhile.
    """

    id: int
    account: Account
    symbol: str
    client_order_id: str
    created_ms: int
    working: Order | None
    pair: tuple[Order, ...]
    proceeds: Lock | None = None
    done: bool = False
    updated_ms: int = 0

    @property
    def contingency(self) -> str:
        return "OTO" if self.working else "OCO"

    @property
    def orders(self) -> tuple[Order, ...]:
        return (self.working, *self.pair) if self.working else self.pair

    def sibling(self, order: Order) -> Order | None:
        """The order that ends when that one begins."""
        if order is self.working or len(self.pair) < 2:
            return None
        return self.pair[1] if order is self.pair[0] else self.pair[0]
