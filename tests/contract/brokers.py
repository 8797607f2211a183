"""One way to try an exchange, whatever stands behind it: orders as they stand to its market, and what befalls them."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from streams.domain.account import Account
from streams.domain.errors import Rejected, Transient
from streams.domain.money import floor_to
from streams.domain.order import Order, OrderReport, Stamp, client_order_id
from streams.ports import Exchange, Market
from tests.contract.venues import fake_venue, sandbox_venue
from tests.domain import specimens
from tests.end_to_end.product import Project
from tests.streams.fakes import FakeClock, FakeExchange
from tests.streams.keyring import FakeKeyring
from worker.adapters.ccxt_exchange import CcxtExchange, CcxtMarket
from worker.adapters.clock import SystemClock
from worker.adapters.paper_exchange import PaperExchange

SYMBOL = "BTC/USDT"
QUANTITY = Decimal("0.01")
ABOVE = Decimal("1.01")
ORDERS = "/api/v3/order"


class Broker:
    """An exchange, and orders for it of an account that can pay for them."""

    def __init__(self, exchange: Exchange, market: Market, mode: str) -> None:
        self.exchange = exchange
        self.market = market
        self.account = specimens.account(mode=mode)

    async def order(self, times_the_ask: Decimal | None, time_in_force: str | None = "GTC", **changes: Any) -> Order:
        """An entry at so many times the best ask, or at market; what it may cost is reserved."""
        ask = (await self.market.quote(SYMBOL)).ask
        price = None if times_the_ask is None else floor_to(ask * times_the_ask, self.market.rules(SYMBOL).tick)
        worst = (price or ask * ABOVE) * QUANTITY * Decimal("1.001")
        ours: dict[str, Any] = {
            "id": uuid4(),
            "position_id": uuid4(),
            "user_id": self.account.user_id,
            "mode": self.account.mode,
            "client_order_id": client_order_id(uuid4(), "entry"),
            "type": "market" if price is None else "limit",
            "symbol": SYMBOL,
            "signed_at_ms": self.exchange.now_ms() or 0,
        }
        terms = {"time_in_force": time_in_force, "quantity": QUANTITY, "price": price, "reserved": worst}
        return specimens.order(**(ours | terms | changes))

    def stamp(self, age_ms: int = 0) -> Stamp:
        """Of so long ago."""
        return Stamp((self.exchange.now_ms() or 0) - age_ms, 5000)

    async def known(self, order: Order) -> OrderReport:
        """What the exchange says of an order that it has."""
        report = await self.exchange.look_up(order)
        assert report is not None
        return report


class VenueBroker(Broker):
    """One whose exchange keeps orders of its own, and may refuse them, lose its answers, or be busy."""

    @abstractmethod
    def never_came(self, order: Order) -> None:
        """Have this order be none of the exchange's, where that has to be said."""

    @abstractmethod
    def spend_everything(self) -> None:
        """Leave the account nothing to buy from."""

    @abstractmethod
    def revoke_keys(self) -> None:
        """Have the account's keys refused from now on."""

    @abstractmethod
    def be_busy(self) -> None:
        """Take no order the next time."""

    @abstractmethod
    def lose_next_answer(self, order: Order, executed: bool) -> None:
        """Let nobody hear what becomes of this order when it is placed, and whether it is carried out."""

    @abstractmethod
    def count(self, order: Order) -> int:
        """How many orders the exchange ever took under this one's client id."""


class FakeBroker(VenueBroker):
    """At the exchange that pipelines are tested on, which has to be told what becomes of an order."""

    def __init__(self, market: Market) -> None:
        self._fake = FakeExchange(FakeClock())
        super().__init__(self._fake, market, "testnet")

    def never_came(self, order: Order) -> None:
        self._fake.unheard_of.add(order.client_order_id)

    def spend_everything(self) -> None:
        self._fake.break_next("place", Rejected("insufficient_balance", "The account cannot pay for it."))

    def revoke_keys(self) -> None:
        for verb in ("place", "look_up"):
            self._fake.break_next(verb, Rejected("keys_rejected", "The exchange refused the key."))

    def be_busy(self) -> None:
        self._fake.break_next("place", Transient("the exchange takes no orders now"))

    def lose_next_answer(self, order: Order, executed: bool) -> None:
        self._fake.lose_answer("place")
        if not executed:
            self._fake.unheard_of.add(order.client_order_id)

    def count(self, order: Order) -> int:
        return self._fake.taken[order.client_order_id]


class SandboxBroker(VenueBroker):
    """At the sandbox's exchange through ccxt."""

    def __init__(self, exchange: Exchange, market: Market, project: Project, api_key: str) -> None:
        super().__init__(exchange, market, "testnet")
        self._project = project
        self._api_key = api_key

    def never_came(self, order: Order) -> None:
        assert self.count(order) == 0

    def spend_everything(self) -> None:
        self._project.venue("POST", "balance", {"apiKey": self._api_key, "asset": "USDT", "free": "0"})

    def revoke_keys(self) -> None:
        self._project.venue("POST", "keys", {"apiKey": self._api_key, "revoked": True})

    def be_busy(self) -> None:
        self._fault(kind="status", status=400, code=-1015, execute=False)

    def lose_next_answer(self, order: Order, executed: bool) -> None:
        self._fault(kind="drop", execute=executed)

    def count(self, order: Order) -> int:
        orders = self._project.venue("GET", "ledger").json()["orders"]
        return [one["clientOrderId"] for one in orders].count(order.client_order_id)

    def _fault(self, **told: Any) -> None:
        self._project.venue("POST", "faults", {"method": "POST", "path": ORDERS, "times": 1, **told})


B = TypeVar("B", bound=Broker)
Scenario = Callable[[B], Coroutine[Any, Any, None]]
Floor = Callable[[Scenario[Broker]], None]
"""Runs a scenario at its exchange."""
VenueFloor = Callable[[Scenario[VenueBroker]], None]


def fake_floor(scenario: Scenario[Any]) -> None:
    """At the exchange that pipelines are tested on."""

    async def on_market(market: Market) -> None:
        await scenario(FakeBroker(market))

    fake_venue(on_market)


def paper_floor(project: Project | None) -> Floor:
    """On paper, with a market in memory or the sandbox's."""

    def run(scenario: Scenario[Broker]) -> None:
        async def on_market(market: Market) -> None:
            await scenario(Broker(PaperExchange(market, SystemClock()), market, "paper"))

        (fake_venue if project is None else sandbox_venue(project))(on_market)

    return run


def venue_floor(project: Project) -> Callable[[Scenario[Any]], None]:
    """At the sandbox's exchange through ccxt, under a key of its own."""

    def run(scenario: Scenario[Any]) -> None:
        api_key, secret = secrets.token_hex(32), secrets.token_hex(32)
        project.venue("POST", "accounts", {"apiKey": api_key, "secret": secret, "balances": {"USDT": "100000"}})

        async def on_market(market: Market) -> None:
            assert isinstance(market, CcxtMarket)
            keyring, account = FakeKeyring(), specimens.account(mode="testnet")
            keyring.store(Account(account.user_id, "testnet"), api_key, secret)
            exchange = CcxtExchange("testnet", market, keyring, SystemClock())
            try:
                await scenario(SandboxBroker(exchange, market, project, api_key))
            finally:
                await exchange.close()
                project.venue("DELETE", "faults")

        sandbox_venue(project)(on_market)

    return run
