"""Paper trading: the real book, no memory of its own, and the fee in USDT."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streams.domain.errors import Broken, Transient
from streams.domain.order import Order, OrderReport, Stamp
from tests.domain import specimens
from tests.streams.fakes import Book, FakeClock, FakeMarket
from tests.streams.virtual_loop import in_virtual_time
from worker.adapters.paper_exchange import PaperExchange

STAMP = Stamp(0, 1000)


class Venue:
    """A paper exchange on a book that a test writes."""

    def __init__(self, *asks: tuple[str, str]) -> None:
        self.market = FakeMarket()
        self.bids: tuple[tuple[str, str], ...] = ()
        self.exchange = PaperExchange(self.market, FakeClock())
        self.offer(*asks)

    def offer(self, *asks: tuple[str, str]) -> None:
        """Put these asks into the book, and nothing else."""

        async def book(symbol: str) -> Book:
            return Book(symbol, specimens.levels(*self.bids), specimens.levels(*asks))

        self.market.book = book


def order(**changes: Any) -> Order:
    """A limit order of one BTC at 100, with all of it reserved."""
    return specimens.order(**changes)


def bought(report: OrderReport) -> Decimal:
    """The quantity of a report's fills."""
    return sum((fill.quantity for fill in report.fills), Decimal(0))


@in_virtual_time
async def test_what_may_be_spent_is_what_is_not_reserved() -> None:
    brief = specimens.brief(paper={"current": "1000", "available": "400"})
    funds = await Venue().exchange.funds(brief)
    assert (funds.balance, funds.fee_rate) == (400, Decimal("0.001"))


@in_virtual_time
async def test_without_a_book_to_fill_from_there_is_nothing_to_spend_yet() -> None:
    market = FakeMarket()
    market.take_down("book")
    with pytest.raises(Transient):
        await PaperExchange(market, FakeClock()).funds(specimens.brief())


@in_virtual_time
async def test_a_user_without_a_paper_balance_is_an_alarm() -> None:
    with pytest.raises(Broken):
        await Venue().exchange.funds(specimens.brief(paper=None))


@in_virtual_time
async def test_an_order_that_the_book_covers_is_filled_level_by_level() -> None:
    report = await Venue(("99", "0.4"), ("100", "5")).exchange.place(order())
    assert (report.status, report.failure_code) == ("filled", None)
    assert [(fill.price, fill.quantity) for fill in report.fills] == [(99, Decimal("0.4")), (100, Decimal("0.6"))]
    assert all(fill.fee == fill.fee_usdt == fill.value / 1000 for fill in report.fills)
    assert {fill.fee_asset for fill in report.fills} == {"USDT"}


@in_virtual_time
async def test_the_rest_of_a_limit_order_rests() -> None:
    part = await Venue(("100", "0.4"), ("101", "5")).exchange.place(order())
    assert (part.status, bought(part)) == ("partially_filled", Decimal("0.4"))
    nothing = await Venue(("101", "5")).exchange.place(order())
    assert (nothing.status, nothing.fills, nothing.failure_code) == ("submitted", (), None)


@in_virtual_time
async def test_the_rest_of_a_bounded_order_expires() -> None:
    part = await Venue(("100", "0.4"), ("101", "5")).exchange.place(order(time_in_force="IOC"))
    assert (part.status, bought(part), part.failure_code) == ("expired", Decimal("0.4"), None)
    nothing = await Venue(("101", "5")).exchange.place(order(time_in_force="IOC"))
    assert (nothing.status, nothing.failure_code) == ("expired", "entry_not_filled")
    assert nothing.failure_reason
    assert "100" in nothing.failure_reason


@in_virtual_time
async def test_a_market_order_takes_what_its_reservation_pays() -> None:
    report = await Venue(("100", "0.5"), ("300", "5")).exchange.place(
        order(type="market", time_in_force=None, price=None, reserved="105")
    )
    assert report.status == "expired"
    assert Decimal("0.5") < bought(report) < 1
    assert sum(fill.value + fill.fee_usdt for fill in report.fills) <= 105


