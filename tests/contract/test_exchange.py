"""What an exchange makes of orders: paper trading, on a market in memory and on Binance's as ccxt hands it over."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from decimal import Decimal
from functools import wraps
from typing import Any
from uuid import uuid4

import pytest

from streams.domain.money import ZERO, floor_to
from streams.domain.order import Order, OrderReport, Stamp
from streams.ports import Exchange, Market
from tests.contract.venues import Venue, fake_venue, sandbox_venue
from tests.domain import specimens
from tests.end_to_end.product import Project
from worker.adapters.clock import SystemClock
from worker.adapters.paper_exchange import PaperExchange

SYMBOL = "BTC/USDT"
QUANTITY = Decimal("0.01")
ABOVE, BELOW = Decimal("1.01"), Decimal("0.5")
STAMP = Stamp(0, 1000)


@pytest.fixture(params=["fake", "venue"])
def venue(request: pytest.FixtureRequest) -> Venue:
    """Each market in turn; the sandbox is started for the real one alone."""
    if request.param == "fake":
        return fake_venue
    project: Project = request.getfixturevalue("project")
    return sandbox_venue(project)


class Broker:
    """An exchange, and orders for it as they stand to its market."""

    def __init__(self, market: Market) -> None:
        self.exchange: Exchange = PaperExchange(market, SystemClock())
        self._market = market

    async def order(self, times_the_ask: Decimal | None, time_in_force: str | None = "GTC", **changes: Any) -> Order:
        """An entry at so many times the best ask, or at market; what it may cost is reserved."""
        ask = (await self._market.quote(SYMBOL)).ask
        price = None if times_the_ask is None else floor_to(ask * times_the_ask, self._market.rules(SYMBOL).tick)
        worst = (price or ask * ABOVE) * QUANTITY * Decimal("1.001")
        ours: dict[str, Any] = {"id": uuid4(), "type": "market" if price is None else "limit", "symbol": SYMBOL}
        terms = {"time_in_force": time_in_force, "quantity": QUANTITY, "price": price, "reserved": worst}
        return specimens.order(**(ours | terms | changes))


def contract(scenario: Callable[[Broker], Coroutine[Any, Any, None]]) -> Callable[[Venue], None]:
    """Make a test of a scenario."""

    async def on_market(market: Market) -> None:
        await scenario(Broker(market))

    @wraps(scenario)
    def test(venue: Venue) -> None:
        venue(on_market)

    return test


# The parameter is named as the fixture that makes the broker's market.


@contract
async def test_a_limit_above_the_market_is_filled_at_the_markets_prices(venue: Broker) -> None:
    order = await venue.order(ABOVE)
    report = await venue.exchange.place(order)
    assert (report.status, report.ended) == ("filled", True)
    assert report.exchange_order_id
    _assert_sound(order, report)
    assert sum(fill.quantity for fill in report.fills) == QUANTITY


@contract
async def test_a_market_order_is_filled_within_what_is_reserved(venue: Broker) -> None:
    order = await venue.order(None, None)
    report = await venue.exchange.place(order)
    assert report.status == "filled"
    _assert_sound(order, report)


@contract
async def test_what_is_reserved_is_never_overspent(venue: Broker) -> None:
    order = await venue.order(None, None)
    poor = order.model_copy(update={"reserved": order.reserved / 2})
    report = await venue.exchange.place(poor)
    assert report.status == "expired"
    assert report.fills
    assert report.failure_code is None
    _assert_sound(poor, report)


@contract
async def test_a_limit_below_the_market_rests_until_it_is_cancelled(venue: Broker) -> None:
    order = await venue.order(BELOW)
    report = await venue.exchange.place(order)
    assert (report.status, report.ended, report.fills) == ("submitted", False, ())
    resting = order.after(report)
    seen = await venue.exchange.look_up(resting)
    assert seen is not None
    assert (seen.status, seen.fills) == ("submitted", ())
    cancelled = await venue.exchange.cancel(resting, STAMP)
    assert cancelled is not None
    assert (cancelled.status, cancelled.ended, cancelled.fills) == ("cancelled", True, ())
    assert cancelled.failure_code == "entry_not_filled"
    assert cancelled.failure_reason is not None
    assert cancelled.failure_reason.endswith(".")
    assert report.exchange_order_id == seen.exchange_order_id == cancelled.exchange_order_id


@contract
async def test_one_that_may_not_rest_expires(venue: Broker) -> None:
    report = await venue.exchange.place(await venue.order(BELOW, "IOC"))
    assert (report.status, report.ended, report.fills) == ("expired", True, ())
    assert report.failure_code == "entry_not_filled"


@contract
async def test_one_at_rest_fills_at_its_own_price_when_the_market_is_there(venue: Broker) -> None:
    order = await venue.order(ABOVE, status="submitted")
    report = await venue.exchange.look_up(order)
    assert report is not None
    assert report.status == "filled"
    _assert_sound(order, report)
    assert {fill.price for fill in report.fills} == {order.price}


@contract
async def test_what_was_filled_before_a_cancel_is_no_failure(venue: Broker) -> None:
    order = await venue.order(BELOW, status="partially_filled", filled_quantity="0.004", total_value="1", fills=1)
    report = await venue.exchange.cancel(order, STAMP)
    assert report is not None
    assert (report.status, report.fills, report.failure_code) == ("cancelled", (), None)


def _assert_sound(order: Order, report: OrderReport) -> None:
    """No more than was ordered and reserved, no price beyond the limit, each fill known by an id of its own."""
    assert sum(fill.quantity for fill in report.fills) <= order.quantity
    assert sum(fill.value + fill.fee_usdt for fill in report.fills) <= order.reserved
    assert len({fill.exchange_trade_id for fill in report.fills}) == len(report.fills)
    for fill in report.fills:
        assert fill.quantity > ZERO
        assert order.price is None or fill.price <= order.price
        assert fill.value == fill.price * fill.quantity
        assert (fill.fee, fill.fee_asset) == (fill.value / 1000, "USDT")
        assert fill.fee == fill.fee_usdt
