"""What the public streams carry (binance-spot-api-docs, web-socket-streams.md): a name, a rhythm, payloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.venue.book import Top
from sandbox.venue.candles import INTERVALS, candle_at, day_statistics, opens
from sandbox.venue.fixed_point import text
from sandbox.venue.market import Market
from sandbox.venue.market_data import encode, levels_json

__all__ = ["Feed", "Feeds", "known_stream"]

_HOUR = 3_600_000
_STREAM = re.compile(
    r"(?:!(?:miniTicker|ticker|bookTicker)(?:@arr)?"
    r"|[a-z0-9_.-]{1,20}@(?:trade|aggTrade|bookTicker|avgPrice|miniTicker|ticker"
    r"|depth(?P<levels>5|10|20)?(?P<fast>@100ms|@1000ms)?"
    r"|kline_(?P<interval>[0-9]{1,2}[smhdwM])(?P<zone>@\+08:00)?))"
)


def known_stream(name: str) -> bool:
    """Whether that is the name of a stream, be its symbol listed or not."""
    found = _STREAM.fullmatch(name)
    return found is not None and (found["interval"] is None or found["interval"] in INTERVALS)


@dataclass(slots=True)
class Feed:
    """One stream: `read` gives the payloads due, `due` when to read next (market time), `close` ends it.

    `greets`: its present state goes to a new subscriber at once.
    """

    read: Callable[[], list[str]]
    due: Callable[[int], int]
    markets: tuple[Market, ...]
    greets: bool
    close: Callable[[], None] = lambda: None


class Feeds:
    """Opens feeds by stream name."""

    def __init__(self, markets: Mapping[str, Market]) -> None:
        self._markets = markets

    def open(self, name: str) -> Feed | None:
        """The feed of that stream; None where its symbol is not listed, which is silent at Binance too."""
        if name.startswith("!"):
            return self._of_all(name)
        symbol, _, kind = name.partition("@")
        market = self._markets.get(symbol.upper())
        if market is None or not market.instrument.trading:
            return None
        if kind in ("trade", "aggTrade"):
            return _trades(market, aggregate=kind == "aggTrade")
        if kind == "bookTicker":
            return _book_ticker(market)
        if kind in ("miniTicker", "ticker", "avgPrice"):
            payload = {"miniTicker": _mini_ticker, "ticker": _day_ticker, "avgPrice": _average_price}[kind]
            return Feed(lambda: [encode(payload(market))], _every(1000), (market,), greets=True)
        if kind.startswith("kline_"):
            return _klines(market, kind.removeprefix("kline_"))
        return _depth(market, kind)

    def _of_all(self, name: str) -> Feed:
        trading = tuple(market for market in self._markets.values() if market.instrument.trading)
        if name.startswith("!bookTicker"):
            feeds = [_book_ticker(market) for market in trading]
            return Feed(lambda: [payload for feed in feeds for payload in feed.read()], _every(1000), trading, True)
        payload = _mini_ticker if name.startswith("!miniTicker") else _day_ticker
        return Feed(lambda: [encode([payload(market) for market in trading])], _every(1000), trading, greets=True)


def _every(period_ms: int) -> Callable[[int], int]:
    return lambda now: now - now % period_ms + period_ms


def _every_slot(market: Market) -> Callable[[int], int]:
    return lambda now: market.starts(market.slot(now) + 1)


def _book_ticker(market: Market) -> Feed:
    sent: Top | None = None

    def read() -> list[str]:
        nonlocal sent
        top = market.top()
        if top == sent:
            return []
        sent = top
        return [
            f'{{"u":{market.update_id()},"s":"{market.instrument.symbol}",'
            f'"b":"{text(top.bid)}","B":"{text(top.bid_quantity)}",'
            f'"a":"{text(top.ask)}","A":"{text(top.ask_quantity)}"}}'
        ]

    return Feed(read, _every_slot(market), (market,), greets=True)


def _trades(market: Market, *, aggregate: bool) -> Feed:
    last_id = market.last_trade().id

    def read() -> list[str]:
        nonlocal last_id
        payloads: list[str] = []
        for trade in market.trades_from(last_id + 1, 20):
            at_ms = trade.at_ms + market.clock.offset_ms
            payload: dict[str, Any] = {
                "e": "aggTrade" if aggregate else "trade",
                "E": market.clock.now_ms(),
                "s": market.instrument.symbol,
                "a" if aggregate else "t": trade.id,
                "p": text(trade.price),
                "q": text(trade.quantity),
                "T": at_ms,
                "m": trade.buyer_is_maker,
                "M": True,
            }
            if aggregate:
                payload |= {"f": trade.id, "l": trade.id}
            payloads.append(encode(payload))
            last_id = trade.id
        return payloads

    return Feed(read, _every_slot(market), (market,), greets=False)


def _depth(market: Market, kind: str) -> Feed:
    place, _, speed = kind.removeprefix("depth").partition("@")
    due = _every(100 if speed == "100ms" else 1000)
    if place:
        return _top_levels(market, int(place), due)
    journal = market.follow_depth()

    def read() -> list[str]:
        book = market.book()
        changed = journal.read(book)
        if changed is None:
            return []
        first, bids, asks = changed
        return [
            f'{{"e":"depthUpdate","E":{market.clock.now_ms()},"s":"{market.instrument.symbol}",'
            f'"U":{first},"u":{book.update_id},"b":{levels_json(bids)},"a":{levels_json(asks)}}}'
        ]

    return Feed(read, due, (market,), greets=False, close=lambda: market.forget_depth(journal))


def _top_levels(market: Market, levels: int, due: Callable[[int], int]) -> Feed:
    def read() -> list[str]:
        book = market.book()
        bids, asks = levels_json(book.bids[:levels]), levels_json(book.asks[:levels])
        return [f'{{"lastUpdateId":{book.update_id},"bids":{bids},"asks":{asks}}}']

    return Feed(read, due, (market,), greets=True)


def _klines(market: Market, interval: str) -> Feed:
    interval, _, zone = interval.partition("@")
    zone_ms = 8 * _HOUR if zone else 0
    opened = opens(interval, market.clock.now_ms() + zone_ms)

    def read() -> list[str]:
        nonlocal opened
        payloads: list[str] = []
        newest = opens(interval, market.clock.now_ms() + zone_ms)
        if newest > opened:
            payloads.append(encode(_kline(market, interval, opened, zone_ms)))  # once more, closed
        opened = newest
        payloads.append(encode(_kline(market, interval, opened, zone_ms)))
        return payloads

    return Feed(read, _every(1000 if interval == "1s" else 2000), (market,), greets=True)


def _kline(market: Market, interval: str, opened: int, zone_ms: int) -> dict[str, Any]:
    candle = candle_at(market, interval, opened, zone_ms=zone_ms)
    symbol = market.instrument.symbol
    return {
        "e": "kline",
        "E": market.clock.now_ms(),
        "s": symbol,
        "k": {
            "t": candle.open_ms,
            "T": candle.close_ms,
            "s": symbol,
            "i": interval,
            "f": candle.first_id,
            "L": candle.last_id,
            "o": text(candle.open),
            "c": text(candle.close),
            "h": text(candle.high),
            "l": text(candle.low),
            "v": text(candle.volume),
            "n": candle.count,
            "x": candle.closed,
            "q": text(candle.quote_volume),
            "V": text(candle.volume // 2),
            "Q": text(candle.quote_volume // 2),
            "B": "0",
        },
    }


def _mini_ticker(market: Market) -> dict[str, Any]:
    day = day_statistics(market)
    return {
        "e": "24hrMiniTicker",
        "E": market.clock.now_ms(),
        "s": market.instrument.symbol,
        "c": text(day.last),
        "o": text(day.open),
        "h": text(day.high),
        "l": text(day.low),
        "v": text(day.volume),
        "q": text(day.quote_volume),
    }


def _day_ticker(market: Market) -> dict[str, Any]:
    day, top = day_statistics(market), market.top()
    return {
        "e": "24hrTicker",
        "E": market.clock.now_ms(),
        "s": market.instrument.symbol,
        "p": day.change,
        "P": day.change_percent,
        "w": text(day.average),
        "x": text(day.open),
        "c": text(day.last),
        "Q": text(day.last_quantity),
        "b": text(top.bid),
        "B": text(top.bid_quantity),
        "a": text(top.ask),
        "A": text(top.ask_quantity),
        "o": text(day.open),
        "h": text(day.high),
        "l": text(day.low),
        "v": text(day.volume),
        "q": text(day.quote_volume),
        "O": day.open_ms,
        "C": day.close_ms,
        "F": day.first_id,
        "L": day.last_id,
        "n": day.count,
    }


def _average_price(market: Market) -> dict[str, Any]:
    return {
        "e": "avgPrice",
        "E": market.clock.now_ms(),
        "s": market.instrument.symbol,
        "i": "5m",
        "w": text(market.average(300_000)),
        "T": market.last_trade().at_ms + market.clock.offset_ms,
    }
