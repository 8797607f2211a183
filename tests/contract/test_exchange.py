"""What every exchange makes of orders: the one pipelines are tested on, paper trading, and Binance's through ccxt."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import wraps

import pytest

from streams.domain.errors import Rejected, Transient, Unknown
from streams.domain.money import ZERO
from streams.domain.order import Order, OrderReport
from tests.contract.brokers import (
    ABOVE,
    Broker,
    Floor,
    Scenario,
    VenueBroker,
    VenueFloor,
    fake_floor,
    paper_floor,
    venue_floor,
)
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
def venue(request: pytest.FixtureRequest) -> VenueFloor:
    """Exchanges that keep orders of their own, which may be asked for.

    Paper has none of this: it knows an order by its row alone, always answers, and asks for no key and no window.
    """
    return fake_floor if request.param == "fake" else venue_floor(request.getfixturevalue("project"))


def contract(scenario: Scenario[Broker]) -> Callable[[Floor], None]:
    """Make a test of a scenario at every exchange."""

    @wraps(scenario)
    def test(floor: Floor) -> None:
        floor(scenario)

    return test


def on_paper(scenario: Scenario[Broker]) -> Callable[[Floor], None]:
    """Make a test of what is promised of paper alone."""

    @wraps(scenario)
    def test(paper: Floor) -> None:
        paper(scenario)

    return test


def at_a_venue(scenario: Scenario[VenueBroker]) -> Callable[[VenueFloor], None]:
    """Make a test of what is promised where orders outlive the asking."""

    @wraps(scenario)
    def test(venue: VenueFloor) -> None:
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
    floor.exchange.listen(floor.account, lambda name, _: told.append(name))()
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
async def test_an_order_looked_up_is_told_as_its_placing_told_it(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    placed = await venue.exchange.place(order)
    for known in (order, order.after(placed)):
        seen = await venue.known(known)
        assert known.after(seen) == order.after(placed)
        assert seen.exchange_order_id == placed.exchange_order_id
        assert {fill.exchange_trade_id for fill in seen.fills} <= {fill.exchange_trade_id for fill in placed.fills}


@at_a_venue
async def test_an_order_that_never_came_is_unknown_to_it(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    venue.never_came(order)
    assert await venue.exchange.look_up(order) is None
    assert await venue.exchange.cancel(order, venue.stamp()) is None


@at_a_venue
async def test_each_order_answers_to_its_own_client_id(venue: VenueBroker) -> None:
    bought, resting = await venue.order(ABOVE), await venue.order(BELOW)
    placed = [await venue.exchange.place(order) for order in (bought, resting)]
    for _again in range(2):
        seen = [await venue.known(order) for order in (bought, resting)]
        assert [report.status for report in seen] == ["filled", "submitted"]
        assert [report.exchange_order_id for report in seen] == [report.exchange_order_id for report in placed]
    await venue.exchange.cancel(resting.after(placed[1]), venue.stamp())
    assert (await venue.known(bought.after(placed[0]))).status == "filled"
    assert [venue.count(order) for order in (bought, resting)] == [1, 1]


@at_a_venue
async def test_an_id_that_rests_already_is_in_doubt_and_not_doubled(venue: VenueBroker) -> None:
    order = await venue.order(BELOW)
    await venue.exchange.place(order)
    with pytest.raises(Unknown):
        await venue.exchange.place(order)
    assert venue.count(order) == 1


@at_a_venue
async def test_a_cancel_that_comes_too_late_tells_the_fills(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    placed = await venue.exchange.place(order)
    late = await venue.exchange.cancel(order.after(placed), venue.stamp())
    assert late is not None
    assert (late.status, late.failure_code) == ("filled", None)
    assert order.after(placed).after(late) == order.after(placed)


@at_a_venue
async def test_a_cancel_whose_window_is_over_cancels_nothing(venue: VenueBroker) -> None:
    order = await venue.order(BELOW)
    resting = order.after(await venue.exchange.place(order))
    with pytest.raises(Transient):
        await venue.exchange.cancel(resting, venue.stamp(age_ms=10_000))
    assert (await venue.known(resting)).status == "submitted"


@at_a_venue
async def test_an_order_whose_window_is_over_is_not_sent(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    late = order.model_copy(update={"signed_at_ms": order.signed_at_ms - order.recv_window_ms - 1})
    with pytest.raises(Rejected) as raised:
        await venue.exchange.place(late)
    assert raised.value.code == "entry_not_accepted"
    assert venue.count(late) == 0


@at_a_venue
async def test_an_order_that_cannot_be_paid_is_rejected_for_it(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    venue.spend_everything()
    with pytest.raises(Rejected) as raised:
        await venue.exchange.place(order)
    assert raised.value.code == "insufficient_balance"
    assert raised.value.reason.endswith(".")
    assert venue.count(order) == 0


@at_a_venue
async def test_keys_that_were_revoked_place_nothing_and_look_at_nothing(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    venue.revoke_keys()
    for ask in (venue.exchange.place, venue.exchange.look_up):
        with pytest.raises(Rejected) as raised:
            await ask(order)
        assert raised.value.code == "keys_rejected"
    assert venue.count(order) == 0


@at_a_venue
async def test_an_exchange_that_takes_no_orders_now_surely_placed_none(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    venue.be_busy()
    with pytest.raises(Transient):
        await venue.exchange.place(order)
    assert venue.count(order) == 0
    assert (await venue.exchange.place(await venue.order(ABOVE))).status == "filled"


@at_a_venue
async def test_an_order_whose_answer_was_lost_is_in_doubt_until_it_is_found(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    venue.lose_next_answer(order, executed=True)
    with pytest.raises(Unknown):
        await venue.exchange.place(order)
    found = await venue.known(order)
    assert found.status == "filled"
    _assert_sound(order, found)
    assert venue.count(order) == 1


@at_a_venue
async def test_an_order_lost_on_its_way_is_in_doubt_and_never_found(venue: VenueBroker) -> None:
    order = await venue.order(ABOVE)
    venue.lose_next_answer(order, executed=False)
    with pytest.raises(Unknown):
        await venue.exchange.place(order)
    assert await venue.exchange.look_up(order) is None
    assert venue.count(order) == 0


@at_a_venue
async def test_a_venue_has_a_clock(venue: VenueBroker) -> None:
    assert venue.exchange.now_ms() is not None


@on_paper
async def test_paper_has_no_clock_and_knows_no_window(paper: Broker) -> None:
    assert paper.exchange.now_ms() is None
    assert (await paper.exchange.place(await paper.order(ABOVE, signed_at_ms=0, recv_window_ms=1))).status == "filled"


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
