"""The public REST endpoints (binance-spot-api-docs, rest-api.md): what they answer and what they weigh."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from sandbox.venue import refusal
from sandbox.venue.book import Level
from sandbox.venue.candles import INTERVALS, candles, day_statistics
from sandbox.venue.clock import VenueClock
from sandbox.venue.fixed_point import ONE, text
from sandbox.venue.market import Market, Trade
from sandbox.venue.parameters import Parameters
from sandbox.venue.request_weight import RATE_LIMITS, flat, weigh_day_tickers, weigh_depth, weigh_prices

__all__ = ["Endpoint", "MarketData", "encode", "levels_json"]

Query = MultiMapping[str]

_TRADES = 500
_MOST = 1000
_DEPTH = 100
_DEEPEST = 5000
_AVERAGE_MINUTES = 5


def encode(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def levels_json(levels: Iterable[Level]) -> str:
    """Levels as Binance writes them: pairs of texts. Joined by hand, for a book is most of what is sent."""
    return "[" + ",".join([f'["{text(price)}","{text(quantity)}"]' for price, quantity in levels]) + "]"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers a GET of one path, and the request weight of a query to it."""

    answer: Callable[[Query], str]
    weigh: Callable[[Query], int]


class MarketData:
    """Answers queries about the markets with JSON texts. Answers raise VenueError."""

    def __init__(self, markets: Mapping[str, Market], clock: VenueClock) -> None:
        self._markets = markets
        self._clock = clock
        self._all_rules: str | None = None
        self._depth_answers: dict[str, tuple[int, int, str]] = {}

    def endpoints(self) -> dict[str, Endpoint]:
        """Every path with its endpoint."""
        return {
            "/api/v3/ping": Endpoint(self._ping, flat(1)),
            "/api/v3/time": Endpoint(self._time, flat(1)),
            "/api/v3/exchangeInfo": Endpoint(self._exchange_info, flat(20)),
            "/api/v3/depth": Endpoint(self._depth, weigh_depth),
            "/api/v3/trades": Endpoint(self._trades, flat(25)),
            "/api/v3/historicalTrades": Endpoint(self._old_trades, flat(25)),
            "/api/v3/aggTrades": Endpoint(self._aggregate_trades, flat(4)),
            "/api/v3/klines": Endpoint(self._klines, flat(2)),
            "/api/v3/uiKlines": Endpoint(self._klines, flat(2)),
            "/api/v3/avgPrice": Endpoint(self._average_price, flat(2)),
            "/api/v3/ticker/24hr": Endpoint(self._day_tickers, weigh_day_tickers),
            "/api/v3/ticker/price": Endpoint(self._prices, weigh_prices),
            "/api/v3/ticker/bookTicker": Endpoint(self._book_tickers, weigh_prices),
        }

    def _parameters(self, query: Query, *known: str) -> Parameters:
        return Parameters(query, known, self._markets)

    def _ping(self, query: Query) -> str:
        self._parameters(query)
        return "{}"

    def _time(self, query: Query) -> str:
        self._parameters(query)
        return encode({"serverTime": self._clock.now_ms()})

    def _exchange_info(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")
        chosen, status = sent.chosen(), sent.status()
        if chosen is not None and ("permissions" in sent or status is not None):
            raise refusal.bad_combination()
        sets = sent.flag("showPermissionSets", True)
        permissions = sent.text("permissions")
        if permissions is not None and "SPOT" not in permissions:
            rules = "[]"
        elif chosen is None and status is None and sets:
            if self._all_rules is None:
                self._all_rules = encode([market.instrument.description() for market in self._markets.values()])
            rules = self._all_rules
        else:
            listed = chosen if chosen is not None else self._with_status(status)
            rules = encode([market.instrument.description(permission_sets=sets) for market in listed])
        head: dict[str, Any] = {
            "timezone": "UTC",
            "serverTime": self._clock.now_ms(),
            "rateLimits": RATE_LIMITS,
            "exchangeFilters": [],
        }
        return f'{encode(head)[:-1]},"symbols":{rules}}}'

    def _depth(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "limit", "symbolStatus")
        market, limit = sent.market(), sent.limit(_DEPTH, _DEEPEST)
        book = market.book()
        symbol = market.instrument.symbol
        known = self._depth_answers.get(symbol)
        if known and known[:2] == (book.update_id, limit):
            return known[2]
        bids, asks = levels_json(book.bids[:limit]), levels_json(book.asks[:limit])
        answer = f'{{"lastUpdateId":{book.update_id},"bids":{bids},"asks":{asks}}}'
        self._depth_answers[symbol] = book.update_id, limit, answer
        return answer

    def _trades(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "limit")
        market = sent.market()
        return encode([self._trade(trade) for trade in market.trades(limit=sent.limit(_TRADES, _MOST))])

    def _old_trades(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "limit", "fromId")
        market, limit, first = sent.market(), sent.limit(_TRADES, _MOST), sent.integer("fromId")
        found = market.trades(limit=limit) if first is None else market.trades_from(first, limit)
        return encode([self._trade(trade) for trade in found])

    def _trade(self, trade: Trade) -> dict[str, Any]:
        return {
            "id": trade.id,
            "price": text(trade.price),
            "qty": text(trade.quantity),
            "quoteQty": text(trade.price * trade.quantity // ONE),
            "time": trade.at_ms + self._clock.offset_ms,
            "isBuyerMaker": trade.buyer_is_maker,
            "isBestMatch": True,
        }

    def _aggregate_trades(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "fromId", "startTime", "endTime", "limit")
        market, limit = sent.market(), sent.limit(_TRADES, _MOST)
        first, start, end = sent.integer("fromId"), self._moment(sent, "startTime"), self._moment(sent, "endTime")
        if first is not None:
            if start is not None or end is not None:
                raise refusal.bad_combination()
            found = market.trades_from(first, limit)
        elif start is not None:
            found = market.trades_since(start, end, limit)
        else:
            found = market.trades(until=end, limit=limit)
        return encode(
            [
                {
                    "a": trade.id,
                    "p": text(trade.price),
                    "q": text(trade.quantity),
                    "f": trade.id,
                    "l": trade.id,
                    "T": trade.at_ms + self._clock.offset_ms,
                    "m": trade.buyer_is_maker,
                    "M": True,
                }
                for trade in found
            ]
        )

    def _moment(self, sent: Parameters, name: str) -> int | None:
        shown = sent.moment(name)
        return None if shown is None else shown - self._clock.offset_ms

    def _klines(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "interval", "startTime", "endTime", "timeZone", "limit")
        market, interval = sent.market(), sent.text("interval")
        if interval is None:
            raise refusal.missing_parameter("interval")
        if interval not in INTERVALS:
            raise refusal.bad_interval()
        found = candles(
            market,
            interval,
            start=sent.moment("startTime"),
            end=sent.moment("endTime"),
            limit=sent.limit(_TRADES, _MOST),
            zone_ms=sent.zone_ms(),
        )
        return encode(
            [
                [
                    candle.open_ms,
                    text(candle.open),
                    text(candle.high),
                    text(candle.low),
                    text(candle.close),
                    text(candle.volume),
                    candle.close_ms,
                    text(candle.quote_volume),
                    candle.count,
                    text(candle.volume // 2),
                    text(candle.quote_volume // 2),
                    "0",
                ]
                for candle in found
            ]
        )

    def _average_price(self, query: Query) -> str:
        market = self._parameters(query, "symbol").market()
        return encode(
            {
                "mins": _AVERAGE_MINUTES,
                "price": text(market.average(_AVERAGE_MINUTES * 60_000)),
                "closeTime": market.last_trade().at_ms + self._clock.offset_ms,
            }
        )

    def _day_tickers(self, query: Query) -> str:
        sent = self._parameters(query, "symbol", "symbols", "type", "symbolStatus")
        kind = sent.text("type") or "FULL"
        if kind not in ("FULL", "MINI"):
            raise refusal.VenueError(-1139, "Invalid ticker type.")
        return self._page(sent, self._day_ticker if kind == "FULL" else self._mini_ticker)

    def _prices(self, query: Query) -> str:
        return self._page(self._parameters(query, "symbol", "symbols", "symbolStatus"), self._price)

    def _book_tickers(self, query: Query) -> str:
        return self._page(self._parameters(query, "symbol", "symbols", "symbolStatus"), self._book_ticker)

    def _page(self, sent: Parameters, of: Callable[[Market], dict[str, Any]]) -> str:
        """One object for `symbol`, a list for `symbols` or all."""
        chosen, status = sent.chosen(), sent.status()
        if "symbol" in sent and chosen:
            return encode(of(chosen[0]))
        listed = self._with_status(status) if chosen is None else chosen
        return encode([of(market) for market in listed if status in (None, market.instrument.status)])

    def _with_status(self, status: str | None) -> list[Market]:
        return [market for market in self._markets.values() if status in (None, market.instrument.status)]

    @staticmethod
    def _price(market: Market) -> dict[str, Any]:
        return {"symbol": market.instrument.symbol, "price": text(market.last_trade().price)}

    @staticmethod
    def _book_ticker(market: Market) -> dict[str, Any]:
        top = market.top()
        return {
            "symbol": market.instrument.symbol,
            "bidPrice": text(top.bid),
            "bidQty": text(top.bid_quantity),
            "askPrice": text(top.ask),
            "askQty": text(top.ask_quantity),
        }

    @staticmethod
    def _mini_ticker(market: Market) -> dict[str, Any]:
        day = day_statistics(market)
        return {
            "symbol": market.instrument.symbol,
            "openPrice": text(day.open),
            "highPrice": text(day.high),
            "lowPrice": text(day.low),
            "lastPrice": text(day.last),
            "volume": text(day.volume),
            "quoteVolume": text(day.quote_volume),
            "openTime": day.open_ms,
            "closeTime": day.close_ms,
            "firstId": day.first_id,
            "lastId": day.last_id,
            "count": day.count,
        }

    @staticmethod
    def _day_ticker(market: Market) -> dict[str, Any]:
        day, top = day_statistics(market), market.top()
        return {
            "symbol": market.instrument.symbol,
            "priceChange": day.change,
            "priceChangePercent": day.change_percent,
            "weightedAvgPrice": text(day.average),
            "prevClosePrice": text(day.open),
            "lastPrice": text(day.last),
            "lastQty": text(day.last_quantity),
            "bidPrice": text(top.bid),
            "bidQty": text(top.bid_quantity),
            "askPrice": text(top.ask),
            "askQty": text(top.ask_quantity),
            "openPrice": text(day.open),
            "highPrice": text(day.high),
            "lowPrice": text(day.low),
            "volume": text(day.volume),
            "quoteVolume": text(day.quote_volume),
            "openTime": day.open_ms,
            "closeTime": day.close_ms,
            "firstId": day.first_id,
            "lastId": day.last_id,
            "count": day.count,
        }
