"""The public REST endpoints keep Binance's shapes, errors and limits."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import MOMENT, SEED, Hands, play, serving


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("depth", {}, -1102),
        ("depth", {"symbol": ""}, -1105),
        ("depth", {"symbol": "NOPE"}, -1121),
        ("depth", {"symbol": "btcusdt"}, -1100),
        ("depth", {"symbol": "BTC/USDT"}, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": "many"}, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": "-5"}, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": "0"}, -1130),
        ("depth", {"symbol": "BTCUSDT", "colour": "red"}, -1101),
        ("depth", {"symbol": "BTCUSDT", "symbolStatus": "BREAK"}, -1220),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "timeZone": "15"}, -1130),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "1"}, -1128),
        ("avgPrice", {"symbol": "BTCUSDC2"}, -1121),
        ("ticker/price", {"symbol": "BTCUSDT", "symbols": '["ETHUSDT"]'}, -1128),
        ("ticker/price", {"symbols": "BTCUSDT"}, -1100),
        ("ticker/price", {"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ("ticker/price", {"symbols": '["BTCUSDT","NOPE"]'}, -1121),
        ("ticker/24hr", {"type": "SMALL"}, -1139),
        ("exchangeInfo", {"symbol": "NOPE"}, -1121),
        ("exchangeInfo", {"symbolStatus": "ASLEEP"}, -1122),
        ("time", {"symbol": "BTCUSDT"}, -1101),
    ],
)
def test_a_wrong_request_gets_its_code(path: str, query: dict[str, str], code: int) -> None:
    async def story() -> None:
        async with serving() as served, served.http.get(f"{served.origin}/api/v3/{path}", params=query) as answer:
            assert answer.status == 400
            body = await answer.json()
            assert body["code"] == code
            assert body["msg"]

    play(story())


def test_one_symbol_gives_an_object_and_several_or_none_a_list() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served:
            for ticker in ("price", "bookTicker", "24hr"):
                path = f"/api/v3/ticker/{ticker}"
                one = await served.get(path, symbol="BTCUSDT")
                assert one["symbol"] == "BTCUSDT"
                both = await served.get(path, symbols='["ETHUSDT","BTCUSDT"]')
                assert [entry["symbol"] for entry in both] == ["ETHUSDT", "BTCUSDT"]
                assert both[1] == one
                every = await served.get(path)
                assert len(every) == 24
                assert one in every
                suspended = await served.get(path, symbolStatus="BREAK")
                assert [entry["symbol"] for entry in suspended] == ["LUNAUSDT"]

    play(story())


def test_money_is_text_with_eight_decimals_everywhere() -> None:
    def numbers(document: Any) -> list[Any]:
        if isinstance(document, dict):
            return [number for value in cast("dict[str, Any]", document).values() for number in numbers(value)]
        if isinstance(document, list):
            return [number for value in cast("list[Any]", document) for number in numbers(value)]
        return [document]

    async def story() -> None:
        async with serving() as served:
            for path in ("depth", "trades", "aggTrades", "avgPrice", "ticker/24hr", "ticker/price"):
                found = numbers(await served.get(f"/api/v3/{path}", symbol="BTCUSDT"))
                assert not any(isinstance(number, float) for number in found)
            prices = await served.get("/api/v3/depth", symbol="SHIBUSDT", limit=5)
            for price, quantity in prices["bids"] + prices["asks"]:
                assert len(price.partition(".")[2]) == len(quantity.partition(".")[2]) == 8

    play(story())


def test_exchange_info_tells_the_rules_of_all_some_or_one() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served:
            path = "/api/v3/exchangeInfo"
            every = await served.get(path)
            assert every["serverTime"] == MOMENT
            assert {limit["rateLimitType"] for limit in every["rateLimits"]} == {
                "REQUEST_WEIGHT",
                "ORDERS",
                "RAW_REQUESTS",
            }
            btc = next(entry for entry in every["symbols"] if entry["symbol"] == "BTCUSDT")
            assert btc["permissionSets"] == [["SPOT"]]
            assert btc["ocoAllowed"]
            assert btc["otoAllowed"]
            assert "TAKE_PROFIT" in btc["orderTypes"]
            assert (await served.get(path, symbol="BTCUSDT"))["symbols"] == [btc]
            several = await served.get(path, symbols='["LUNAUSDT","BTCUSDT"]')
            assert [entry["status"] for entry in several["symbols"]] == ["BREAK", "TRADING"]
            bare = await served.get(path, showPermissionSets="false")
            assert bare["symbols"][0]["permissionSets"] == []

    play(story())


def test_depth_answers_as_many_levels_as_asked_and_there_are() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served:
            for limit, expected in ((5, 5), (100, 100), (9999, 400)):
                book = await served.get("/api/v3/depth", symbol="BTCUSDT", limit=limit)
                assert len(book["bids"]) == len(book["asks"]) == expected
            again = await served.get("/api/v3/depth", symbol="BTCUSDT", limit=9999)
            assert again == book

    play(story())


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("ping", {}, 1),
        ("time", {}, 1),
        ("exchangeInfo", {}, 20),
        ("depth", {"symbol": "BTCUSDT"}, 5),
        ("depth", {"symbol": "BTCUSDT", "limit": "500"}, 25),
        ("depth", {"symbol": "BTCUSDT", "limit": "1000"}, 50),
        ("depth", {"symbol": "BTCUSDT", "limit": "5000"}, 250),
        ("depth", {"symbol": "NOPE"}, 5),
        ("trades", {"symbol": "BTCUSDT"}, 25),
        ("aggTrades", {"symbol": "BTCUSDT"}, 4),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m"}, 2),
        ("avgPrice", {"symbol": "BTCUSDT"}, 2),
        ("ticker/24hr", {"symbol": "BTCUSDT"}, 2),
        ("ticker/24hr", {}, 80),
        ("ticker/price", {"symbol": "BTCUSDT"}, 2),
        ("ticker/price", {}, 4),
        ("ticker/bookTicker", {"symbols": '["BTCUSDT"]'}, 4),
    ],
)
def test_a_request_weighs_what_the_documentation_says(path: str, query: dict[str, str], weight: int) -> None:
    async def story() -> None:
        async with serving() as served, served.http.get(f"{served.origin}/api/v3/{path}", params=query) as answer:
            assert answer.headers["X-MBX-USED-WEIGHT"] == str(weight)
            assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)

    play(story())


def test_past_the_limit_comes_429_then_a_ban_and_each_says_for_how_long() -> None:
    async def story() -> None:
        hands = Hands(MOMENT - MOMENT % 60_000 + 20_000)
        async with serving(Venue(SEED, now_ms=hands)) as served:

            async def ask() -> tuple[int, str | None, Any]:
                query = {"symbol": "BTCUSDT", "limit": "5000"}
                async with served.http.get(f"{served.origin}/api/v3/depth", params=query) as answer:
                    return answer.status, answer.headers.get("Retry-After"), await answer.json()

            statuses = [(await ask())[0] for _ in range(24)]
            assert statuses == [200] * 24
            status, retry_after, body = await ask()
            assert (status, retry_after, body["code"]) == (429, "40", -1003)
            for _ in range(19):
                assert (await ask())[0] == 429
            status, retry_after, body = await ask()
            assert (status, retry_after, body["code"]) == (418, "120", -1003)
            hands.moment += 60_000
            assert (await ask())[0] == 418
            hands.moment += 60_000
            assert (await ask())[0] == 200

    play(story())


def test_a_new_minute_begins_with_nothing_used() -> None:
    async def story() -> None:
        hands = Hands()
        async with serving(Venue(SEED, now_ms=hands)) as served:
            for used in ("20", "40"):
                async with served.http.get(f"{served.origin}/api/v3/exchangeInfo") as answer:
                    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == used
            hands.moment += 60_000
            async with served.http.get(f"{served.origin}/api/v3/ping") as answer:
                assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "1"
                assert await answer.json() == {}

    play(story())
