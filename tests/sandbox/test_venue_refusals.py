"""Requests that are not signed, timed, written or allowed as they must be get Binance's codes and change nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlencode

import ccxt  # pyright: ignore[reportMissingTypeStubs]
import pytest

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import SEED, Hands, play
from tests.sandbox.venue_trader import BTC, COINS, KEY, signature, trading

_BUY: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "90000",
}
_MARKET: dict[str, Any] = {"type": "MARKET", "timeInForce": None, "price": None}
_STOP: dict[str, Any] = {"type": "STOP_LOSS", "side": "SELL", "timeInForce": None, "price": None, "stopPrice": "90000"}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"symbol": None}, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ({"symbol": "NOPEUSDT"}, -1121, "Invalid symbol."),
        ({"symbol": "LUNAUSDT"}, -2010, "Market is closed."),
        ({"side": None}, -1102, "Mandatory parameter 'side' was not sent, was empty/null, or malformed."),
        ({"side": "buy"}, -1117, "Invalid side."),
        ({"type": "BEST"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"timeInForce": None}, -1102, "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."),
        ({"quantity": None}, -1102, "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed."),
        ({"quantity": ""}, -1105, "Parameter 'quantity' was empty."),
        ({"quantity": "-1"}, -1100, "Illegal characters found in parameter 'quantity'; legal range is"),
        ({"quantity": "1e-3"}, -1100, "Illegal characters found in parameter 'quantity'; legal range is"),
        ({"quantity": "0.000000001"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"price": "0.00"}, -1013, "Invalid price."),
        ({"price": None}, -1102, "Mandatory parameter 'price' was not sent, was empty/null, or malformed."),
        ({"stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
        ({"quoteOrderQty": "10"}, -1106, "Parameter 'quoteOrderQty' sent when not required."),
        ({**_MARKET, "price": "90000"}, -1106, "Parameter 'price' sent when not required."),
        ({**_MARKET, "timeInForce": "GTC"}, -1106, "Parameter 'timeInForce' sent when not required."),
        ({**_MARKET, "quantity": None}, -1102, "Param 'quantity' or 'quoteOrderQty' must be sent"),
        ({**_STOP, "stopPrice": None}, -1102, "Param 'stopPrice' or 'trailingDelta' must be sent"),
        ({"newClientOrderId": "no dots."}, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
        ({"newClientOrderId": "x" * 37}, -1100, "legal range is '^[a-zA-Z0-9-_]{1,36}$'."),
        ({"newOrderRespType": "SHORT"}, -1130, "Data sent for parameter 'newOrderRespType' is not valid."),
        ({"stopLoss": "{}"}, -1104, "Not all sent parameters were read; read '8' parameter(s) but was sent '9'."),
        ({"price": "90000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "10000"}, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        ({"price": "900000"}, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        ({"quantity": "0.000011"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.00005"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "300"}, -1013, "Filter failure: NOTIONAL"),
        ({**_MARKET, "quantity": "0.00004"}, -1013, "Filter failure: NOTIONAL"),
        ({**_MARKET, "quantity": "11"}, -1013, "Filter failure: MARKET_LOT_SIZE"),
        ({**_MARKET, "quantity": None, "quoteOrderQty": "4.99"}, -1013, "Filter failure: NOTIONAL"),
        ({**_STOP, "stopPrice": "90000.005"}, -1013, "Filter failure: PRICE_FILTER"),
        ({**_STOP, "trailingDelta": "5"}, -1013, "Filter failure: TRAILING_DELTA"),
        ({"quantity": "2"}, -2010, "Account has insufficient balance for requested action."),
        ({**_STOP, "quantity": "2.5"}, -2010, "Account has insufficient balance for requested action."),
    ],
)
def test_a_wrong_order_gets_its_code_and_leaves_no_trace(change: dict[str, Any], code: int, message: str) -> None:
    async def story() -> None:
        async with trading() as trader:
            answer = await trader.send("POST", "order", **{**_BUY, **change})
            assert (answer.status, answer.code) == (400, code), answer.body
            assert message in answer.message
            assert not trader.served.venue.ledger.orders
            assert await trader.balances() == {name: (amount, 0) for name, amount in COINS.items()}

    play(story())


def test_the_number_of_open_orders_is_limited_in_all_and_of_stops_and_of_lists() -> None:
    async def story() -> None:
        async with trading() as trader:
            stop = {**_BUY, **_STOP, "quantity": "0.001"}
            for _ in range(5):
                assert (await trader.send("POST", "order", **stop)).status == 200
            full = await trader.send("POST", "order", **stop)
            assert (full.code, full.message) == (-1013, "Filter failure: MAX_NUM_ALGO_ORDERS")
            trader.served.venue.counts.clear()
            for number in range(195):
                if not number % 90:
                    trader.served.venue.counts.clear()
                assert (await trader.send("POST", "order", **_BUY | {"quantity": "0.0001"})).status == 200
            trader.served.venue.counts.clear()
            full = await trader.send("POST", "order", **_BUY)
            assert (full.code, full.message) == (-1013, "Filter failure: MAX_NUM_ORDERS")
            assert (await trader.send("POST", "order", **_BUY | {"symbol": "ETHUSDT", "price": "3000"})).status == 200

    play(story())


@pytest.mark.parametrize(
    ("change", "key", "status", "code"),
    [
        ({"timestamp": None}, KEY, 400, -1102),
        ({"timestamp": "yesterday"}, KEY, 400, -1100),
        ({"recvWindow": "60001"}, KEY, 400, -1102),
        ({"recvWindow": "a while"}, KEY, 400, -1100),
        ({"recvWindow": "4999.999"}, KEY, 200, 0),
        ({"secret": "e" * 64}, KEY, 400, -1022),
        ({}, "", 401, -2014),
        ({}, "not a key", 401, -2014),
        ({}, "f" * 64, 401, -2015),
    ],
)
def test_what_is_not_signed_as_it_must_be_is_refused(change: dict[str, Any], key: str, status: int, code: int) -> None:
    async def story() -> None:
        async with trading() as trader:
            answer = await trader.send("GET", "account", **{"key": key, **change})
            assert (answer.status, answer.code) == (status, code)

    play(story())


def test_query_and_body_are_signed_as_they_are_sent() -> None:
    async def story() -> None:
        async with trading() as trader:
            now = int(time.time() * 1000)
            query = urlencode({"symbol": "BTCUSDT", "side": "BUY"})
            body = urlencode({"type": "MARKET", "quantity": "0.001", "timestamp": now})
            split = await trader.send_as_is("POST", "order", query, body=f"{body}&signature={signature(query + body)}")
            assert split.status == 200
            shouted = f"{body}&{query}&signature={signature(f'{body}&{query}').upper()}"
            assert (await trader.send_as_is("POST", "order", "", body=shouted)).status == 200
            # %7E is what ~ may be written as; the signature is over what was written
            odd = f"symbol=BTCUSDT&origClientOrderId=~%7E&timestamp={now}"
            assert (await trader.send_as_is("GET", "order", f"{odd}&signature={signature(odd)}")).code == -2013
            assert (await trader.send_as_is("GET", "order", odd)).code == -1102
            twice = f"symbol=BTCUSDT&symbol=BTCUSDT&orderId=1&timestamp={now}"
            assert (await trader.send_as_is("GET", "order", f"{twice}&signature={signature(twice)}")).code == -1101

    play(story())


def test_a_clock_that_is_off_is_refused_both_ways_and_synchronising_helps() -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.ccxt.load_markets()
            for offset, says in ((30_000, "outside of the recvWindow"), (-30_000, "ahead of the server's time")):
                await trader.served.control("clock", offset_ms=offset)
                with pytest.raises(ccxt.InvalidNonce, match=says):
                    await trader.ccxt.create_order(BTC, "market", "buy", 0.001)
                trader.ccxt.options["timeDifference"] = 0
            await trader.ccxt.load_time_difference()
            assert (await trader.ccxt.create_order(BTC, "market", "buy", 0.001))["status"] == "closed"

    play(story())


def test_a_request_kept_waiting_past_its_window_is_not_carried_out() -> None:
    async def story() -> None:
        hands = Hands()
        async with trading(Venue(SEED, now_ms=hands)) as trader:
            await trader.served.control("faults", path="/api/v3/order", kind="queue", seconds=0.05, times=2)
            sent: dict[str, Any] = {**_BUY, "timestamp": hands.moment - 4990, "recvWindow": 5000}
            assert (await trader.send("POST", "order", **sent)).status == 200
            waiting = asyncio.create_task(trader.send("POST", "order", **sent))
            while (await trader.served.get("/_control/faults"))["faults"]:
                pass
            hands.moment += 11
            assert (await waiting).code == -1021
            assert len(trader.served.venue.ledger.orders) == 1

    play(story())


def test_a_revoked_key_is_refused_until_it_is_given_back() -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.ccxt.load_markets()
            await trader.served.control("keys", apiKey=KEY, revoked=True)
            with pytest.raises(ccxt.AuthenticationError):
                await trader.ccxt.fetch_balance()
            await trader.served.control("keys", apiKey=KEY, revoked=False)
            assert (await trader.ccxt.fetch_balance())["USDT"]["free"] == 100_000

    play(story())


@pytest.mark.parametrize(
    ("method", "path", "sent", "weight"),
    [
        ("POST", "order", _BUY, 1),
        ("POST", "order/test", _BUY, 1),
        ("GET", "order", {"symbol": "BTCUSDT", "orderId": 1}, 4),
        ("GET", "openOrders", {"symbol": "BTCUSDT"}, 6),
        ("GET", "openOrders", {}, 80),
        ("GET", "allOrders", {"symbol": "BTCUSDT"}, 20),
        ("GET", "myTrades", {"symbol": "BTCUSDT"}, 20),
        ("GET", "myTrades", {"symbol": "BTCUSDT", "orderId": 1}, 5),
        ("GET", "account", {}, 20),
        ("GET", "rateLimit/order", {}, 40),
    ],
)
def test_a_signed_request_weighs_what_the_documentation_says(
    method: str, path: str, sent: dict[str, Any], weight: int
) -> None:
    async def story() -> None:
        async with trading() as trader:
            answer = await trader.send(method, path, **sent)
            assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)

    play(story())


def test_unfilled_orders_are_counted_and_limited_and_filled_ones_forgiven() -> None:
    async def story() -> None:
        async with trading(Venue(SEED, now_ms=Hands())) as trader:
            now = trader.served.venue.clock.now_ms()
            for count in range(1, 101):
                answer = await trader.send("POST", "order", **{**_BUY, "quantity": "0.001"}, timestamp=now)
                assert answer.headers["X-MBX-ORDER-COUNT-10S"] == str(count)
            full = await trader.send("POST", "order", **_BUY, timestamp=now)
            assert (full.status, full.code) == (429, -1015)
            assert full.message == "Too many new orders; current limit is 100 orders per 10 SECOND."
            assert 1 <= int(full.headers["Retry-After"]) <= 10
            await trader.price("90000.00")  # all fill, as makers
            counts = await trader.get("rateLimit/order", timestamp=now)
            assert [(each["interval"], each["count"]) for each in counts] == [("SECOND", 0), ("DAY", 0)]
            taken = await trader.send("POST", "order", **{**_BUY, **_MARKET, "quantity": "0.001"}, timestamp=now)
            assert taken.headers["X-MBX-ORDER-COUNT-10S"] == "0"

    play(story())


def test_a_banned_address_may_not_trade() -> None:
    async def story() -> None:
        # the clock stands, so that no new minute begins
        async with trading(Venue(SEED, now_ms=Hands())) as trader:
            await trader.ccxt.load_markets()
            trader.served.venue.weight.charge("127.0.0.1", 5800)
            answers = [await trader.send("GET", "openOrders") for _ in range(23)]
            assert {answer.status for answer in answers[3:22]} == {429}
            assert answers[-1].status == 418
            with pytest.raises(ccxt.DDoSProtection):
                await trader.ccxt.create_order(BTC, "market", "buy", 0.001)
            assert not trader.served.venue.ledger.orders
            asked = await trader.served.get("/_control/requests")
            assert asked["requests"]["GET /api/v3/openOrders"] == {KEY: 23}

    play(story())


def test_there_is_no_sapi() -> None:
    async def story() -> None:
        async with trading() as trader:
            address = f"{trader.served.origin}/sapi/v1/capital/config/getall"
            async with trader.served.http.get(address, headers={"X-MBX-APIKEY": KEY}) as answer:
                assert answer.status == 404

    play(story())
