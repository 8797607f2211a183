"""The unmodified ccxt class trades its usual calls with the venue, by REST and by websocket."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import ccxt  # pyright: ignore[reportMissingTypeStubs]
import pytest

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import MOMENT, SEED, Hands, play, serving
from tests.sandbox.venue_trader import BTC, client


@pytest.mark.parametrize("symbols", [24, 1500])
def test_it_loads_the_markets_with_their_filters(symbols: int) -> None:
    async def story() -> None:
        async with serving(Venue(SEED, symbols)) as served, client(served) as exchange:
            markets = await exchange.load_markets()
            assert len(markets) == symbols
            btc = markets[BTC]
            assert btc["active"]
            assert btc["spot"]
            assert btc["precision"]["price"] == 0.01
            assert btc["precision"]["amount"] == 0.00001
            assert btc["limits"]["amount"]["min"] == 0.00001
            assert btc["limits"]["cost"]["min"] == 5
            assert not markets["LUNA/USDT"]["active"]
            kinds = {rule["filterType"] for rule in btc["info"]["filters"]}
            assert {"PERCENT_PRICE_BY_SIDE", "MAX_NUM_ORDERS", "MAX_NUM_ALGO_ORDERS", "TRAILING_DELTA"} <= kinds

    play(story())


def test_it_fetches_tickers_books_candles_trades_and_time() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served, client(served) as exchange:
            served.venue.set_price("BTCUSDT", Decimal(97000))
            assert await exchange.fetch_time() == MOMENT
            ticker = await exchange.fetch_ticker(BTC)
            assert (ticker["last"], ticker["bid"], ticker["ask"]) == (97000, 96999.99, 97000.01)
            assert ticker["low"] <= 97000 <= ticker["high"]
            assert ticker["percentage"] == pytest.approx((97000 / ticker["open"] - 1) * 100, abs=0.001)
            book = await exchange.fetch_order_book(BTC, 5)
            assert book["bids"][0][0] == 96999.99
            assert len(book["asks"]) == 5
            assert book["nonce"]
            every = await exchange.fetch_bids_asks([BTC, "ETH/USDT"])
            assert every[BTC]["ask"] == 97000.01
            prices = await exchange.fetch_last_prices()
            assert prices[BTC]["price"] == 97000
            candles = await exchange.fetch_ohlcv(BTC, "1m", limit=3)
            assert [row[0] for row in candles] == [MOMENT - MOMENT % 60_000 - ago for ago in (120_000, 60_000, 0)]
            assert candles[-1][4] == 97000
            since = await exchange.fetch_ohlcv(BTC, "1h", since=MOMENT - 10 * 3_600_000, limit=4)
            assert len(since) == 4
            assert since[0][0] >= MOMENT - 10 * 3_600_000
            trades = await exchange.fetch_trades(BTC, limit=10)
            assert len(trades) == 10
            assert trades[-1]["price"] == 97000

    play(story())


def test_it_watches_the_best_prices_and_hears_of_a_set_price_at_once() -> None:
    async def story() -> None:
        # the clock stands, so that whatever is heard after the first was pushed by the change
        async with serving(Venue(SEED, now_ms=Hands())) as served, client(served) as exchange:
            first = await exchange.watch_bids_asks([BTC, "SOL/USDT"])
            while BTC not in exchange.bidsasks or "SOL/USDT" not in exchange.bidsasks:
                first = await exchange.watch_bids_asks([BTC, "SOL/USDT"])
            assert all(quote["bid"] < quote["ask"] for quote in first.values())
            await served.control("price", symbol=BTC, price="88000")
            heard = await exchange.watch_bids_asks([BTC, "SOL/USDT"])
            assert (heard[BTC]["bid"], heard[BTC]["ask"]) == (87999.99, 88000.01)

    play(story())


def test_its_watched_book_stays_the_venues_book() -> None:
    async def story() -> None:
        hands = Hands()
        async with serving(Venue(SEED, now_ms=hands)) as served, client(served) as exchange:
            book = await exchange.watch_order_book(BTC)
            for second in range(8):
                hands.moment += 1000
                if second == 4:
                    await served.control("price", symbol=BTC, price="96500")
                book = await exchange.watch_order_book(BTC)
                held = served.venue.markets["BTCUSDT"].book()
                assert book["nonce"] == held.update_id
                for side, levels in ((book["bids"], held.bids), (book["asks"], held.asks)):
                    assert [list(level) for level in side[: len(levels)]] == [
                        [price / 1e8, quantity / 1e8] for price, quantity in levels
                    ]

    play(story())


def test_it_watches_trades_candles_and_tickers() -> None:
    async def story() -> None:
        async with serving(Venue(SEED)) as served, client(served) as exchange:
            trades = await exchange.watch_trades(BTC)
            assert trades[-1]["timestamp"] == pytest.approx(time.time() * 1000, abs=10_000)
            served.venue.set_price("BTCUSDT", Decimal("91234.56"))
            while trades[-1]["price"] != 91234.56:
                trades = await exchange.watch_trades(BTC)
            candles = await exchange.watch_ohlcv(BTC, "1m")
            assert candles[-1][4] == 91234.56
            ticker = await exchange.watch_ticker(BTC)
            assert ticker["last"] == 91234.56

    play(story())


def test_a_cut_stream_raises_and_the_next_watch_connects_again() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served, client(served) as exchange:
            await exchange.watch_bids_asks([BTC])
            assert await served.control("streams", drop=True) == {"dropped": 1}
            with pytest.raises(ccxt.NetworkError):
                await exchange.watch_bids_asks([BTC])
            assert BTC in await exchange.watch_bids_asks([BTC])

    play(story())


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ({"kind": "hang"}, ccxt.RequestTimeout),
        # aiohttp repeats a GET by itself, once
        ({"kind": "drop", "times": 2}, ccxt.ExchangeNotAvailable),
        ({"kind": "truncate"}, ccxt.ExchangeError),
        ({"kind": "html", "status": 502}, ccxt.ExchangeNotAvailable),
        ({"kind": "status", "status": 503, "code": -1007}, ccxt.RequestTimeout),
        ({"kind": "status", "status": 504}, ccxt.RequestTimeout),
        ({"kind": "status", "status": 429, "code": -1003}, ccxt.DDoSProtection),
    ],
)
def test_a_planned_fault_reaches_it_as_at_a_real_venue_and_is_spent(
    fault: dict[str, Any], raised: type[Exception]
) -> None:
    async def story() -> None:
        async with serving() as served, client(served) as exchange:
            await exchange.load_markets()
            exchange.timeout = 500
            await served.control("faults", method="GET", path="/api/v3/time", **fault)
            with pytest.raises(raised):
                await exchange.fetch_time()
            assert await exchange.fetch_time()

    play(story())


def test_an_unknown_symbol_is_a_bad_symbol() -> None:
    async def story() -> None:
        async with serving() as served, client(served) as exchange:
            await exchange.load_markets()
            with pytest.raises(ccxt.BadSymbol):
                await exchange.public_get_ticker_price({"symbol": "NOPEUSDT"})

    play(story())
