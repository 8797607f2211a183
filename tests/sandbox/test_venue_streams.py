"""The public websockets speak Binance's stream protocol, and only to those who listen."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import MOMENT, SEED, Hands, play, receive, serving, subscribe


@pytest.mark.parametrize(
    ("path", "wrapped"),
    [
        ("/ws/btcusdt@bookTicker", False),
        ("/stream?streams=btcusdt@bookTicker", True),
        ("/stream/0?streams=btcusdt@bookTicker", True),
        ("/stream/ws/3?streams=btcusdt@bookTicker", False),
    ],
)
def test_a_stream_named_in_the_address_needs_no_subscription(path: str, wrapped: bool) -> None:
    async def story() -> None:
        async with serving() as served, served.stream(path) as socket:
            event = await receive(socket)
            if wrapped:
                assert event["stream"] == "btcusdt@bookTicker"
                event = event["data"]
            assert event["s"] == "BTCUSDT"
            assert event.keys() == {"u", "s", "b", "B", "a", "A"}

    play(story())


def test_subscriptions_are_made_listed_and_ended() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served, served.stream("/ws") as socket:
            await subscribe(socket, "btcusdt@trade", "ethusdt@depth@100ms", "nopeusdt@trade")
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": "two"})
            listed = ["btcusdt@trade", "ethusdt@depth@100ms", "nopeusdt@trade"]
            assert await receive(socket) == {"result": listed, "id": "two"}
            await socket.send_json({"method": "UNSUBSCRIBE", "params": listed[:1], "id": 3})
            assert await receive(socket) == {"result": None, "id": 3}
            await served.control("price", symbol="BTCUSDT", price="90000")
            await served.control("price", symbol="ETHUSDT", price="3000")
            event = await receive(socket)
            assert event["s"] == "ETHUSDT"

    play(story())


def test_it_is_told_how_many_listen_to_each_stream() -> None:
    async def story() -> None:
        async with (
            serving(Venue(SEED, now_ms=Hands())) as served,
            served.stream("/ws") as one,
            served.stream("/ws") as other,
        ):
            await subscribe(one, "btcusdt@bookTicker", "ethusdt@trade")
            await subscribe(other, "btcusdt@bookTicker")
            await receive(other)
            async with served.http.get(f"{served.origin}/_control/streams") as answer:
                assert await answer.json() == {"streams": {"btcusdt@bookTicker": 2, "ethusdt@trade": 1}}

    play(story())


@pytest.mark.parametrize("pace_ms", [None, 50])
def test_every_market_moves_at_the_pace_asked_for(pace_ms: int | None) -> None:
    async def story() -> None:
        hands = Hands()
        venue = Venue(SEED, 60, pace_ms=pace_ms, now_ms=hands)
        paces = {market.instrument.pace_ms for market in venue.markets.values()}
        assert paces == ({50} if pace_ms else {250, 500, 1000})

    play(story())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("no json", 3),
        ("[]", 2),
        ('{"id": 1}', 2),
        ('{"method": "SHOUT", "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": ["btcusdt@nothing"], "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": ["btcusdt@kline_7m"], "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": [], "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": {}}', 2),
        ('{"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}', 1),
        ('{"method": "GET_PROPERTY", "params": ["colour"], "id": 1}', 0),
    ],
)
def test_a_wrong_request_gets_an_error_and_the_socket_stays(sent: str, code: int) -> None:
    async def story() -> None:
        async with serving() as served, served.stream("/ws") as socket:
            await socket.send_str(sent)
            assert (await receive(socket))["error"]["code"] == code
            await socket.send_json({"method": "GET_PROPERTY", "params": ["combined"], "id": 9})
            assert await receive(socket) == {"result": False, "id": 9}

    play(story())


def test_combined_payloads_can_be_asked_for() -> None:
    async def story() -> None:
        async with serving() as served, served.stream("/ws") as socket:
            await socket.send_json({"method": "SET_PROPERTY", "params": ["combined", True], "id": 1})
            assert await receive(socket) == {"result": None, "id": 1}
            await subscribe(socket, "btcusdt@miniTicker")
            assert (await receive(socket))["stream"] == "btcusdt@miniTicker"

    play(story())


@pytest.mark.parametrize(
    ("stream", "event"),
    [
        ("btcusdt@trade", {"e": "trade", "p": "91000.00000000"}),
        ("btcusdt@aggTrade", {"e": "aggTrade", "p": "91000.00000000"}),
        ("btcusdt@bookTicker", {"b": "90999.99000000", "a": "91000.01000000"}),
        ("btcusdt@miniTicker", {"e": "24hrMiniTicker", "c": "91000.00000000"}),
        ("btcusdt@ticker", {"e": "24hrTicker", "c": "91000.00000000", "b": "90999.99000000"}),
        ("btcusdt@avgPrice", {"e": "avgPrice", "i": "5m"}),
        ("btcusdt@depth", {"e": "depthUpdate"}),
        ("btcusdt@depth@100ms", {"e": "depthUpdate"}),
    ],
)
def test_a_set_price_is_pushed_at_once_on_every_stream(stream: str, event: dict[str, str]) -> None:
    async def story() -> None:
        # the clock stands: nothing but the change can be the cause
        async with serving(Venue(SEED, now_ms=Hands())) as served, served.stream("/ws") as socket:
            await subscribe(socket, stream)
            if not any(kind in stream for kind in ("depth", "trade", "aggTrade")):
                await receive(socket)
            await served.control("price", symbol="BTC/USDT", price="91000")
            heard = await receive(socket)
            assert heard["s"] == "BTCUSDT"
            assert heard | event == heard

    play(story())


def test_partial_books_and_candles_are_pushed_too() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served:
            await served.control("price", symbol="BTCUSDT", price="91000")
            for levels in (5, 10, 20):
                async with served.stream(f"/ws/btcusdt@depth{levels}@100ms") as socket:
                    book = await receive(socket)
                    assert book["bids"] == (await served.get("/api/v3/depth", symbol="BTCUSDT", limit=levels))["bids"]
            for interval in ("1s", "1m", "1M"):
                async with served.stream(f"/ws/btcusdt@kline_{interval}") as socket:
                    candle = (await receive(socket))["k"]
                    assert candle["c"] == "91000.00000000"
                    assert candle["t"] <= MOMENT <= candle["T"]
                    assert not candle["x"]

    play(story())


def test_all_markets_come_in_one_list() -> None:
    async def story() -> None:
        async with serving() as served, served.stream("/ws/!miniTicker@arr") as socket:
            tickers = await receive(socket)
            assert len(tickers) == 23  # the suspended one has no news
            assert {ticker["e"] for ticker in tickers} == {"24hrMiniTicker"}

    play(story())


def test_diff_events_join_on_to_a_snapshot_and_to_one_another() -> None:
    async def story() -> None:
        hands = Hands()
        async with serving(Venue(SEED, now_ms=hands)) as served, served.stream("/ws") as socket:
            await subscribe(socket, "btcusdt@depth@100ms")
            await served.get("/api/v3/ping")  # by now the subscription stands
            snapshot = await served.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
            book = {side: dict(snapshot[side]) for side in ("bids", "asks")}
            update_id = snapshot["lastUpdateId"]
            for step in range(6):
                hands.moment += 700
                if step == 3:
                    await served.control("price", symbol="BTCUSDT", price="95000")
                while update_id < served.venue.markets["BTCUSDT"].update_id():
                    event = await receive(socket)
                    assert event["U"] <= update_id + 1 <= event["u"]
                    update_id = event["u"]
                    for side, changed in (("bids", event["b"]), ("asks", event["a"])):
                        book[side].update(changed)
                        book[side] = {price: size for price, size in book[side].items() if float(size)}
                now = await served.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
                assert now["lastUpdateId"] == update_id
                assert book == {side: dict(now[side]) for side in ("bids", "asks")}

    play(story())


def test_a_client_that_sends_too_fast_is_cut() -> None:
    async def story() -> None:
        async with serving() as served, served.stream("/ws") as socket:
            for number in range(6):
                await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
            kinds: list[WSMsgType] = []
            while not kinds or kinds[-1] is WSMsgType.TEXT:
                kinds.append((await socket.receive(timeout=10)).type)
            assert kinds[-1] in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            assert socket.close_code == 1008

    play(story())


def test_a_connection_carries_1024_streams_and_an_address_300_connections() -> None:
    async def story() -> None:
        async with serving() as served:
            async with served.stream("/ws") as socket:
                names = [f"x{number}usdt@trade" for number in range(1025)]
                await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
                assert "1024" in (await receive(socket))["error"]["msg"]
                await subscribe(socket, *names[:1024])
            for _ in range(299):
                served.venue.weight.connect("127.0.0.1")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await served.stream("/ws").__aenter__()
            assert refused.value.status == 429

    play(story())


def test_pings_are_answered() -> None:
    async def story() -> None:
        async with serving() as served:
            address = served.origin.replace("http", "ws") + "/ws"
            async with served.http.ws_connect(address, autoping=False) as socket:
                await socket.ping(b"there?")
                answer = await socket.receive(timeout=10)
                assert (answer.type, answer.data) == (WSMsgType.PONG, b"there?")

    play(story())


def test_a_venue_nobody_listens_to_has_nothing_to_do() -> None:
    def waiting(loop: Any) -> int:
        return sum(not handle.cancelled() for handle in loop._scheduled)

    async def story() -> None:
        venue = Venue(SEED, 1500)
        async with serving(venue) as served:
            before = waiting(asyncio.get_running_loop())
            assert not any(market.listeners for market in venue.markets.values())
            async with served.stream("/ws/!bookTicker") as socket:
                await receive(socket)
                assert all(market.listeners for market in venue.markets.values() if market.instrument.trading)
            while any(market.listeners for market in venue.markets.values()):
                await served.get("/api/v3/ping")
            assert waiting(asyncio.get_running_loop()) <= before + 1  # one is the kept connection's

    play(story())


def test_stopping_says_goodbye_to_those_who_listen() -> None:
    async def story() -> None:
        async with serving() as served, served.stream("/ws") as socket:
            await subscribe(socket, "btcusdt@trade")
            stopping = asyncio.create_task(served.venue.stop())
            events: list[Any] = []
            while not events or events[-1].type is WSMsgType.TEXT:
                events.append(await socket.receive(timeout=10))
            assert events[-2].json()["e"] == "serverShutdown"
            assert socket.close_code == 1001
            await stopping

    play(story())
