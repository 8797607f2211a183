"""Every type of order is taken, filled, rests, triggers and ends as Binance's do, its coins set aside meanwhile."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import ccxt  # pyright: ignore[reportMissingTypeStubs]
import pytest

from tests.sandbox.venue_client import play
from tests.sandbox.venue_trader import BTC, COINS, KEY, trading

D = Decimal


def test_ccxt_buys_and_sells_at_market_and_the_fees_are_of_what_it_received() -> None:
    async def story() -> None:
        async with trading() as trader:
            bought = await trader.ccxt.create_order(BTC, "market", "buy", 0.01234, params={"clientOrderId": "buy-1"})
            assert (bought["status"], bought["clientOrderId"], bought["filled"]) == ("closed", "buy-1", 0.01234)
            [fill] = bought["info"]["fills"]
            assert (fill["commission"], fill["commissionAsset"]) == ("0.00001234", "BTC")
            sold = await trader.ccxt.create_order(BTC, "market", "sell", 0.5)
            trades = [trade["info"] for trade in await trader.ccxt.fetch_order_trades(sold["id"], BTC)]
            quote = sum((D(trade["quoteQty"]) for trade in trades), D(0))
            fees = sum((D(trade["commission"]) for trade in trades), D(0))
            assert {trade["commissionAsset"] for trade in trades} == {"USDT"}
            assert quote / 1000 - len(trades) * D("1e-8") < fees <= quote / 1000
            assert await trader.balances() == {
                "BTC": (COINS["BTC"] + D("0.01234") - D("0.00001234") - D("0.5"), 0),
                "USDT": (COINS["USDT"] - D("0.01234") * D(fill["price"]) + quote - fees, 0),
                "ETH": (COINS["ETH"], 0),
            }

    play(story())


def test_commission_in_bnb_is_cheaper_while_there_is_enough_of_it() -> None:
    async def story() -> None:
        async with trading(USDT="10000", BNB="0.001") as trader:
            await trader.served.control("commission", apiKey=KEY, bnb=True)
            await trader.price("1000.00", "BNBUSDT")
            first = await trader.order(type="MARKET", quantity="0.01")
            [fill] = first["fills"]
            # 1000.0001 USDT at 0.075 %, in coins of 1000 USDT each
            assert (fill["price"], fill["commission"], fill["commissionAsset"]) == (
                "100000.01000000",
                "0.00075000",
                "BNB",
            )
            [fill] = (await trader.order(type="MARKET", quantity="0.01"))["fills"]
            assert (fill["commission"], fill["commissionAsset"]) == ("0.00001000", "BTC")
            assert (await trader.balances())["BNB"] == (D("0.00025"), 0)
            rates = await trader.get("account/commission", symbol="BTCUSDT")
            assert rates["standardCommission"]["taker"] == "0.00100000"
            assert rates["discount"]["enabledForAccount"]

    play(story())


def test_a_market_order_walks_the_book_to_its_end_and_the_rest_expires() -> None:
    async def story() -> None:
        async with trading() as trader:
            asks = [["100.00", "1"], ["101.00", "2"]]
            await trader.served.control("book", symbol="SOLUSDT", bids=[["99.00", "5"]], asks=asks)
            done = await trader.order("SOLUSDT", type="MARKET", quantity="2.5")
            assert [(fill["price"], fill["qty"]) for fill in done["fills"]] == [
                ("100.00000000", "1.00000000"),
                ("101.00000000", "1.50000000"),
            ]
            assert (done["status"], done["cummulativeQuoteQty"]) == ("FILLED", "251.50000000")
            cut = await trader.order("SOLUSDT", type="MARKET", quantity="4")
            assert (cut["status"], cut["executedQty"], cut["expiryReason"]) == (
                "EXPIRED",
                "3.00000000",
                "INSUFFICIENT_LIQUIDITY",
            )

    play(story())


def test_a_market_order_by_value_takes_whole_steps_of_at_most_that_value() -> None:
    async def story() -> None:
        async with trading() as trader:
            bought = await trader.ccxt.create_market_buy_order_with_cost(BTC, 1000)
            assert bought["info"]["origQuoteOrderQty"] == "1000.00000000"
            assert (bought["info"]["executedQty"], bought["status"]) == ("0.00999000", "closed")
            sold = await trader.order(side="SELL", type="MARKET", quoteOrderQty="1000")
            assert sold["executedQty"] == "0.01000000"

    play(story())


def test_limit_orders_fill_at_once_or_rest_or_end_as_their_time_in_force_says() -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.served.control("book", symbol="SOLUSDT", bids=[["99.00", "9"]], asks=[["100.00", "1"]])

            async def buy(time_in_force: str, quantity: str, price: str = "100.00") -> tuple[str, str]:
                terms = {"type": "LIMIT", "quantity": quantity, "price": price, "timeInForce": time_in_force}
                order = await trader.order("SOLUSDT", **terms)
                return order["status"], order["executedQty"]

            assert await buy("GTC", "0.6") == ("FILLED", "0.60000000")
            assert await buy("IOC", "3") == ("EXPIRED", "1.00000000")
            assert await buy("IOC", "3", "99.50") == ("EXPIRED", "0.00000000")
            assert await buy("FOK", "1") == ("FILLED", "1.00000000")
            assert await buy("FOK", "3") == ("EXPIRED", "0.00000000")
            assert await buy("GTC", "3") == ("PARTIALLY_FILLED", "1.00000000")
            assert (await trader.balances())["USDT"][1] == 200
            # the rest trades at its own price once more is offered
            await trader.served.control("book", symbol="SOLUSDT", bids=[["98.00", "9"]], asks=[["99.00", "5"]])
            [*_, rest] = await trader.get("allOrders", symbol="SOLUSDT")
            assert (rest["status"], rest["cummulativeQuoteQty"]) == ("FILLED", "300.00000000")
            assert [trade["isMaker"] for trade in await trader.get("myTrades", symbol="SOLUSDT")][-2:] == [False, True]
            assert (await trader.balances())["USDT"][1] == 0

    play(story())


def test_a_resting_order_fills_when_the_price_comes_to_it_without_being_asked_for() -> None:
    async def story() -> None:
        async with trading() as trader:
            resting = await trader.ccxt.create_order(BTC, "limit", "sell", 0.1, 100500)
            assert resting["status"] == "open"
            assert (await trader.balances())["BTC"] == (D("1.9"), D("0.1"))
            await trader.price("100499.00")
            assert (await trader.query(resting["id"]))["status"] == "NEW"
            await trader.price("100500.00")
            [order] = trader.served.venue.ledger.orders.values()
            assert order.status == "FILLED"
            assert (await trader.ccxt.fetch_order(resting["id"], BTC))["average"] == 100500

    play(story())


def test_a_maker_is_refused_where_it_would_take() -> None:
    async def story() -> None:
        async with trading() as trader:
            with pytest.raises(ccxt.OrderImmediatelyFillable):
                await trader.ccxt.create_order(BTC, "limit", "buy", 0.1, 100001, {"postOnly": True})
            taken = await trader.ccxt.create_order(BTC, "limit", "buy", 0.1, 99000, {"postOnly": True})
            assert (taken["info"]["status"], taken["info"]["fills"]) == ("NEW", [])

    play(story())


@pytest.mark.parametrize(
    ("side", "kind", "stop", "refused_at", "not_yet", "reached"),
    [
        ("SELL", "STOP_LOSS", "99000", "101000", "99000.01", "99000.00"),
        ("SELL", "TAKE_PROFIT", "101000", "99000", "100999.99", "101000.00"),
        ("BUY", "STOP_LOSS", "101000", "99000", "100999.99", "101000.00"),
        ("BUY", "TAKE_PROFIT", "99000", "101000", "99000.01", "98999.00"),
    ],
)
def test_a_stop_waits_with_its_coins_set_aside_and_sells_or_buys_at_market(
    side: str, kind: str, stop: str, refused_at: str, not_yet: str, reached: str
) -> None:
    async def story() -> None:
        async with trading() as trader:
            terms = {"symbol": "BTCUSDT", "side": side, "type": kind, "quantity": "0.1"}
            wrong = await trader.send("POST", "order", **terms, stopPrice=refused_at)
            assert (wrong.code, wrong.message) == (-2010, "Order would trigger immediately.")
            placed = await trader.order(side=side, type=kind, quantity="0.1", stopPrice=stop)
            assert placed.keys() == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
            asset, amount = ("BTC", D("0.1")) if side == "SELL" else ("USDT", D(stop) / 10)
            assert (await trader.balances())[asset][1] == amount
            await trader.price(not_yet)
            waiting = await trader.query(placed["orderId"])
            assert (waiting["status"], waiting["isWorking"], waiting["workingTime"]) == ("NEW", False, -1)
            await trader.price(reached)
            done = await trader.query(placed["orderId"])
            assert (done["status"], done["isWorking"], done["type"]) == ("FILLED", True, kind)
            assert (await trader.balances())[asset][1] == 0

    play(story())


def test_a_stop_limit_rests_at_its_limit_once_it_is_triggered() -> None:
    async def story() -> None:
        async with trading() as trader:
            params = {"stopLossPrice": 99000}
            stop = await trader.ccxt.create_order(BTC, "limit", "sell", 0.1, 99500, params)
            assert stop["info"]["orderId"]
            await trader.price("99000.00")
            triggered = await trader.query(stop["id"])
            assert (triggered["type"], triggered["status"], triggered["isWorking"]) == ("STOP_LOSS_LIMIT", "NEW", True)
            await trader.price("99600.00")
            assert (await trader.query(stop["id"]))["cummulativeQuoteQty"] == "9950.00000000"

    play(story())


def test_a_trailing_stop_follows_the_price_up_and_triggers_on_the_way_down() -> None:
    async def story() -> None:
        async with trading() as trader:
            params = {"trailingPercent": "1", "stopLossOrTakeProfit": "stopLoss"}
            placed = await trader.ccxt.create_order(BTC, "market", "sell", 0.1, None, params)
            order_id = placed["info"]["orderId"]
            for price in ("99001.00", "110000.00", "108901.00"):
                await trader.price(price)
                assert (await trader.query(order_id))["status"] == "NEW"
            await trader.price("108900.00")
            done = await trader.query(order_id)
            assert (done["status"], done["trailingDelta"]) == ("FILLED", 100)

    play(story())


def test_the_three_answers_of_a_new_order() -> None:
    async def story() -> None:
        async with trading() as trader:
            sizes = {"ACK": 5, "RESULT": 16, "FULL": 17}
            for kind, fields in sizes.items():
                answer = await trader.limit("BUY", "0.001", "90000", newOrderRespType=kind)
                assert len(answer) == fields
            assert await trader.order(side="SELL", type="MARKET", quantity="0.001") | {"fills": []}
            test = await trader.send(
                "POST", "order/test", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.001"
            )
            assert (test.status, test.body) == (200, {})
            assert len(trader.served.venue.ledger.orders) == 4

    play(story())


def test_a_client_id_is_unique_among_open_orders_and_free_again_after() -> None:
    async def story() -> None:
        async with trading() as trader:
            first = await trader.limit("BUY", "0.001", "90000", newClientOrderId="mine")
            with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
                await trader.ccxt.create_order(BTC, "limit", "buy", 0.001, 90000, {"clientOrderId": "mine"})
            cancelled = await trader.ccxt.cancel_order(None, BTC, {"origClientOrderId": "mine"})
            assert cancelled["status"] == "canceled"
            assert cancelled["info"]["origClientOrderId"] == "mine" != cancelled["info"]["clientOrderId"]
            assert (await trader.get("order", symbol="BTCUSDT", origClientOrderId="mine"))["status"] == "CANCELED"
            again = await trader.order(type="MARKET", quantity="0.001", newClientOrderId="mine")
            third = await trader.order(type="MARKET", quantity="0.001", newClientOrderId="mine")
            newest = await trader.ccxt.fetch_order(None, BTC, {"origClientOrderId": "mine"})
            assert first["orderId"] < again["orderId"] < third["orderId"] == int(newest["id"])
            with pytest.raises(ccxt.OrderNotFound):
                await trader.ccxt.cancel_order(None, BTC, {"origClientOrderId": "mine"})
            with pytest.raises(ccxt.OrderNotFound):
                await trader.ccxt.fetch_order(None, BTC, {"origClientOrderId": "nobody's"[:6]})

    play(story())


def test_cancels_by_symbol_and_with_restrictions() -> None:
    async def story() -> None:
        async with trading() as trader:
            orders = [await trader.limit("BUY", "0.001", price) for price in ("90000", "91000")]
            first: dict[str, Any] = {"symbol": "BTCUSDT", "orderId": orders[0]["orderId"]}
            refused = await trader.send("DELETE", "order", **first, cancelRestrictions="ONLY_PARTIALLY_FILLED")
            assert (refused.code, refused.message) == (-2011, "Order was not canceled due to cancel restrictions.")
            assert (await trader.send("DELETE", "order", **first, cancelRestrictions="NEVER")).code == -1145
            assert len(await trader.ccxt.fetch_open_orders()) == 2
            reports = (await trader.send("DELETE", "openOrders", symbol="BTCUSDT")).body
            assert [report["status"] for report in reports] == ["CANCELED", "CANCELED"]
            assert (await trader.send("DELETE", "openOrders", symbol="BTCUSDT")).code == -2011
            assert await trader.balances() == {name: (amount, 0) for name, amount in COINS.items()}

    play(story())


def test_cancel_and_replace_says_which_half_was_done() -> None:
    async def story() -> None:
        async with trading() as trader:
            order = await trader.limit("BUY", "0.001", "90000")

            async def replace(old: int, mode: str = "STOP_ON_FAILURE", **terms: Any) -> tuple[int, int, str, str]:
                sent: dict[str, Any] = {"symbol": "BTCUSDT", "cancelReplaceMode": mode, "cancelOrderId": old}
                sent |= {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001", "price": "91000"}
                answer = await trader.send("POST", "order/cancelReplace", **sent | terms)
                data = answer.body.get("data", answer.body)
                return answer.status, answer.code, data["cancelResult"], data["newOrderResult"]

            assert await replace(order["orderId"]) == (200, 0, "SUCCESS", "SUCCESS")
            assert await replace(order["orderId"]) == (400, -2022, "FAILURE", "NOT_ATTEMPTED")
            assert await replace(order["orderId"], "ALLOW_FAILURE") == (409, -2021, "FAILURE", "SUCCESS")
            newest = (await trader.get("openOrders", symbol="BTCUSDT"))[-1]["orderId"]
            assert await replace(newest, quantity="30") == (409, -2021, "SUCCESS", "FAILURE")
            assert await replace(newest, "ALLOW_FAILURE", quantity="30") == (400, -2022, "FAILURE", "FAILURE")

    play(story())


def test_trades_and_orders_are_paged_by_id_and_by_time() -> None:
    async def story() -> None:
        async with trading() as trader:
            orders = [await trader.order(type="MARKET", quantity="0.001") for _ in range(4)]
            trades = await trader.get("myTrades", symbol="BTCUSDT")
            assert [trade["orderId"] for trade in trades] == [order["orderId"] for order in orders]
            later = await trader.get("myTrades", symbol="BTCUSDT", fromId=trades[2]["id"])
            assert later == trades[2:]
            assert await trader.get("myTrades", symbol="BTCUSDT", limit=1) == trades[3:]
            assert await trader.get("myTrades", symbol="BTCUSDT", orderId=orders[1]["orderId"]) == trades[1:2]
            assert await trader.get("myTrades", symbol="BTCUSDT", startTime=trades[0]["time"], limit=2) == trades[:2]
            assert await trader.get("myTrades", symbol="ETHUSDT") == []
            found = await trader.get("allOrders", symbol="BTCUSDT", orderId=orders[1]["orderId"], limit=2)
            assert [order["orderId"] for order in found] == [order["orderId"] for order in orders[1:3]]
            wrong: dict[str, Any] = {"startTime": 1, "endTime": 86_400_002}
            assert (await trader.send("GET", "myTrades", symbol="BTCUSDT", **wrong)).code == -1127
            assert (await trader.send("GET", "myTrades", symbol="BTCUSDT", fromId=1, startTime=1)).code == -1128

    play(story())


def test_one_account_knows_nothing_of_another() -> None:
    async def story() -> None:
        async with trading() as trader:
            key, secret = "c" * 64, "d" * 64
            await trader.served.control("accounts", apiKey=key, secret=secret, balances={"USDT": "5"})
            order = await trader.limit("BUY", "0.001", "90000")
            other: dict[str, Any] = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
            assert (await trader.send("GET", "order", key=key, secret=secret, **other)).code == -2013
            assert (await trader.send("DELETE", "order", key=key, secret=secret, **other)).code == -2011
            assert (await trader.send("GET", "allOrders", key=key, secret=secret, symbol="BTCUSDT")).body == []
            theirs = (await trader.send("GET", "account", key=key, secret=secret)).body
            assert theirs["balances"] == [{"asset": "USDT", "free": "5.00000000", "locked": "0.00000000"}]

    play(story())
