"""Best bid and ask of symbols as the venue streams them: one subscription a symbol, however many look.

Each message is read here as it comes, since ccxt hands on only the latest: a price that was there for a moment counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from ccxt.base import errors  # pyright: ignore[reportMissingTypeStubs]

from streams.domain.errors import Transient
from streams.domain.market import Quote
from streams.ports import Clock
from worker.adapters.ccxt_exchange.answers import BROKEN_ANSWERS, quote_of

log = logging.getLogger(__name__)

Seen = Callable[[Quote], None]
FRESH_SECONDS = 1.0
"""A streamed quote older than this is asked for anew by whoever is about to trade by it."""
UNUSED_SECONDS = 10.0
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 3.0, 60.0
"""Between connections, ever longer while they fail: Binance takes 300 in 5 minutes from an address, from users' too."""
QUIET_SECONDS = 3.0
"""A watched symbol of which nothing was heard for so long is asked for: its stream may be dead, or its market quiet."""
ASKING_SECONDS = 1.0
SUBSCRIBE_SECONDS = 0.25
"""Between two messages on streams: Binance takes 5 a second on a socket."""


class BestPrices:
    """Streams the symbols that are asked for, and asks for those whose stream is quiet."""

    def __init__(self, exchange: Any, clock: Clock, ask: Callable[[Sequence[str]], Awaitable[Sequence[Quote]]]) -> None:
        self._exchange = exchange
        self._clock = clock
        self._ask = ask
        self._quotes: dict[str, Quote] = {}
        self._heard_at: dict[str, float] = {}
        self._watchers: dict[str, list[Seen]] = {}
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._used_at: dict[str, float] = {}
        self._symbols: dict[str, str] = {}
        self._unheard: set[str] = set()
        self._subscribing = asyncio.Lock()
        self._asking: asyncio.Task[None] | None = None
        exchange.handle_bids_asks = self._on_message

    @property
    def subscribed(self) -> frozenset[str]:
        """The symbols with a subscription."""
        return frozenset(self._streams)

    def fresh(self, symbol: str) -> Quote | None:
        """The symbol's quote as streamed a moment ago, if it was; from now on it is streamed."""
        self._stream_of(symbol)
        quote = self._quotes.get(symbol)
        return quote if quote is not None and self._clock.monotonic() - quote.seen_at <= FRESH_SECONDS else None

    def last(self, symbol: str) -> Quote | None:
        """The last quote of a symbol that was heard of, however old."""
        return self._quotes.get(symbol)

    def watch(self, symbol: str, seen: Seen) -> Callable[[], None]:
        """Have each quote of a symbol seen that comes from now on, and one soon; the answer ends it.

        What is known already is not told: it may be from before whatever is watched for.
        """
        self._watchers.setdefault(symbol, []).append(seen)
        self._stream_of(symbol)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._keep_asking(), name="ask for quiet prices")
        self._unheard.add(symbol)

        def stop() -> None:
            watchers = self._watchers[symbol]
            watchers.remove(seen)
            if not watchers:
                del self._watchers[symbol]

        return stop

    def tell(self, quote: Quote) -> None:
        """Take in a quote, however it was had."""
        self._quotes[quote.symbol] = quote
        self._unheard.discard(quote.symbol)
        for seen in tuple(self._watchers.get(quote.symbol, ())):
            seen(quote)

    async def close(self) -> None:
        """End every stream."""
        tasks = [*self._streams.values(), *([] if self._asking is None else [self._asking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_message(self, _client: Any, message: Any) -> None:
        """A bookTicker message; an exception here would end ccxt's reader for good."""
        try:
            symbol = self._symbols.get(str(message["s"]))
            if symbol is None:
                return
            quote = quote_of(symbol, message["b"], message["a"], self._clock.monotonic())
        except (*BROKEN_ANSWERS, Transient) as error:
            log.debug("a price cannot be read: %r", error)
            return
        self._heard_at[symbol] = quote.seen_at
        self.tell(quote)

    def _stream_of(self, symbol: str) -> None:
        self._used_at[symbol] = self._clock.monotonic()
        if symbol not in self._streams:
            self._symbols[str(self._exchange.markets[symbol]["id"])] = symbol
            task = asyncio.create_task(self._stream(symbol), name=f"stream {symbol}")
            self._streams[symbol] = task
            task.add_done_callback(lambda _: self._streams.pop(symbol, None))

    def _left(self, symbol: str) -> float:
        """Seconds for which a symbol is still wanted."""
        if symbol in self._watchers:
            return UNUSED_SECONDS
        return self._used_at[symbol] + UNUSED_SECONDS - self._clock.monotonic()

    async def _stream(self, symbol: str) -> None:
        await self._pace()
        pause = RETRY_SECONDS
        while (left := self._left(symbol)) > 0:
            tried_at = self._clock.monotonic()
            try:
                async with asyncio.timeout(left):
                    await self._exchange.watch_bids_asks([symbol])  # subscribes, and fails when the socket does
            except TimeoutError:
                continue
            except (*BROKEN_ANSWERS, errors.BaseError, aiohttp.ClientError, OSError) as error:
                log.debug("the price stream of %s broke: %s", symbol, error)
                if self._heard_at.get(symbol, 0.0) - tried_at > pause:  # it stood for a while
                    pause = RETRY_SECONDS
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_SECONDS)
        self._quotes.pop(symbol, None)
        self._used_at.pop(symbol, None)
        await self._pace()
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await self._exchange.un_watch_bids_asks([symbol])
        except (errors.BaseError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("the price stream of %s did not end well: %s", symbol, error)

    async def _pace(self) -> None:
        async with self._subscribing:
            await asyncio.sleep(SUBSCRIBE_SECONDS)

    async def _keep_asking(self) -> None:
        """One question for all watched symbols that were quiet of late, for as long as any is watched."""
        while self._watchers:
            await asyncio.sleep(ASKING_SECONDS)
            before = self._clock.monotonic() - QUIET_SECONDS
            quiet = [symbol for symbol in self._watchers if symbol in self._unheard or self._last_told(symbol) < before]
            if not quiet:
                continue
            try:
                for quote in await self._ask(quiet):
                    self.tell(quote)
            except Transient as error:
                log.debug("quiet prices could not be asked for: %s", error)

    def _last_told(self, symbol: str) -> float:
        quote = self._quotes.get(symbol)
        return max(self._heard_at.get(symbol, 0.0), 0.0 if quote is None else quote.seen_at)
