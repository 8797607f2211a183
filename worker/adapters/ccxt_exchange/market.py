"""Binance spot through ccxt: market data from one shared, keyless instance.

Amounts are read from ccxt's `info`, the venue's own text, never from its floats.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from ccxt.base import errors  # pyright: ignore[reportMissingTypeStubs]

from streams.domain.errors import Refused, Transient
from streams.domain.market import Book, MarketRules, Quote
from streams.domain.money import ZERO
from streams.domain.signal import QUOTE_CURRENCY
from streams.ports import Clock, Keys
from worker.adapters.ccxt_exchange.answers import BROKEN_ANSWERS, levels_of, quote_of, rules_of
from worker.adapters.ccxt_exchange.best_prices import BestPrices
from worker.adapters.ccxt_exchange.binance import Binance
from worker.adapters.ccxt_exchange.circuit_breaker import CircuitBreaker
from worker.adapters.ccxt_exchange.host_guard import Connect, GuardedConnector, guarded_session, hosts_of
from worker.adapters.ccxt_exchange.outcome import watch
from worker.adapters.ccxt_exchange.request_budget import RequestBudget, Urgency

log = logging.getLogger(__name__)
R = TypeVar("R")

RELOAD_SECONDS = 3600.0
RETRY_SECONDS = 3.0
BOOK_SECONDS = 0.1  # orders of one moment share one look at the book
BOOK_LEVELS = 100
CALL_SECONDS = 10.0
LISTING_WEIGHT, TIME_WEIGHT, QUOTE_WEIGHT, QUOTES_WEIGHT, BOOK_WEIGHT = 20, 1, 2, 4, 5
"""Request weights of exchangeInfo, time, one symbol's bookTicker, several ones', and a depth of 100 levels."""
CLOCK_IS_OFF = "-1021"
ORDER_TIMEOUT_MS = 12_000
"""Binance gives an order up to 10 s; to wait less would make doubts of our own."""
OPTIONS = {
    "fetchCurrencies": False,
    "fetchMargins": False,
    "fetchMarkets": {"types": ["spot"]},
    "maxRetriesOnFailure": 0,
    # Few sockets for all streams: Binance takes 300 connections in 5 minutes from an address.
    "streamLimits": {"spot": 4},
    # ccxt counts what was ever subscribed to, and never what ended: its own limit would stop a long-lived worker.
    "subscriptionLimitByStream": {"spot": 1_000_000_000},
}


class CcxtMarket:
    """Public market data, each question asked once however many ask it at the same time."""

    def __init__(
        self, clock: Clock, base_url: str | None = None, testnet: bool = False, connect: Connect = GuardedConnector
    ) -> None:
        self._clock = clock
        self._connect = connect
        # With a session handed in, ccxt neither opens one of its own, which no guard would see, nor closes ours.
        self._exchange: Any = Binance(
            {"options": OPTIONS, "enableRateLimit": False, "timeout": 10_000, "session": None}
        )
        self._hosts = hosts_of(self._exchange.urls, testnet, base_url)
        if testnet:
            self._exchange.set_sandbox_mode(True)  # replaces every URL, so it comes first
        if base_url is not None:
            self._exchange.urls["api"] = repointed(self._exchange.urls["api"], base_url)
        self._session: aiohttp.ClientSession | None = None
        self._rules: dict[str, MarketRules] = {}
        self._books: dict[str, tuple[float, Book]] = {}
        self._asked: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._venue_ahead_ms = 0
        self.budget = RequestBudget(clock, self.venue_ms)
        self._breakers = {urgency: CircuitBreaker(clock) for urgency in (Urgency.QUESTION, Urgency.MARKET)}
        watch(self._exchange, self.budget.answered)
        self._best = BestPrices(self._exchange, clock, self._fetch_quotes)
        self._learning_time = asyncio.Lock()
        self._clock_task: asyncio.Task[None] | None = None
        self.loaded = asyncio.Event()

    async def start(self) -> None:
        """Begin loading the markets, and again each hour; questions before that are Transient."""
        self._session = guarded_session(self._connect(self._hosts))
        self._exchange.session = self._session
        self._keeper = asyncio.create_task(self._keep_markets(), name="keep markets")

    async def close(self) -> None:
        """Stop every stream and close the connections."""
        await self._best.close()
        tasks = [*self._asked.values()]
        tasks += [task for task in (self._keeper, self._clock_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._exchange.close()
        if self._session is not None:
            await self._session.close()

    def rules(self, symbol: str) -> MarketRules:
        """The symbol's filters. Raises Refused for a symbol that the venue does not have."""
        if not self.loaded.is_set():
            raise Transient("the exchange's markets are not loaded yet")
        known = self._rules.get(symbol)
        if known is None:
            market: Any = self._exchange.markets.get(symbol)
            if market is None or not market.get("spot"):
                raise Refused("unknown_symbol", f"{symbol} is not traded at the exchange.", symbol)
            known = self._rules[symbol] = rules_of(market["info"])
        return known

    async def quote(self, symbol: str) -> Quote:
        """Best bid and ask: streamed where the stream is fresh, else asked for."""
        return self._best.fresh(symbol) or await self._ask(("quote", symbol), lambda: self._fetch_quote(symbol))

    def watch(self, symbol: str, seen: Callable[[Quote], None]) -> Callable[[], None]:
        """Have each change of the symbol's best prices seen, until the answer is called."""
        return self._best.watch(symbol, seen)

    @property
    def subscribed(self) -> frozenset[str]:
        """The symbols whose prices are streamed."""
        return self._best.subscribed

    async def book(self, symbol: str) -> Book:
        """The book's first levels as of now: never older than the last change of the best prices that was heard of."""
        seen = self._books.get(symbol)
        if seen is not None and self._clock.monotonic() - seen[0] <= BOOK_SECONDS and self._still_stands(*seen):
            return seen[1]
        return await self._ask(("book", symbol), lambda: self._fetch_book(symbol))

    def _still_stands(self, seen_at: float, book: Book) -> bool:
        quote = self._best.last(book.symbol)
        if quote is None or quote.seen_at <= seen_at:
            return True
        best = [side[0].price if side else ZERO for side in (book.bids, book.asks)]
        return best == [quote.bid, quote.ask]

    def id_of(self, symbol: str) -> str:
        """The venue's own name of a symbol. Raises Transient before the markets are loaded."""
        if not self.loaded.is_set():
            raise Transient("the exchange's markets are not loaded yet")
        return str(self._exchange.markets[symbol]["id"])

    def venue_ms(self) -> int:
        """The venue's clock, in Unix milliseconds, as far as it is known."""
        return round(self._clock.now().timestamp() * 1000) + self._venue_ahead_ms

    async def ask_time(self) -> None:
        """Learn how far the venue's clock is ahead of this machine's. Raises Transient."""
        asked = self._clock.now().timestamp() * 1000
        said = int((await self._call(TIME_WEIGHT, lambda: self._exchange.public_get_time()))["serverTime"])
        self._venue_ahead_ms = round(said - (asked + self._clock.now().timestamp() * 1000) / 2)

    def instance(self, keys: Keys) -> Any:
        """A light instance for one account: its own key, and this one's session, markets and URLs."""
        venue: Any = Binance(
            {
                "options": dict(OPTIONS),
                "enableRateLimit": False,
                "timeout": ORDER_TIMEOUT_MS,
                "apiKey": keys.api_key,
                "secret": keys.secret,
                "session": self._session,
            }
        )
        venue.urls["api"] = self._exchange.urls["api"]
        venue.nonce = self.venue_ms  # every signed request states the venue's time
        venue.set_markets_from_exchange(self._exchange)
        return watch(venue, self.budget.answered)

    async def guarded(self, weight: int, urgency: Urgency, request: Callable[[], Awaitable[R]]) -> R:
        """Send a request of an account's where the budget has room. Raises Transient, unsent, where it has none.

        A question is kept back as well while the venue answers none.
        """
        breaker = self._breakers[urgency].asking() if urgency in self._breakers else nullcontext()
        try:
            with self.budget.spending(weight, urgency), breaker:
                return await request()
        except errors.BaseError as error:
            if getattr(error, "venue_code", None) == CLOCK_IS_OFF and not self._learning_time.locked():
                self._clock_task = asyncio.create_task(self._learn_time(), name="ask the venue's time")
            raise

    async def _fetch_quote(self, symbol: str) -> Quote:
        async def fetch() -> Quote:
            raw = await self._exchange.public_get_ticker_bookticker({"symbol": self.id_of(symbol)})
            return quote_of(symbol, raw["bidPrice"], raw["askPrice"], self._clock.monotonic())

        quote = await self._call(QUOTE_WEIGHT, fetch)
        self._best.tell(quote)
        return quote

    async def _fetch_quotes(self, symbols: Sequence[str]) -> Sequence[Quote]:
        async def fetch() -> Sequence[Quote]:
            names = {self.id_of(symbol): symbol for symbol in symbols}
            asked = {"symbols": json.dumps(list(names), separators=(",", ":"))}
            rows = await self._exchange.public_get_ticker_bookticker(asked)
            now = self._clock.monotonic()
            return [quote_of(names[row["symbol"]], row["bidPrice"], row["askPrice"], now) for row in rows]

        return await self._call(QUOTES_WEIGHT, fetch)

    async def _fetch_book(self, symbol: str) -> Book:
        async def fetch() -> Book:
            raw = await self._exchange.public_get_depth({"symbol": self.id_of(symbol), "limit": BOOK_LEVELS})
            return Book(symbol, levels_of(raw["bids"]), levels_of(raw["asks"]))

        book = await self._call(BOOK_WEIGHT, fetch)
        self._books[symbol] = (self._clock.monotonic(), book)
        return book

    async def _ask(self, key: tuple[str, str], start: Callable[[], Awaitable[R]]) -> R:
        """Join whoever asks the same right now, else ask."""
        asked: asyncio.Task[R] | None = self._asked.get(key)
        if asked is None:
            asked = asyncio.ensure_future(_awaited(start()))
            self._asked[key] = asked
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(asked)

    async def _call(self, weight: int, request: Callable[[], Awaitable[R]], paced: bool = False) -> R:
        """One public request, read whole. Raises Transient for whatever goes wrong: it changes nothing anywhere.

        `paced`: whoever asks makes pauses of their own where the venue does not answer.
        """
        breaker = nullcontext() if paced else self._breakers[Urgency.MARKET].asking()
        try:
            with self.budget.spending(weight, Urgency.MARKET), breaker:
                async with asyncio.timeout(CALL_SECONDS):
                    return await request()
        except (*BROKEN_ANSWERS, errors.BaseError, aiohttp.ClientError, TimeoutError) as error:
            raise Transient(f"the exchange gave no market data: {type(error).__name__}: {error}") from error

    async def _keep_markets(self) -> None:
        while True:
            try:
                markets = await self._call(LISTING_WEIGHT, self._fetch_markets, paced=True)
                self._exchange.set_markets(markets)
            except Transient as error:
                log.warning("the exchange's markets could not be loaded: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except Exception:  # whatever it is, the markets loaded before stand
                log.exception("the exchange's markets could not be read")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._rules.clear()
            await self._learn_time()
            if not self.loaded.is_set():
                log.info("%d markets loaded", len(self._exchange.markets))
            self.loaded.set()
            await asyncio.sleep(RELOAD_SECONDS)

    async def _learn_time(self) -> None:
        async with self._learning_time:
            try:
                await self.ask_time()
            except Transient as error:
                log.warning("the exchange's clock could not be read: %s", error)

    async def _fetch_markets(self) -> list[Any]:
        """All spot markets. An answer without any is no answer: ccxt makes an empty list of an error page."""
        markets = await self._exchange.fetch_markets()
        if not any(market.get("spot") and market.get("quote") == QUOTE_CURRENCY for market in markets):
            raise ValueError(f"no {QUOTE_CURRENCY} market among {len(markets)}")
        return markets


def repointed(urls: Any, base_url: str) -> Any:
    """Every URL of ccxt's on another origin; paths stay, and `/stream` stays what marks spot streams."""
    base = urlsplit(base_url)
    http, websocket = f"{base.scheme}://{base.netloc}", f"{'wss' if base.scheme == 'https' else 'ws'}://{base.netloc}"
    if isinstance(urls, dict):
        return {name: repointed(url, base_url) for name, url in urls.items()}  # pyright: ignore[reportUnknownVariableType]
    parts = urlsplit(str(urls))
    if parts.scheme in ("ws", "wss"):
        spot = (parts.hostname or "").startswith(("stream.", "demo-stream"))
        return websocket + ("/stream" if spot else "") + parts.path
    return http + parts.path


async def _awaited(awaitable: Awaitable[R]) -> R:
    return await awaitable
