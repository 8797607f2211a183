"""What every market says: the one in memory, and Binance's as ccxt hands it over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from functools import wraps
from itertools import pairwise
from typing import Any

import pytest

from streams.domain.errors import Refused
from streams.ports import Market
from tests.contract.venues import Venue, fake_venue, sandbox_venue
from tests.end_to_end.product import Project

SYMBOL = "BTC/USDT"
Scenario = Callable[[Market], Coroutine[Any, Any, None]]


@pytest.fixture(params=["fake", "venue"])
def venue(request: pytest.FixtureRequest) -> Venue:
    """Each market in turn; the sandbox is started for the real one alone."""
    if request.param == "fake":
        return fake_venue
    project: Project = request.getfixturevalue("project")
    return sandbox_venue(project)


def contract(scenario: Scenario) -> Callable[[Venue], None]:
    """Make a test of a scenario."""

    @wraps(scenario)
    def test(venue: Venue) -> None:
        venue(scenario)

    return test


# The parameter is named as the fixture that makes the market.


@contract
async def test_rules_are_exact_and_make_sense(venue: Market) -> None:
    rules = venue.rules(SYMBOL)
    assert (rules.symbol, rules.base, rules.quote, rules.trading) == (SYMBOL, "BTC", "USDT", True)
    for amount in (rules.tick, rules.step, rules.min_quantity, rules.max_quantity, rules.min_notional):
        assert isinstance(amount, Decimal)
        assert amount > 0
    assert rules.min_quantity % rules.step == 0
    assert rules.min_quantity < rules.max_quantity


@contract
async def test_a_symbol_that_is_not_listed_is_refused(venue: Market) -> None:
    with pytest.raises(Refused) as refused:
        venue.rules("NONE/USDT")
    assert refused.value.code == "unknown_symbol"
    assert "NONE/USDT" in refused.value.reason


@contract
async def test_a_quote_is_a_bid_and_an_ask_on_the_tick(venue: Market) -> None:
    quote, tick = await venue.quote(SYMBOL), venue.rules(SYMBOL).tick
    assert quote.symbol == SYMBOL
    assert 0 < quote.bid <= quote.ask
    assert quote.bid % tick == quote.ask % tick == 0


@contract
async def test_a_book_is_best_first_on_both_sides(venue: Market) -> None:
    book, rules = await venue.book(SYMBOL), venue.rules(SYMBOL)
    assert book.symbol == SYMBOL
    assert all(lower.price < higher.price for lower, higher in pairwise(book.asks))
    assert all(higher.price > lower.price for higher, lower in pairwise(book.bids))
    assert 0 < book.bids[0].price <= book.asks[0].price
    for level in (*book.bids, *book.asks):
        assert level.price % rules.tick == level.quantity % rules.step == 0
        assert level.quantity > 0


@contract
async def test_quote_and_book_speak_of_the_same_market(venue: Market) -> None:
    quote, book = await asyncio.gather(venue.quote(SYMBOL), venue.book(SYMBOL))
    assert abs(quote.ask / book.asks[0].price - 1) < Decimal("0.01")
    assert abs(quote.bid / book.bids[0].price - 1) < Decimal("0.01")
