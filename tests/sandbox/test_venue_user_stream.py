"""An account hears of its orders and coins by the websocket API, through ccxt.pro and by hand."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import ccxt  # pyright: ignore[reportMissingTypeStubs]
import pytest
from aiohttp import WSMsgType

from tests.sandbox.venue_client import play, receive
from tests.sandbox.venue_trader import BTC, COINS, KEY, Trader, signature, trading

_WAY = "/ws-api/v3"


def _signed(trader: Trader, **parameters: Any) -> dict[str, Any]:
    parameters |= {"apiKey": KEY, "timestamp": trader.served.venue.clock.now_ms()}
    return parameters | {"signature": signature(urlencode(sorted(parameters.items())))}


def test_ccxt_watches_orders_trades_and_balances() -> None:
    async def story() -> None:
        async with trading() as trader:
            pro = trader.ccxt
            watches = (pro.watch_orders(BTC), pro.watch_my_trades(BTC), pro.watch_balance())
            watched = [asyncio.create_task(watch) for watch in watches]
            while not trader.served.venue.events.listening():
                await trader.served.get("/api/v3/ping")
            placed = await trader.ccxt.create_order(BTC, "market", "buy", 0.01)
            [orders, trades, balance] = await asyncio.gather(*watched)
            assert orders[-1]["id"] == trades[-1]["order"] == placed["id"]
            assert (trades[-1]["amount"], trades[-1]["fee"]) == (0.01, {"cost": 0.00001, "currency": "BTC"})
            assert balance["BTC"]["free"] == 2.00999
            assert len(trader.served.venue.events.listening()) == 1

    play(story())


def test_ccxt_trades_over_the_websocket() -> None:
    async def story() -> None:
        async with trading() as trader:
            placed = await trader.ccxt.create_order_ws(BTC, "limit", "buy", 0.01, 90000)
            assert placed["status"] == "open"
            assert (await trader.ccxt.fetch_order_ws(placed["id"], BTC))["status"] == "open"
            assert len(await trader.ccxt.fetch_open_orders_ws(BTC)) == 1
            replaced = await trader.ccxt.edit_order_ws(placed["id"], BTC, "limit", "buy", 0.01, 91000)
            assert replaced["id"] != placed["id"]
            assert (await trader.ccxt.cancel_order_ws(replaced["id"], BTC))["status"] == "canceled"
            with pytest.raises(ccxt.InsufficientFunds):
                await trader.ccxt.create_order_ws(BTC, "market", "buy", 2)
            held = (await trader.ccxt.fetch_balance_ws())["info"]["balances"]
            assert held[-1] == {"asset": "USDT", "free": "100000.00000000", "locked": "0.00000000"}
            asked = (await trader.served.get("/_control/requests"))["requests"]
            assert asked["WS order.place"] == {KEY: 2}

    play(story())


def test_every_step_of_an_order_is_told_with_its_coins() -> None:
    async def story() -> None:
        async with trading() as trader, trader.hearing() as hear:
            placed = await trader.limit("BUY", "0.02", "99000", newClientOrderId="entry")
            new, locked = await hear(), await hear()
            assert (
                new
                | {
                    "e": "executionReport",
                    "s": "BTCUSDT",
                    "c": "entry",
                    "C": "",
                    "S": "BUY",
                    "o": "LIMIT",
                    "f": "GTC",
                    "q": "0.02000000",
                    "p": "99000.00000000",
                    "x": "NEW",
                    "X": "NEW",
                    "i": placed["orderId"],
                    "g": -1,
                    "l": "0.00000000",
                    "z": "0.00000000",
                    "n": "0",
                    "N": None,
                    "t": -1,
                    "w": True,
                    "r": "NONE",
                }
                == new
            )
            assert locked["e"] == "outboundAccountPosition"
            assert locked["B"] == [{"a": "USDT", "f": "98020.00000000", "l": "1980.00000000"}]
            await trader.served.control("book", symbol="BTCUSDT", bids=[["98000", "1"]], asks=[["99000", "0.01"]])
            trade, moved = await hear(), await hear()
            assert (
                trade
                | {
                    "x": "TRADE",
                    "X": "PARTIALLY_FILLED",
                    "l": "0.01000000",
                    "L": "99000.00000000",
                    "m": True,
                    "z": "0.01000000",
                    "Z": "990.00000000",
                    "Y": "990.00000000",
                    "n": "0.00001000",
                    "N": "BTC",
                }
                == trade
            )
            [ledger_trade] = (await trader.served.get("/_control/ledger"))["trades"]
            assert trade["t"] == ledger_trade["id"]
            assert [each["a"] for each in moved["B"]] == ["BTC", "USDT"]
            await trader.send("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"], newClientOrderId="stop")
            gone = await hear()
            assert (gone["x"], gone["X"], gone["c"], gone["C"]) == ("CANCELED", "CANCELED", "stop", "entry")
            assert (await hear())["B"] == [{"a": "USDT", "f": "99010.00000000", "l": "0.00000000"}]
            await trader.order(type="LIMIT", timeInForce="IOC", quantity="0.02", price="98500")
            assert [((await hear())["x"]) for _ in range(2)] == ["NEW", "EXPIRED"]

    play(story())


def test_a_list_tells_of_itself_and_of_the_order_that_it_ends() -> None:
    async def story() -> None:
        async with trading() as trader, trader.hearing() as hear:
            legs = {"aboveType": "LIMIT_MAKER", "abovePrice": "110000", "belowType": "STOP_LOSS"}
            sent = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "belowStopPrice": "95000", **legs}
            placed = (await trader.send("POST", "orderList/oco", **sent)).body
            await trader.price("95000.00")
            heard: list[Any] = []
            while not heard or heard[-1].get("L") != "ALL_DONE":
                heard.append(await hear())
            steps = [(event.get("x"), event["o"], event["X"]) for event in heard if event["e"] == "executionReport"]
            assert steps == [
                ("NEW", "STOP_LOSS", "NEW"),
                ("NEW", "LIMIT_MAKER", "NEW"),
                ("EXPIRED", "LIMIT_MAKER", "EXPIRED"),
                ("NEW", "STOP_LOSS", "NEW"),
                ("TRADE", "STOP_LOSS", "FILLED"),
            ]
            lists = [event for event in heard if event["e"] == "listStatus"]
            assert [event["l"] for event in lists] == ["EXEC_STARTED", "ALL_DONE"]
            assert [order["i"] for order in lists[0]["O"]] == [order["orderId"] for order in placed["orders"]]
            assert {event["g"] for event in lists} == {placed["orderListId"]}

    play(story())


def test_coins_that_come_without_a_trade_are_told() -> None:
    async def story() -> None:
        async with trading() as trader, trader.hearing() as hear:
            await trader.served.control("balance", apiKey=KEY, asset="BTC", free="1.5")
            event = await hear()
            assert (event["e"], event["a"], event["d"]) == ("balanceUpdate", "BTC", "-0.50000000")
            assert (await hear())["B"] == [{"a": "BTC", "f": "1.50000000", "l": "0.00000000"}]
            assert (await trader.balances())["BTC"] == (1.5, 0)

    play(story())


def test_the_stream_can_be_silent_doubled_ended_or_dropped() -> None:
    async def story() -> None:
        async with trading() as trader, trader.served.stream(_WAY) as socket:

            async def ask(method: str, **parameters: Any) -> Any:
                await socket.send_json({"id": 7, "method": method, "params": parameters})
                while (answer := await receive(socket)).get("id") != 7:
                    pass
                return answer

            async def mode(name: str) -> int:
                return (await trader.served.control("streams", user=name))["subscriptions"]

            subscribe = "userDataStream.subscribe.signature"
            assert (await ask(subscribe, **_signed(trader)))["result"] == {"subscriptionId": 0}
            assert await mode("silent") == 1
            await trader.order(type="MARKET", quantity="0.001")
            assert await mode("duplicate") == 1
            second = await trader.order(type="MARKET", quantity="0.001")
            heard = [await receive(socket) for _ in range(6)]
            assert [event["event"].get("x") for event in heard] == ["NEW", "NEW", "TRADE", "TRADE", None, None]
            assert heard[0]["event"]["i"] == second["orderId"]
            assert heard[0] == heard[1]
            assert await mode("terminate") == 1
            assert (await receive(socket))["event"]["e"] == "eventStreamTerminated"
            assert (await ask("session.subscriptions"))["result"] == []
            assert (await ask(subscribe, **_signed(trader)))["result"] == {"subscriptionId": 1}
            assert await mode("drop") == 1
            assert (await socket.receive(timeout=10)).type in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSE)
            while trader.served.venue.events.listening():
                await trader.served.get("/api/v3/ping")

    play(story())


def test_events_can_come_late_and_in_another_order() -> None:
    async def story() -> None:
        async with trading() as trader, trader.hearing() as hear:
            await trader.served.control("streams", user="reorder")
            await trader.order(type="MARKET", quantity="0.001")
            assert [(await hear()).get("x") for _ in range(2)] == ["TRADE", "NEW"]
            await trader.served.control("streams", user="late", seconds=0.05)
            assert (await hear())["e"] == "outboundAccountPosition"
            second = await trader.order(type="MARKET", quantity="0.001")
            heard = [await hear() for _ in range(3)]
            assert [event.get("x") for event in heard] == ["NEW", "TRADE", None]
            assert heard[0]["i"] == second["orderId"]

    play(story())


def test_a_session_is_opened_asked_and_closed() -> None:
    async def story() -> None:
        async with trading() as trader, trader.served.stream(f"{_WAY}?returnRateLimits=false") as socket:

            async def ask(method: str, **parameters: Any) -> Any:
                await socket.send_json({"id": method, "method": method, "params": parameters})
                answer = await receive(socket)
                assert answer["id"] == method
                return answer.get("result", answer.get("error"))

            assert await ask("ping") == {}
            assert (await ask("time")).keys() == {"serverTime"}
            assert (await ask("exchangeInfo", symbols=["BTCUSDT"]))["symbols"][0]["symbol"] == "BTCUSDT"
            assert (await ask("userDataStream.subscribe"))["code"] == -1002
            assert (await ask("session.logon", **_signed(trader)))["apiKey"] == KEY
            assert await ask("userDataStream.subscribe") == {"subscriptionId": 0}
            assert (await ask("userDataStream.subscribe"))["code"] == -2035
            assert (await ask("session.status"))["userDataStream"]
            assert (await ask("account.status", omitZeroBalances=True))["balances"][0]["asset"] == "BTC"
            assert len((await ask("account.status"))["balances"]) == len(COINS)
            await socket.send_json({"id": 1, "method": "userDataStream.unsubscribe", "params": {"subscriptionId": 0}})
            assert (await receive(socket))["event"]["e"] == "eventStreamTerminated"
            assert await receive(socket) == {"id": 1, "status": 200, "result": {}}
            assert (await ask("userDataStream.unsubscribe"))["code"] == -2036
            assert (await ask("session.logout"))["apiKey"] is None
            assert (await ask("account.status"))["code"] == -1102

    play(story())


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ("nonsense", 400, -1135),
        ("[]", 400, -1135),
        ('{"id": 1}', 400, -1135),
        ('{"id": 1, "method": "order.guess"}', 400, -1020),
        ('{"id": 1, "method": "order.place", "params": {"symbol": "BTCUSDT"}}', 400, -1102),
        ('{"id": 1, "method": "depth", "params": {"symbol": "NOPE"}}', 400, -1121),
        ('{"id": 1, "method": "account.status", "params": {"apiKey": "nobody", "timestamp": 1}}', 401, -2015),
        (f'{{"id": 1, "method": "account.status", "params": {{"apiKey": "{KEY}", "timestamp": 1}}}}', 400, -1102),
    ],
)
def test_a_wrong_request_is_answered_and_the_socket_stays(sent: str, status: int, code: int) -> None:
    async def story() -> None:
        async with trading() as trader, trader.served.stream(_WAY) as socket:
            await socket.send_str(sent)
            answer = await receive(socket)
            assert (answer["status"], answer["error"]["code"]) == (status, code)
            await socket.send_json({"id": "still there", "method": "v3/ping"})
            answer = await receive(socket)
            assert (answer["id"], answer["status"], answer["result"]) == ("still there", 200, {})
            assert answer["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"

    play(story())
