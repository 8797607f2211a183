"""Orders that exclude or trigger one another do so as Binance's do, and lock the same coins only once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.sandbox.venue_client import play
from tests.sandbox.venue_trader import COINS, Trader, trading

D = Decimal
_SELL_OCO = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "quantity": "0.1",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "110000",
    "belowType": "STOP_LOSS",
    "belowStopPrice": "95000",
}
_ENTRY = {
    "symbol": "BTCUSDT",
    "workingType": "LIMIT",
    "workingSide": "BUY",
    "workingPrice": "99000",
    "workingQuantity": "0.1",
    "workingTimeInForce": "GTC",
    "pendingSide": "SELL",
}
_EXIT = {
    "pendingAboveType": "TAKE_PROFIT",
    "pendingAboveStopPrice": "110000",
    "pendingBelowType": "STOP_LOSS_LIMIT",
    "pendingBelowStopPrice": "95000",
    "pendingBelowPrice": "94000",
    "pendingBelowTimeInForce": "GTC",
}


async def _place(trader: Trader, kind: str, **sent: Any) -> Any:
    answer = await trader.send("POST", f"orderList/{kind}", **sent)
    assert answer.status == 200, answer.body
    return answer.body


async def _statuses(trader: Trader) -> dict[str, tuple[str, str]]:
    """By type: status, and the quantity executed."""
    orders = await trader.get("allOrders", symbol="BTCUSDT")
    return {order["type"]: (order["status"], order["executedQty"]) for order in orders}


async def _list(trader: Trader, placed: Any) -> str:
    return (await trader.get("orderList", orderListId=placed["orderListId"]))["listOrderStatus"]


@pytest.mark.parametrize(
    ("price", "filled", "expired"), [("110000", "LIMIT_MAKER", "STOP_LOSS"), ("95000", "STOP_LOSS", "LIMIT_MAKER")]
)
def test_of_an_oco_one_order_fills_and_the_other_expires(price: str, filled: str, expired: str) -> None:
    async def story() -> None:
        async with trading() as trader:
            placed = await trader.ccxt.private_post_orderlist_oco(_SELL_OCO)
            assert (placed["contingencyType"], placed["listOrderStatus"]) == ("OCO", "EXECUTING")
            assert [report["type"] for report in placed["orderReports"]] == ["STOP_LOSS", "LIMIT_MAKER"]
            assert (await trader.balances())["BTC"] == (D("1.9"), D("0.1"))
            assert await _list(trader, placed) == "EXECUTING"
            await trader.price(f"{price}.00")
            assert await _statuses(trader) == {filled: ("FILLED", "0.10000000"), expired: ("EXPIRED", "0.00000000")}
            assert await _list(trader, placed) == "ALL_DONE"
            assert (await trader.balances())["BTC"] == (D("1.9"), 0)

    play(story())


def test_a_leg_filled_in_part_has_ended_the_other() -> None:
    async def story() -> None:
        async with trading() as trader:
            placed = await _place(trader, "oco", **_SELL_OCO)
            await trader.served.control("book", symbol="BTCUSDT", bids=[["110000", "0.04"]], asks=[["111000", "1"]])
            assert await _statuses(trader) == {
                "LIMIT_MAKER": ("PARTIALLY_FILLED", "0.04000000"),
                "STOP_LOSS": ("EXPIRED", "0.00000000"),
            }
            assert (await trader.balances())["BTC"] == (D("1.9"), D("0.06"))
            assert await _list(trader, placed) == "EXECUTING"

    play(story())


def test_cancelling_one_leg_cancels_the_list() -> None:
    async def story() -> None:
        async with trading() as trader:
            for by in ("order", "orderList", "openOrders"):
                placed = await _place(trader, "oco", **_SELL_OCO, listClientOrderId="exit-1")
                again = await trader.send("POST", "orderList/oco", **_SELL_OCO, listClientOrderId="exit-1")
                assert (again.code, again.message) == (-2010, "Duplicate order sent.")
                assert [each["orderListId"] for each in await trader.get("openOrderList")] == [placed["orderListId"]]
                named: dict[str, Any] = {"symbol": "BTCUSDT"}
                if by == "order":
                    named["orderId"] = placed["orders"][1]["orderId"]
                elif by == "orderList":
                    named["listClientOrderId"] = "exit-1"
                answer = (await trader.send("DELETE", by, **named)).body
                answer = answer[0] if by == "openOrders" else answer
                assert answer["listOrderStatus"] == "ALL_DONE"
                assert [report["status"] for report in answer["orderReports"]] == ["CANCELED", "CANCELED"]
                assert (await trader.send("DELETE", by, **named)).code == -2011
                assert await trader.balances() == {name: (amount, 0) for name, amount in COINS.items()}
            assert await trader.get("openOrderList") == []
            assert len(await trader.get("allOrderList")) == 3

    play(story())


def test_a_buying_oco_locks_the_dearer_of_its_two() -> None:
    async def story() -> None:
        async with trading() as trader:
            legs = {
                "aboveType": "STOP_LOSS_LIMIT",
                "aboveStopPrice": "104000",
                "abovePrice": "105000",
                "aboveTimeInForce": "GTC",
                "belowType": "LIMIT_MAKER",
                "belowPrice": "90000",
            }
            await _place(trader, "oco", symbol="BTCUSDT", side="BUY", quantity="0.1", **legs)
            assert (await trader.balances())["USDT"] == (89_500, 10_500)
            await trader.price("90000.00")
            assert await _statuses(trader) == {
                "LIMIT_MAKER": ("FILLED", "0.10000000"),
                "STOP_LOSS_LIMIT": ("EXPIRED", "0.00000000"),
            }
            assert (await trader.balances())["USDT"] == (91_000, 0)

    play(story())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"abovePrice": "99000"}, -2010),
        ({"belowStopPrice": "101000"}, -2010),
        ({"belowStopPrice": "120000"}, -2010),
        ({"belowType": "LIMIT"}, -1158),
        ({"belowType": "LIMIT_MAKER", "belowPrice": "95000", "belowStopPrice": None}, -1168),
        ({"aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "110000"}, -1197),
        ({"belowType": "TAKE_PROFIT"}, -1199),
        ({"side": "BUY"}, -1165),
        ({"aboveType": None}, -1102),
        ({"abovePrice": None}, -1102),
        ({"aboveTimeInForce": "GTC"}, -1106),
        ({"quantity": "2.5"}, -2010),
        ({"aboveClientOrderId": "same", "belowClientOrderId": "same"}, -2010),
        ({"pendingSide": "SELL"}, -1104),
    ],
)
def test_a_wrong_oco_is_refused_whole(change: dict[str, Any], code: int) -> None:
    async def story() -> None:
        async with trading() as trader:
            assert (await trader.send("POST", "orderList/oco", **{**_SELL_OCO, **change})).code == code
            assert not trader.served.venue.ledger.orders
            assert await trader.balances() == {name: (amount, 0) for name, amount in COINS.items()}

    play(story())


def test_the_old_oco_is_served_still() -> None:
    async def story() -> None:
        async with trading() as trader:
            terms = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.1", "price": "110000", "stopPrice": "95000"}
            assert (await trader.send("POST", "order/oco", **terms, stopLimitPrice="94000")).code == -1102
            limited = {"stopLimitPrice": "94000", "stopLimitTimeInForce": "GTC", "limitClientOrderId": "target"}
            placed = (await trader.send("POST", "order/oco", **terms, **limited)).body
            assert [report["type"] for report in placed["orderReports"]] == ["STOP_LOSS_LIMIT", "LIMIT_MAKER"]
            assert placed["orders"][1]["clientOrderId"] == "target"

    play(story())


def test_pending_orders_go_live_when_the_working_one_has_filled() -> None:
    async def story() -> None:
        async with trading() as trader:
            placed = await _place(trader, "otoco", **_ENTRY, **_EXIT, pendingQuantity="0.0999")
            assert [report["status"] for report in placed["orderReports"]] == ["NEW", "PENDING_NEW", "PENDING_NEW"]
            assert (await trader.balances())["USDT"][1] == 9900
            assert (await trader.balances())["BTC"][1] == 0
            await trader.price("95000.00")  # a pending stop does not hear of it before the entry has filled
            await trader.price("99000.00")
            assert await _statuses(trader) == {
                "LIMIT": ("FILLED", "0.10000000"),
                "STOP_LOSS_LIMIT": ("EXPIRED", "0.00000000"),
                "TAKE_PROFIT": ("EXPIRED", "0.00000000"),
            }

    play(story())


@pytest.mark.parametrize(("end", "sold"), [("94500", "STOP_LOSS_LIMIT"), ("110000", "TAKE_PROFIT")])
def test_an_entry_with_its_exits(end: str, sold: str) -> None:
    async def story() -> None:
        async with trading() as trader:
            working = {**_ENTRY, "workingPrice": "100200"}
            placed = await _place(trader, "otoco", **working, **_EXIT, pendingQuantity="0.0999")
            # the answer shows the entry's fill, but the exits as they were before it
            assert [report["status"] for report in placed["orderReports"]] == ["FILLED", "PENDING_NEW", "PENDING_NEW"]
            assert (await trader.balances())["BTC"] == (D("2.0999") - D("0.0999"), D("0.0999"))
            await trader.price(f"{end}.00")
            statuses = await _statuses(trader)
            assert statuses.pop(sold) == ("FILLED", "0.09990000")
            assert ("EXPIRED", "0.00000000") in statuses.values()
            assert await _list(trader, placed) == "ALL_DONE"

    play(story())


def test_an_entry_cut_short_leaves_nothing_pending() -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.served.control("book", symbol="BTCUSDT", bids=[["98000", "1"]], asks=[["99000", "0.04"]])
            working = {**_ENTRY, "workingTimeInForce": "IOC"}
            await _place(trader, "otoco", **working, **_EXIT, pendingQuantity="0.0999")
            assert await _statuses(trader) == {
                "LIMIT": ("EXPIRED", "0.04000000"),
                "STOP_LOSS_LIMIT": ("EXPIRED", "0.00000000"),
                "TAKE_PROFIT": ("EXPIRED", "0.00000000"),
            }
            assert await trader.get("openOrderList") == []

    play(story())


def test_a_pending_order_without_the_coins_is_expired_by_the_venue() -> None:
    async def story() -> None:
        async with trading(USDT="20000") as trader:
            working = {**_ENTRY, "workingPrice": "100200"}
            # what was received is less by the fee
            exit_all = {"pendingType": "LIMIT_MAKER", "pendingPrice": "110000", "pendingQuantity": "0.1"}
            await _place(trader, "oto", **working, **exit_all)
            assert (await _statuses(trader))["LIMIT_MAKER"] == ("EXPIRED", "0.00000000")
            exit_less = exit_all | {"pendingQuantity": "0.0999"}
            await _place(trader, "oto", **{**working, "workingQuantity": "0.09"}, **exit_less)
            assert (await _statuses(trader))["LIMIT_MAKER"] == ("NEW", "0.00000000")

    play(story())


def test_an_entry_that_pays_its_exits_sells_what_was_received() -> None:
    async def story() -> None:
        async with trading(USDT="20000") as trader:
            working = {**_ENTRY, "workingPrice": "100000.01", "workingQuantity": "0.01234"}
            await _place(trader, "opoco", **working, **_EXIT)
            exits = await trader.get("openOrders", symbol="BTCUSDT")
            assert {(order["type"], order["status"], order["origQty"]) for order in exits} == {
                ("STOP_LOSS_LIMIT", "NEW", "0.01232000"),
                ("TAKE_PROFIT", "NEW", "0.01232000"),
            }
            assert (await trader.balances())["BTC"] == (D("0.01232766") - D("0.01232"), D("0.01232"))
            await trader.price("110000.00")
            assert (await _statuses(trader))["TAKE_PROFIT"] == ("FILLED", "0.01232000")

    play(story())


def test_what_an_unfinished_entry_received_is_locked_until_the_list_ends() -> None:
    async def story() -> None:
        async with trading(USDT="20000") as trader:
            await trader.served.control("book", symbol="BTCUSDT", bids=[["98000", "1"]], asks=[["99000", "0.04"]])
            sells = {"pendingType": "MARKET"}
            placed = await _place(trader, "opo", **_ENTRY, **sells)
            assert (await trader.balances())["BTC"] == (0, D("0.03996"))
            await trader.send("DELETE", "orderList", symbol="BTCUSDT", orderListId=placed["orderListId"])
            assert (await trader.balances())["BTC"] == (D("0.03996"), 0)
            wrong = {**_ENTRY, "workingSide": "SELL"}
            assert (await trader.send("POST", "orderList/opo", **wrong, **sells)).code == -1222
            wrong = {**_ENTRY, "pendingSide": "BUY"}
            assert (await trader.send("POST", "orderList/opo", **wrong, **sells)).code == -1223

    play(story())
