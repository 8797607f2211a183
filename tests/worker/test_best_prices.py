"""Streams of prices that break: they are made anew, less and less often while nothing comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ccxt.base import errors  # pyright: ignore[reportMissingTypeStubs]

from streams.domain.market import Quote
from tests.streams.fakes import FakeClock
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import passed
from worker.adapters.ccxt_exchange.best_prices import RETRY_SECONDS, BestPrices

SYMBOL = "BTC/USDT"
CONNECTIONS, MINUTES = 300, 5
"""Binance takes so many from an address in so many minutes; ccxt makes four for prices, and users' have 280."""


class Streams:
    """ccxt as far as its streams go: each connection breaks after a while, with a price before where it is told so."""

    handle_bids_asks: Any

    def __init__(self) -> None:
        self.markets = {SYMBOL: {"id": "BTCUSDT"}}
        self.connections = 0
        self.lasts = 0.0
        self.tells = False

    async def watch_bids_asks(self, symbols: Sequence[str]) -> None:
        self.connections += 1
        await asyncio.sleep(self.lasts / 2)
        if self.tells:
            self.handle_bids_asks(None, {"s": "BTCUSDT", "b": "99", "a": "101"})
        await asyncio.sleep(self.lasts / 2)
        raise errors.NetworkError("gone")

    async def un_watch_bids_asks(self, symbols: Sequence[str]) -> None:
        """Nothing is kept."""


async def nothing(_: Sequence[str]) -> Sequence[Quote]:
    return []


@in_virtual_time
async def test_a_venue_without_streams_is_not_stormed() -> None:
    venue = Streams()
    prices = BestPrices(venue, FakeClock(), nothing)
    prices.watch(SYMBOL, lambda _: None)
    await passed(5 * 60)
    before = venue.connections
    await passed(MINUTES * 60)
    assert 3 <= venue.connections - before <= (CONNECTIONS - 280) / 4
    await prices.close()


@in_virtual_time
async def test_one_that_stood_for_a_while_is_made_anew_soon() -> None:
    venue = Streams()
    prices = BestPrices(venue, FakeClock(), nothing)
    prices.watch(SYMBOL, lambda _: None)
    await passed(5 * 60)
    venue.tells, venue.lasts = True, 600.0
    await passed(120)
    before = venue.connections
    await passed(4 * (venue.lasts + RETRY_SECONDS))
    assert venue.connections - before >= 3
    await prices.close()


@in_virtual_time
async def test_a_watcher_is_told_no_price_from_before_it_came_and_one_soon() -> None:
    venue, clock = Streams(), FakeClock()
    asked: list[str] = []

    async def now(symbols: Sequence[str]) -> Sequence[Quote]:
        asked.extend(symbols)
        return [Quote(SYMBOL, Decimal(98), Decimal(100), clock.monotonic())]

    prices = BestPrices(venue, clock, now)
    prices.tell(Quote(SYMBOL, Decimal(110), Decimal(111), clock.monotonic()))
    seen: list[Decimal] = []
    prices.watch(SYMBOL, lambda quote: seen.append(quote.bid))
    assert seen == []
    await passed(1.1)
    assert seen == [98]
    await passed(1.0)
    assert asked == [SYMBOL]  # what was heard of a moment ago is not asked for again
    await prices.close()
