"""One way to try an exchange, whatever stands behind it: orders as they stand to its market."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any
from uuid import uuid4

from streams.domain.account import Account
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
            "user_id": self.account.user_id,
            "mode": self.account.mode,
            "client_order_id": client_order_id(uuid4(), "entry"),
            "type": "market" if price is None else "limit",
            "symbol": SYMBOL,
            "signed_at_ms": self.exchange.now_ms() or 0,
        }
        terms = {"time_in_force": time_in_force, "quantity": QUANTITY, "price": price, "reserved": worst}
        return specimens.order(**(ours | terms | changes))

    def stamp(self) -> Stamp:
        """Of this moment."""
        return Stamp(self.exchange.now_ms() or 0, 5000)

    def never_came(self, order: Order) -> None:
        """Whoever keeps no orders has to be told which one it does not know."""
        if isinstance(self.exchange, FakeExchange):
            self.exchange.unheard_of.add(order.client_order_id)

    async def known(self, order: Order) -> OrderReport:
        """What the exchange says of an order that it has."""
        report = await self.exchange.look_up(order)
        assert report is not None
        return report


Scenario = Callable[[Broker], Coroutine[Any, Any, None]]
Floor = Callable[[Scenario], None]
"""Runs a scenario at its exchange."""


def fake_floor(scenario: Scenario) -> None:
    """At the exchange that pipelines are tested on."""

    async def on_market(market: Market) -> None:
        await scenario(Broker(FakeExchange(FakeClock()), market, "testnet"))

    fake_venue(on_market)


def paper_floor(project: Project | None) -> Floor:
    """On paper, with a market in memory or the sandbox's."""

    def run(scenario: Scenario) -> None:
        async def on_market(market: Market) -> None:
            await scenario(Broker(PaperExchange(market, SystemClock()), market, "paper"))

        (fake_venue if project is None else sandbox_venue(project))(on_market)

    return run


def venue_floor(project: Project) -> Floor:
    """At the sandbox's exchange through ccxt, under a key of its own."""

    def run(scenario: Scenario) -> None:
        api_key, secret = secrets.token_hex(32), secrets.token_hex(32)
        project.venue("POST", "accounts", {"apiKey": api_key, "secret": secret, "balances": {"USDT": "100000"}})

        async def on_market(market: Market) -> None:
            assert isinstance(market, CcxtMarket)
            keyring, account = FakeKeyring(), specimens.account(mode="testnet")
            keyring.store(Account(account.user_id, "testnet"), api_key, secret)
            exchange = CcxtExchange("testnet", market, keyring, SystemClock())
            try:
                await scenario(Broker(exchange, market, "testnet"))
            finally:
                await exchange.close()

        sandbox_venue(project)(on_market)

    return run
