"""Prices, books, trades and candles follow from seed and time alone, and look like a market's."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from sandbox.venue.candles import INTERVALS, candles
from sandbox.venue.exchange import Venue
from sandbox.venue.fixed_point import ONE, decimal, exact, text
from sandbox.venue.listing import listing
from tests.sandbox.venue_client import MOMENT, SEED, Hands

DAY = 86_400_000


def test_two_venues_of_one_seed_show_the_same_market_at_the_same_moment() -> None:
    one, other = (Venue(SEED, now_ms=Hands()) for _ in range(2))
    stranger = Venue(SEED + 1, now_ms=Hands())
    for symbol, market in one.markets.items():
        assert market.book() == other.markets[symbol].book()
        assert market.trades(limit=20) == other.markets[symbol].trades(limit=20)
        assert market.book() != stranger.markets[symbol].book()


def test_a_price_does_not_depend_on_what_was_asked_before() -> None:
    market = Venue(SEED, now_ms=Hands()).markets["ETHUSDT"]
    moments = [MOMENT + step * 777 for step in range(200)]
    forwards = [market.price(moment) for moment in moments]
    assert [market.price(moment) for moment in reversed(moments)] == forwards[::-1]


def test_prices_move_every_few_seconds_and_keep_coming_back_to_their_reference() -> None:
    market = Venue(SEED, now_ms=Hands()).markets["BTCUSDT"]
    near = {market.price(MOMENT + second * 1000) for second in range(60)}
    assert len(near) > 30
    reference = market.instrument.reference
    far = [market.price(MOMENT + day * DAY) for day in range(1000)]
    assert all(reference * 7 // 10 < price < reference * 13 // 10 for price in far)
    assert min(far) < reference < max(far)


def test_every_listed_book_is_ordered_and_on_tick_and_step() -> None:
    for market in Venue(SEED, 60, now_ms=Hands()).markets.values():
        instrument, book = market.instrument, market.book()
        assert [price for price, _ in book.bids] == sorted({price for price, _ in book.bids}, reverse=True)
        assert [price for price, _ in book.asks] == sorted({price for price, _ in book.asks})
        assert 0 < book.asks[0][0] - book.bids[0][0] <= 3 * instrument.tick
        for price, quantity in book.bids + book.asks:
            assert price % instrument.tick == 0 < price
            assert quantity % instrument.step == 0 < quantity


@pytest.mark.parametrize(("symbol", "within"), [("BTCUSDT", "0.002"), ("SOLUSDT", "0.005"), ("OPUSDT", "0.2")])
def test_fifty_thousand_dollars_move_a_large_market_little_and_a_small_one_more(symbol: str, within: str) -> None:
    book = Venue(SEED, now_ms=Hands()).markets[symbol].book()
    left = exact("50000")
    for price, quantity in book.asks:
        left -= price * quantity // ONE
        if left <= 0:
            assert Decimal(price - book.asks[0][0]) / book.asks[0][0] < Decimal(within)
            return
    pytest.fail("the book is too thin")


def test_the_top_alone_is_the_top_of_the_whole_book() -> None:
    hands = Hands()
    market = Venue(SEED, now_ms=hands).markets["BTCUSDT"]
    for _ in range(20):
        hands.moment += 250
        top = market.top()
        assert top == market.book().top


def test_most_of_a_book_stays_when_the_market_moves() -> None:
    hands = Hands()
    market = Venue(SEED, now_ms=hands).markets["BTCUSDT"]
    before = market.book()
    hands.moment += 1000
    after = market.book()
    assert after.update_id > before.update_id
    assert len(set(before.bids) & set(after.bids)) > 300


@pytest.mark.parametrize("interval", INTERVALS)
def test_candles_follow_one_another_without_a_gap(interval: str) -> None:
    market = Venue(SEED, now_ms=Hands()).markets["BTCUSDT"]
    found = candles(market, interval, start=None, end=None, limit=5)
    assert len(found) == 5
    assert [candle.closed for candle in found] == [True] * 4 + [False]
    for earlier, later in pairwise(found):
        assert later.open_ms == earlier.close_ms + 1
        assert later.open == earlier.close
    for candle in found:
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.volume > 0
    assert found[-1].open_ms <= MOMENT <= found[-1].close_ms
    assert found[-1].close == market.last_trade().price
    assert candles(market, interval, start=found[1].open_ms, end=found[2].open_ms, limit=9) == found[1:3]


def test_a_set_price_holds_and_leaves_its_mark_in_trades_and_candles() -> None:
    hands = Hands()
    market = Venue(SEED, now_ms=hands).markets["SOLUSDT"]
    moving = market.last_trade().price
    market.hold(exact("250"))
    assert market.last_trade().price == exact("250")
    hands.moment += 10_000
    assert market.last_trade().price == exact("250")
    assert (decimal(market.top().bid), decimal(market.top().ask)) == (Decimal("249.99"), Decimal("250.01"))
    market.hold(None)
    hands.moment += 1000
    assert market.last_trade().price not in (exact("250"), moving)
    prices = {trade.price for trade in market.trades(limit=100)}
    assert exact("250") in prices
    minute = candles(market, "1m", start=None, end=None, limit=1)[0]
    assert minute.high == exact("250")


def test_trades_have_growing_ids_and_times_and_are_found_by_either() -> None:
    hands = Hands()
    market = Venue(SEED, now_ms=hands).markets["BTCUSDT"]
    market.hold(exact("90000"))
    market.hold(exact("90001"))
    hands.moment += 2000
    trades = market.trades(limit=50)
    assert [trade.id for trade in trades] == sorted({trade.id for trade in trades})
    assert [trade.at_ms for trade in trades] == sorted(trade.at_ms for trade in trades)
    assert market.trades_from(trades[10].id, 5) == trades[10:15]
    assert market.trades_since(trades[10].at_ms, trades[20].at_ms, 500) == trades[10:21]


def test_the_listing_begins_with_what_people_trade_and_goes_on_with_names_of_its_own() -> None:
    listed = {instrument.symbol: instrument for instrument in listing(24)}
    trading = [instrument for instrument in listed.values() if instrument.quote == "USDT" and instrument.trading]
    assert len(trading) >= 20
    assert listed["LUNAUSDT"].status == "BREAK"
    assert listed["ETHBTC"].quote == "BTC"
    assert listed["BTCUSDC"].quote == "USDC"
    many = listing(1500)
    assert len({instrument.symbol for instrument in many}) == 1500
    assert many == listing(1500)
    assert many[:24] == listing(24)
    for instrument in listing(5000):
        assert instrument.reference % instrument.tick == 0
        assert instrument.reference > 10 * instrument.tick


@pytest.mark.parametrize("symbols", [0, -1, 5001])
def test_a_listing_of_no_size_is_refused(symbols: int) -> None:
    with pytest.raises(ValueError, match="ask for 1 to 5000"):
        Venue(SEED, symbols)


def test_a_pace_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ask for 1 or more"):
        Venue(SEED, pace_ms=0)


@pytest.mark.parametrize("amount", ["0.00000001", "97250.01", "0", "123456789012.12345678"])
def test_amounts_come_back_as_they_went_in(amount: str) -> None:
    assert Decimal(text(exact(amount))) == decimal(exact(amount)) == Decimal(amount)


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "ten", "0.000000001", "1e30", ""])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match=r"number|range|decimals"):
        exact(amount)
