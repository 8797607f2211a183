"""A test decides how orders are filled, when they are seen, and which answers are lost, carried out or not."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import ccxt  # pyright: ignore[reportMissingTypeStubs]
import pytest

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import SEED, Hands, play
from tests.sandbox.venue_trader import BTC, COINS, KEY, trading

D = Decimal


def test_an_order_fills_in_equal_parts_over_the_time_asked_for() -> None:
    async def story() -> None:
        hands = Hands()
        async with trading(Venue(SEED, now_ms=hands)) as trader:
            await trader.fills(mode="partial", parts=4, seconds=9)
            terms = {"type": "LIMIT", "timeInForce": "IOC", "quantity": "0.01002", "price": "100500"}
            placed = await trader.order(**terms, timestamp=hands.moment)
            assert (placed["status"], placed["executedQty"]) == ("PARTIALLY_FILLED", "0.00250000")
            seen: list[tuple[str, str]] = []
            for milliseconds in (2999, 1, 3000, 3000):
                hands.moment += milliseconds
                order = await trader.get("order", symbol="BTCUSDT", orderId=placed["orderId"], timestamp=hands.moment)
                seen.append((order["status"], order["executedQty"]))
            assert seen == [
                ("PARTIALLY_FILLED", "0.00250000"),
                ("PARTIALLY_FILLED", "0.00501000"),
                ("PARTIALLY_FILLED", "0.00751000"),
                ("FILLED", "0.01002000"),
            ]
            assert len((await trader.served.get("/_control/ledger"))["trades"]) == 4

    play(story())


def test_parts_come_without_being_asked_for() -> None:
    async def story() -> None:
        async with trading() as trader, trader.hearing() as hear:
            await trader.fills(mode="partial", parts=3, seconds=0.1)
            placed = await trader.ccxt.create_order(BTC, "market", "buy", 0.03)
            assert (placed["status"], placed["filled"]) == ("open", 0.01)
            trades: list[Any] = []
            while not trades or trades[-1]["X"] != "FILLED":
                event = await hear()
                trades += [event] if event.get("x") == "TRADE" else []
            # a part may take more than one level of the book
            assert {"0.01000000", "0.02000000", "0.03000000"} <= {trade["z"] for trade in trades}

    play(story())


def test_a_plan_holds_for_new_orders_only_and_what_never_fills_can_be_cancelled() -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.fills(mode="never")
            stuck = [
                await trader.order(type="MARKET", quantity="0.01"),
                await trader.order(type="LIMIT", timeInForce="IOC", quantity="0.01", price="101000"),
                await trader.order(side="SELL", type="STOP_LOSS", quantity="0.01", stopPrice="99000"),
            ]
            await trader.fills(mode="instant")
            await trader.price("98000.00")
            for order in stuck:
                assert (await trader.query(order["orderId"]))["status"] == "NEW"
                await trader.send("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
            assert await trader.balances() == {name: (amount, 0) for name, amount in COINS.items()}

    play(story())


def test_an_order_cancelled_between_its_parts_keeps_what_it_had() -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.fills(mode="partial", parts=2, seconds=3600)
            placed = await trader.limit("BUY", "0.02", "100500")
            cancelled = await trader.send("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"])
            assert (cancelled.body["status"], cancelled.body["executedQty"]) == ("CANCELED", "0.01000000")
            held = await trader.balances()
            assert held["BTC"] == (COINS["BTC"] + D("0.01") - D("0.00001"), 0)
            assert held["USDT"] == (COINS["USDT"] - D("1000.0001"), 0)

    play(story())


def test_a_late_fill_comes_after_the_cancel() -> None:
    async def story() -> None:
        hands = Hands()
        async with trading(Venue(SEED, now_ms=hands)) as trader:
            await trader.fills(late=2)
            now: dict[str, Any] = {"timestamp": hands.moment}
            placed = await trader.limit("BUY", "0.02", "90000", **now)
            named = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
            assert (await trader.send("DELETE", "order", **named, **now)).body["status"] == "CANCELED"
            assert (await trader.get("order", **named, **now))["status"] == "CANCELED"
            assert (await trader.get("openOrders", **now)) == []
            hands.moment += 2000
            late = await trader.get("order", **named, timestamp=hands.moment)
            assert (late["status"], late["executedQty"]) == ("FILLED", "0.02000000")

    play(story())


def test_an_order_not_seen_yet_is_an_order_all_the_same() -> None:
    async def story() -> None:
        hands = Hands()
        async with trading(Venue(SEED, now_ms=hands)) as trader:
            await trader.fills(lag=3)
            placed = await trader.order(type="MARKET", quantity="0.01", timestamp=hands.moment)
            assert placed["status"] == "FILLED"
            named = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
            for _ in range(2):
                lost = await trader.send("GET", "order", **named, timestamp=hands.moment)
                assert (lost.status, lost.code, lost.message) == (400, -2013, "Order does not exist.")
                assert await trader.get("myTrades", **named, timestamp=hands.moment) == []
                assert await trader.get("allOrders", symbol="BTCUSDT", timestamp=hands.moment) == []
                hands.moment += 1499
            hands.moment += 2
            assert (await trader.get("order", **named, timestamp=hands.moment))["status"] == "FILLED"
            assert len(await trader.get("myTrades", **named, timestamp=hands.moment)) == 1

    play(story())


_FAULTS: list[tuple[dict[str, Any], type[Exception] | None]] = [
    ({"kind": "hang", "seconds": 30}, ccxt.RequestTimeout),
    ({"kind": "drop"}, ccxt.ExchangeNotAvailable),
    ({"kind": "truncate"}, ccxt.ExchangeError),
    ({"kind": "html"}, None),
    ({"kind": "status", "status": 503}, ccxt.ExchangeNotAvailable),
    ({"kind": "status", "status": 524}, None),
    ({"kind": "status", "status": 400, "code": -1006}, ccxt.OperationFailed),
    ({"kind": "status", "status": 503, "code": -1007}, ccxt.RequestTimeout),
    ({"kind": "status", "status": 503, "code": -1008}, ccxt.OperationFailed),
]


@pytest.mark.parametrize("execute", [True, False], ids=["carried out", "not carried out"])
@pytest.mark.parametrize(("fault", "raised"), _FAULTS)
def test_a_lost_answer_is_of_an_order_carried_out_or_not(
    fault: dict[str, Any], raised: type[Exception] | None, execute: bool
) -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.ccxt.load_markets()
            trader.ccxt.timeout = 300
            await trader.served.control("faults", method="POST", path="/api/v3/order", execute=execute, **fault)
            params = {"clientOrderId": "entry-1"}
            if raised:
                with pytest.raises(raised):
                    await trader.ccxt.create_order(BTC, "market", "buy", 0.01, params=params)
            else:
                answer = await trader.ccxt.create_order(BTC, "market", "buy", 0.01, params=params)
                assert (answer["id"], answer["status"]) == (None, None)
            orders = (await trader.served.get("/_control/ledger"))["orders"]
            assert [order["clientOrderId"] for order in orders] == (["entry-1"] if execute else [])
            assert (await trader.served.get("/_control/requests"))["requests"]["POST /api/v3/order"] == {KEY: 1}
            if execute:
                found = await trader.ccxt.fetch_order(None, BTC, {"origClientOrderId": "entry-1"})
                assert found["status"] == "closed"
            else:
                with pytest.raises(ccxt.OrderNotFound):
                    await trader.ccxt.fetch_order(None, BTC, {"origClientOrderId": "entry-1"})

    play(story())


@pytest.mark.parametrize(
    "fault",
    [fault for fault, _ in _FAULTS if fault["kind"] != "hang"],
    ids=lambda fault: " ".join(map(str, fault.values())),
)
def test_an_order_may_be_carried_out_long_after_its_answer_was_lost(fault: dict[str, Any]) -> None:
    async def story() -> None:
        async with trading() as trader:
            await trader.ccxt.load_markets()
            await trader.served.control(
                "faults", method="POST", path="/api/v3/order", execute=True, after=0.05, **fault
            )
            with suppress(ccxt.BaseError):
                await trader.ccxt.create_order(BTC, "market", "buy", 0.01, params={"clientOrderId": "entry-1"})
            with pytest.raises(ccxt.OrderNotFound):
                await trader.ccxt.fetch_order(None, BTC, {"origClientOrderId": "entry-1"})
            while not (await trader.served.get("/_control/ledger"))["orders"]:
                pass
            found = await trader.ccxt.fetch_order(None, BTC, {"origClientOrderId": "entry-1"})
            assert found["status"] == "closed"

    play(story())


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "partial", "parts": 2.5},
        {"mode": "partial", "seconds": "1"},
        {"lag": -1},
        {"late": "soon"},
        {"pace": 1},
    ],
)
def test_a_wrong_plan_is_refused_with_a_sentence(wrong: dict[str, Any]) -> None:
    async def story() -> None:
        async with trading() as trader:
            address = f"{trader.served.origin}/_control/fills"
            async with trader.served.http.post(address, json={"symbol": "BTCUSDT", **wrong}) as answer:
                assert answer.status == 400
                assert next(name for name in wrong if name != "mode") in (await answer.json())["error"]

    play(story())
