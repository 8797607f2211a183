"""What every exchange makes of orders: the one pipelines are tested on, paper trading, and Binance's through ccxt."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import wraps

import pytest

from streams.domain.money import ZERO
from streams.domain.order import Order, OrderReport
from tests.contract.brokers import ABOVE, Broker, Floor, Scenario, fake_floor, paper_floor, venue_floor
from tests.domain import specimens
from tests.end_to_end.product import Project

BELOW = Decimal("0.5")


@pytest.fixture(params=["fake", "paper on a fake market", "paper", "venue"])
def floor(request: pytest.FixtureRequest) -> Floor:
    """Each exchange in turn; the sandbox is started for the real ones alone."""
    if request.param == "fake":
        return fake_floor
    if request.param == "paper on a fake market":
        return paper_floor(None)
    project: Project = request.getfixturevalue("project")
    return paper_floor(project) if request.param == "paper" else venue_floor(project)


@pytest.fixture(params=["fake", "sandbox"])
def paper(request: pytest.FixtureRequest) -> Floor:
    """Paper on each market: what follows from its having no memory but the row."""
    return paper_floor(None if request.param == "fake" else request.getfixturevalue("project"))


@pytest.fixture(params=["fake", "venue"])
def venue(request: pytest.FixtureRequest) -> Floor:
    """Exchanges that keep orders of their own, which may be asked for."""
    return fake_floor if request.param == "fake" else venue_floor(request.getfixturevalue("project"))


def contract(scenario: Scenario) -> Callable[[Floor], None]:
    """Make a test of a scenario at every exchange."""

    @wraps(scenario)
    def test(floor: Floor) -> None:
        floor(scenario)

    return test


def on_paper(scenario: Scenario) -> Callable[[Floor], None]:
    """Make a test of what is promised of paper alone."""

    @wraps(scenario)
    def test(paper: Floor) -> None:
        paper(scenario)

    return test


def at_a_venue(scenario: Scenario) -> Callable[[Floor], None]:
    """Make a test of what is promised where orders outlive the asking."""

    @wraps(scenario)
    def test(venue: Floor) -> None:
        venue(scenario)

    return test


# The parameter is named as the fixture that makes the broker.


@contract
async def test_a_limit_above_the_market_is_filled_at_the_markets_prices(floor: Broker) -> None:
    order = await floor.order(ABOVE)
    report = await floor.exchange.place(order)
    assert (report.status, report.ended) == ("filled", True)
    assert report.exchange_order_id
    _assert_sound(order, report)
    assert order.after(report).remaining == ZERO


@contract
async def test_a_market_order_is_filled(floor: Broker) -> None:
    order = await floor.order(None, None)
    report = await floor.exchange.place(order)
    assert report.status == "filled"
    _assert_sound(order, report)


@contract
async def test_a_limit_below_the_market_rests_until_it_is_cancelled(floor: Broker) -> None:
    order = await floor.order(BELOW)
    report = await floor.exchange.place(order)
    assert (report.status, report.ended, report.fills) == ("submitted", False, ())
    resting = order.after(report)
    seen = await floor.known(resting)
    assert (seen.status, seen.fills) == ("submitted", ())
    for cancelled in [await floor.exchange.cancel(resting, floor.stamp()) for _again in range(2)]:
        assert cancelled is not None
        assert (cancelled.status, cancelled.ended, cancelled.fills) == ("cancelled", True, ())
        assert cancelled.failure_code == "entry_not_filled"
        assert cancelled.failure_reason is not None
        assert cancelled.failure_reason.endswith(".")
        assert report.exchange_order_id == seen.exchange_order_id == cancelled.exchange_order_id


@contract
async def test_one_that_may_not_rest_expires(floor: Broker) -> None:
    report = await floor.exchange.place(await floor.order(BELOW, "IOC"))
    assert (report.status, report.ended, report.fills) == ("expired", True, ())
    assert report.failure_code == "entry_not_filled"


@contract
async def test_who_stops_listening_is_told_nothing_more(floor: Broker) -> None:
    told: list[str | None] = []
    floor.exchange.listen(floor.account, told.append)()
    await floor.exchange.place(await floor.order(ABOVE))
    assert told == []


@contract
async def test_what_an_entry_may_spend_is_told_with_the_fee(floor: Broker) -> None:
    brief = specimens.brief(user_id=floor.account.user_id, mode=floor.account.mode)
    funds = await floor.exchange.funds(brief)
    assert funds.balance > ZERO
    assert funds.fee_rate == Decimal("0.001")
    assert funds.at_venue == (floor.account.mode != "paper")


@at_a_venue
async def test_an_order_looked_up_is_told_as_its_placing_told_it(venue: Broker) -> None:
    order = await venue.order(ABOVE)
    placed = await venue.exchange.place(order)
    for known in (order, order.after(placed)):
        seen = await venue.known(known)
        assert known.after(seen) == order.after(placed)
        assert seen.exchange_order_id == placed.exchange_order_id
        assert {fill.exchange_trade_id for fill in seen.fills} <= {fill.exchange_trade_id for fill in placed.fills}


@at_a_venue
async def test_an_order_that_never_came_is_unknown_to_it(venue: Broker) -> None:
    order = await venue.order(ABOVE)
    venue.never_came(order)
    assert await venue.exchange.look_up(order) is None
    assert await venue.exchange.cancel(order, venue.stamp()) is None


@at_a_venue
async def test_a_venue_has_a_clock(venue: Broker) -> None:
    assert venue.exchange.now_ms() is not None


@on_paper
async def test_what_is_reserved_is_never_overspent(paper: Broker) -> None:
    order = await paper.order(None, None)
    poor = order.model_copy(update={"reserved": order.reserved / 2})
    report = await paper.exchange.place(poor)
    assert report.status == "expired"
    assert report.fills
    assert report.failure_code is None
    assert sum(fill.value + fill.fee_usdt for fill in report.fills) <= poor.reserved
    _assert_sound(poor, report)


@on_paper
async def test_one_at_rest_fills_at_its_own_price_when_the_market_is_there(paper: Broker) -> None:
    order = await paper.order(ABOVE, status="submitted")
    report = await paper.exchange.look_up(order)
    assert report is not None
    assert report.status == "filled"
    _assert_sound(order, report)
    assert {fill.price for fill in report.fills} == {order.price}


@on_paper
async def test_what_was_filled_before_a_cancel_is_no_failure(paper: Broker) -> None:
    order = await paper.order(BELOW, status="partially_filled", filled_quantity="0.004", total_value="1", fills=1)
    report = await paper.exchange.cancel(order, paper.stamp())
    assert report is not None
    assert (report.status, report.fills, report.failure_code) == ("cancelled", (), None)


def _assert_sound(order: Order, report: OrderReport) -> None:
    """Fills are exact, each has its own id, none is worse than the limit."""
    assert len({fill.exchange_trade_id for fill in report.fills}) == len(report.fills)
    for fill in report.fills:
        assert fill.quantity > ZERO
        assert order.price is None or fill.price <= order.price
        assert fill.value == fill.price * fill.quantity
        part, worth = (fill.value, fill.fee) if fill.fee_asset == "USDT" else (fill.quantity, fill.fee * fill.price)
        assert fill.fee == part / 1000
        assert fill.fee_usdt == worth