@in_virtual_time
async def test_an_order_at_rest_fills_at_its_own_price_when_the_market_comes_to_it() -> None:
    venue = Venue(("101", "5"))
    resting = order(status="submitted")
    assert (await venue.exchange.look_up(resting)).status == "submitted"
    venue.offer(("98", "0.4"))
    part = await venue.exchange.look_up(resting)
    assert (part.status, [fill.price for fill in part.fills]) == ("partially_filled", [100])
    rest = await venue.exchange.look_up(resting.after(part))
    assert (rest.status, bought(rest)) == ("partially_filled", Decimal("0.4"))
    last = await venue.exchange.look_up(resting.after(part).after(rest))
    assert (last.status, bought(last)) == ("filled", Decimal("0.2"))
    names = [fill.exchange_trade_id for report in (part, rest, last) for fill in report.fills]
    assert len(set(names)) == 3


@in_virtual_time
async def test_an_order_placed_anew_has_fills_of_the_same_names() -> None:
    venue = Venue(("99", "5"))
    first, second = await venue.exchange.place(order()), await venue.exchange.place(order())
    assert first == second  # so that booked twice, it is booked once


@in_virtual_time
async def test_every_report_says_which_fills_it_was_made_up_from() -> None:
    venue = Venue(("100", "0.1"))
    known = order(status="partially_filled", filled_quantity="0.4", fills=3)
    assert (await venue.exchange.look_up(known)).known_fills == 3
    assert (await venue.exchange.cancel(known, STAMP)).known_fills == 3
    assert (await venue.exchange.place(order())).known_fills == 0


@in_virtual_time
async def test_a_cancel_ends_what_rests_and_keeps_what_was_filled() -> None:
    venue = Venue()
    bare = await venue.exchange.cancel(order(status="submitted"), STAMP)
    assert (bare.status, bare.fills, bare.failure_code) == ("cancelled", (), "entry_not_filled")
    filled = await venue.exchange.cancel(order(status="partially_filled", filled_quantity="0.4", fills=1), STAMP)
    assert (filled.status, filled.fills, filled.failure_code) == ("cancelled", (), None)


@in_virtual_time
async def test_a_sale_walks_the_bids() -> None:
    venue = Venue()
    venue.bids = (("101", "0.4"), ("100", "5"))
    report = await venue.exchange.place(order(side="sell", type="market", price=None, purpose="exit"))
    assert [(fill.price, fill.quantity) for fill in report.fills] == [(101, Decimal("0.4")), (100, Decimal("0.6"))]
    assert report.status == "filled"


@in_virtual_time
async def test_a_stop_is_met_by_a_price_of_a_moment_and_sold_into_the_next_book() -> None:
    venue = Venue()
    venue.bids = (("97", "5"),)
    stop = order(side="sell", type="stop_loss", price=None, stop_price="98", purpose="stop_loss")
    told: list[str | None] = []
    venue.exchange.listen(stop.account, lambda name, _: told.append(name))
    assert (await venue.exchange.place(stop)).status == "submitted"
    resting = stop.model_copy(update={"status": "submitted"})
    venue.market.tick("BTC/USDT", "99")
    assert (await venue.exchange.look_up(resting)).status == "submitted"
    venue.market.tick("BTC/USDT", "97.9", "99")
    assert told == [stop.client_order_id]
    (fill,) = (await venue.exchange.look_up(resting)).fills
    assert fill.price == 97


@pytest.mark.parametrize("mode", ["testnet", "live"])
@in_virtual_time
async def test_an_order_of_another_mode_is_turned_away(mode: str) -> None:
    venue = Venue(("100", "5"))
    real = order(mode=mode)
    for ask in (venue.exchange.place(real), venue.exchange.look_up(real), venue.exchange.cancel(real, STAMP)):
        with pytest.raises(Broken, match=mode):
            await ask
