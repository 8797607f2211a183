"""What the market makes of answers that are none: it says so, keeps what it knows, and asks again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from streams.domain.errors import Transient
from streams.domain.market import Quote
from tests.worker.test_ccxt_exchange import INFO
from worker.adapters.ccxt_exchange import CcxtMarket
from worker.adapters.ccxt_exchange import market as ccxt_exchange
from worker.adapters.clock import SystemClock

SYMBOL = "BTC/USDT"
SECONDS = 20.0
ERROR_PAGE = "<html>Down for maintenance</html>"
LISTING = json.dumps({"timezone": "UTC", "serverTime": 0, "symbols": [INFO | {"permissions": ["SPOT"]}]})
TICKER = json.dumps({"symbol": "BTCUSDT", "bidPrice": "99.99", "bidQty": "1", "askPrice": "100.01", "askQty": "2"})
DEPTH = json.dumps({"lastUpdateId": 1, "bids": [["99.99", "1"]], "asks": [["100.01", "2"], ["100.02", "3"]]})
PATHS = {"exchangeInfo": LISTING, "bookTicker": TICKER, "depth": DEPTH}


class Binance:
    """Answers by the last word of a path: what it is told to, once each, and then as it should."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[int, str]]] = {path: [] for path in PATHS}
        self._answered: dict[str, int] = dict.fromkeys(PATHS, 0)
        self._progress = asyncio.Condition()

    def tell(self, path: str, *answers: str, status: int = 200) -> None:
        """Answer the next questions at this path with these bodies."""
        self.told[path] += [(status, answer) for answer in answers]

    async def heard(self, path: str) -> None:
        """Wait until all that was told is said, and one question more was asked: by then the last was read."""
        async with self._progress, asyncio.timeout(SECONDS):
            await self._progress.wait_for(lambda: not self.told[path])
            last = self._answered[path]
            await self._progress.wait_for(lambda: self._answered[path] > last)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one question; streams there are none."""
        path = request.path.rpartition("/")[2]
        if path not in PATHS:
            return web.Response(status=404)
        status, body = self.told[path].pop(0) if self.told[path] else (200, PATHS[path])
        async with self._progress:
            self._answered[path] += 1
            self._progress.notify_all()
        kind = "text/html" if body.startswith("<") else "application/json"
        return web.Response(status=status, text=body, content_type=kind)


Scenario = Callable[[Binance, CcxtMarket], Coroutine[Any, Any, None]]


@asynccontextmanager
async def served(binance: Binance) -> AsyncGenerator[str]:
    """The address at which it answers."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", binance.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def run(scenario: Scenario, *before: str, loaded: bool = True) -> None:
    """Try a market whose venue answers the first questions for its markets with the bodies given."""

    async def tried() -> None:
        binance = Binance()
        binance.tell("exchangeInfo", *before)
        async with served(binance) as address:
            market = CcxtMarket(SystemClock(), address)
            await market.start()
            try:
                if loaded:
                    await asyncio.wait_for(market.loaded.wait(), SECONDS)
                await scenario(binance, market)
            finally:
                await market.close()

    asyncio.run(tried())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Markets are asked for again at once."""
    monkeypatch.setattr(ccxt_exchange, "RELOAD_SECONDS", 0.01)
    monkeypatch.setattr(ccxt_exchange, "RETRY_SECONDS", 0.01)


NO_MARKETS = {
    "an error page": ERROR_PAGE,
    "a list": "[]",
    "nothing": "{}",
    "no symbols": '{"symbols": []}',
    "no symbols at all": '{"symbols": null}',
    "symbols that are none": '{"symbols": [1, "a", null]}',
    "symbols without a name": '{"symbols": [{}]}',
    "no market in USDT": LISTING.replace("USDT", "EUR"),
    "cut short": LISTING[:-10],
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("body", NO_MARKETS.values(), ids=NO_MARKETS.keys())
def test_an_answer_without_markets_keeps_those_loaded_before(body: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(binance: Binance, market: CcxtMarket) -> None:
        binance.tell("exchangeInfo", body, body)
        await binance.heard("exchangeInfo")
        assert market.rules(SYMBOL).base == "BTC"
        assert (await market.quote(SYMBOL)).ask == Decimal("100.01")
        assert [level.price for level in (await market.book(SYMBOL)).asks] == [Decimal("100.01"), Decimal("100.02")]

    run(scenario)
    assert "markets could not be loaded" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.usefixtures("impatient")
def test_until_there_are_markets_nothing_is_refused_and_they_are_asked_for_again() -> None:
    async def scenario(binance: Binance, market: CcxtMarket) -> None:
        with pytest.raises(Transient):
            market.rules(SYMBOL)
        await asyncio.wait_for(market.loaded.wait(), SECONDS)
        assert binance.told["exchangeInfo"] == []
        assert market.rules(SYMBOL).base == "BTC"

    run(scenario, *NO_MARKETS.values(), loaded=False)


def _ticker(**prices: object) -> str:
    return json.dumps(json.loads(TICKER) | prices)


def _depth(**sides: object) -> str:
    return json.dumps(json.loads(DEPTH) | sides)


NO_QUOTES = {
    "an error page": ERROR_PAGE,
    "nothing": "{}",
    "a list": "[]",
    "null": "null",
    "no price": _ticker(askPrice=None),
    "words": _ticker(askPrice="much"),
    "not a number": _ticker(bidPrice="NaN"),
    "without end": _ticker(askPrice="Infinity"),
    "below nothing": _ticker(bidPrice="-1"),
    "nothing bid": _ticker(bidPrice="0.00"),
    "no text": _ticker(askPrice=[1]),
    "a float": _ticker(askPrice=100.1),
    "cut short": TICKER[:20],
}
NO_BOOKS = {
    "an error page": ERROR_PAGE,
    "nothing": "{}",
    "a list": "[]",
    "null": "null",
    "no side": _depth(asks=None),
    "numbers for levels": _depth(asks=[1, 2]),
    "levels without quantity": _depth(asks=[["1"]]),
    "words": _depth(asks=[["much", "more"]]),
    "not a number": _depth(asks=[["NaN", "1"]]),
    "without end": _depth(bids=[["1", "Infinity"]]),
    "below nothing": _depth(asks=[["1", "-1"]]),
    "floats": _depth(asks=[[1.1, 1.1]]),
    "cut short": DEPTH[:30],
}


@pytest.mark.parametrize("body", NO_QUOTES.values(), ids=NO_QUOTES.keys())
def test_prices_that_are_none_are_asked_for_again(body: str) -> None:
    async def scenario(binance: Binance, market: CcxtMarket) -> None:
        binance.tell("bookTicker", body)
        with pytest.raises(Transient):
            await market.quote(SYMBOL)
        quote = await market.quote(SYMBOL)
        assert (quote.bid, quote.ask) == (Decimal("99.99"), Decimal("100.01"))

    run(scenario)


@pytest.mark.parametrize("body", NO_BOOKS.values(), ids=NO_BOOKS.keys())
def test_a_book_that_is_none_is_asked_for_again(body: str) -> None:
    async def scenario(binance: Binance, market: CcxtMarket) -> None:
        binance.tell("depth", body)
        with pytest.raises(Transient):
            await market.book(SYMBOL)
        book = await market.book(SYMBOL)
        assert [(level.price, level.quantity) for level in book.bids] == [(Decimal("99.99"), 1)]

    run(scenario)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_venue_in_trouble_is_asked_again(status: int) -> None:
    async def scenario(binance: Binance, market: CcxtMarket) -> None:
        binance.tell("depth", ERROR_PAGE, '{"code": -1000, "msg": "An unknown error occurred."}', status=status)
        for _ in range(2):
            with pytest.raises(Transient):
                await market.book(SYMBOL)
        assert (await market.book(SYMBOL)).asks

    run(scenario)


def test_a_book_is_never_older_than_the_last_change_of_the_best_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_exchange, "BOOK_SECONDS", 60.0)
    moved = DEPTH.replace("99.99", "97.99").replace("100.01", "98.01")

    async def scenario(binance: Binance, market: CcxtMarket) -> None:
        binance.tell("depth", DEPTH, moved)
        inside: Any = market
        for _again in range(2):
            assert (await market.book(SYMBOL)).bids[0].price == Decimal("99.99")
        inside._best.tell(Quote(SYMBOL, Decimal("97.99"), Decimal("98.01"), SystemClock().monotonic()))
        for _again in range(2):
            assert (await market.book(SYMBOL)).bids[0].price == Decimal("97.99")
        assert binance.told["depth"] == []

    run(scenario)
