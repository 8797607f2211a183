"""No coin is made or lost, whatever is ordered; the venue's books tell all of it and outlive the venue."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import SEED, Hands, Served, play
from tests.sandbox.venue_trader import COINS, KEY, SECRET, Trader, trading

D = Decimal
_PRICES = ("80000", "97000", "99000", "100000", "101000", "103000", "120000")
_price = some.sampled_from(_PRICES)
_quantity = some.sampled_from(["0.001", "0.0131", "0.25", "0.9", "1.5"])
_side = some.sampled_from(["BUY", "SELL"])
_order = some.fixed_dictionaries(
    {
        "type": some.sampled_from(
            ["LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
        ),
        "side": _side,
        "quantity": _quantity,
        "price": _price,
        "stopPrice": _price,
        "timeInForce": some.sampled_from(["GTC", "IOC", "FOK"]),
    }
)
_list = some.fixed_dictionaries(
    {
        "kind": some.sampled_from(["oco", "otoco", "opoco"]),
        "side": _side,
        "quantity": _quantity,
        "prices": some.tuples(_price, _price, _price),
    }
)
_plan = some.fixed_dictionaries(
    {"mode": some.sampled_from(["instant", "partial", "never"]), "late": some.sampled_from([None, 1])}
)
_step = some.one_of(
    some.tuples(some.just("order"), _order),
    some.tuples(some.just("list"), _list),
    some.tuples(some.just("price"), _price),
    some.tuples(some.just("plan"), _plan),
    some.tuples(some.just("bnb"), some.booleans()),
    some.tuples(some.just("cancel"), some.integers(0, 5)),
    some.tuples(some.just("wait"), some.sampled_from([100, 700, 5000])),
)


def _terms(order: dict[str, str]) -> dict[str, str]:
    """The order without the parameters its type does not know."""
    kind = order["type"]
    dropped = set[str]()
    if kind in ("MARKET", "STOP_LOSS", "TAKE_PROFIT"):
        dropped |= {"price", "timeInForce"}
    if kind == "LIMIT_MAKER":
        dropped.add("timeInForce")
    if not kind.startswith(("STOP", "TAKE")):
        dropped.add("stopPrice")
    return {name: value for name, value in order.items() if name not in dropped}


def _list_terms(chosen: dict[str, Any]) -> dict[str, str]:
    low, _, high = sorted(chosen["prices"], key=float)
    sells = chosen["side"] == "SELL"
    stop, target = ("Below", "Above") if sells or chosen["kind"] == "opoco" else ("Above", "Below")
    prefix = "pending" if chosen["kind"] != "oco" else ""
    terms: dict[str, str] = {}
    for place, kind, price in ((stop, "STOP_LOSS", "StopPrice"), (target, "LIMIT_MAKER", "Price")):
        name = prefix + (place if prefix else place.lower())
        terms |= {f"{name}Type": kind, f"{name}{price}": high if place == "Above" else low}
    if not prefix:
        return terms | {"side": chosen["side"], "quantity": chosen["quantity"]}
    terms |= {"workingType": "LIMIT", "workingTimeInForce": "GTC", "workingPrice": chosen["prices"][1]}
    terms |= {
        "workingQuantity": chosen["quantity"],
        "workingSide": "BUY" if sells else "SELL",
        "pendingSide": chosen["side"],
    }
    if chosen["kind"] == "otoco":
        return terms | {"pendingQuantity": chosen["quantity"]}
    return terms | {"workingSide": "BUY", "pendingSide": "SELL"}


async def _do(trader: Trader, hands: Hands, step: tuple[str, Any]) -> None:
    """Carries out one step; an order may be refused."""
    name, chosen = step
    venue = trader.served.venue
    now: dict[str, Any] = {"timestamp": hands.moment, "symbol": "BTCUSDT"}
    if name == "order":
        await trader.send("POST", "order", **now, **_terms(chosen))
    elif name == "list":
        await trader.send("POST", f"orderList/{chosen['kind']}", **now, **_list_terms(chosen))
    elif name == "price":
        venue.set_price("BTCUSDT", D(chosen))
    elif name == "plan":
        await trader.fills(**chosen)
    elif name == "bnb":
        await trader.served.control("commission", apiKey=KEY, bnb=chosen)
    elif name == "wait":
        hands.moment += chosen
    else:
        open_orders = await trader.get("openOrders", **now)
        if open_orders:
            chosen = open_orders[chosen % len(open_orders)]["orderId"]
            await trader.send("DELETE", "order", **now, orderId=chosen)


def _check_books(book: dict[str, Any], coins: dict[str, Decimal]) -> None:
    """Every coin is where the trades have left it; what is locked is locked for an open order."""
    expected: defaultdict[str, Decimal] = defaultdict(Decimal, coins)
    orders = {order["orderId"]: order for order in book["orders"]}
    for trade in book["trades"]:
        sign = 1 if orders[trade["orderId"]]["side"] == "BUY" else -1
        expected["BTC"] += sign * D(trade["qty"])
        expected["USDT"] -= sign * D(trade["quoteQty"])
        expected[trade["commissionAsset"]] -= D(trade["commission"])
    held = {asset: (D(each["free"]), D(each["locked"])) for asset, each in book["balances"][KEY].items()}
    assert {asset: sum(amounts) for asset, amounts in held.items() if any(amounts)} == {
        asset: amount for asset, amount in expected.items() if amount
    }
    assert all(amount >= 0 for amounts in held.values() for amount in amounts)
    for order_id, order in orders.items():
        mine = [trade for trade in book["trades"] if trade["orderId"] == order_id]
        assert sum(D(trade["qty"]) for trade in mine) == D(order["executedQty"]) <= D(order["origQty"])
        assert sum(D(trade["quoteQty"]) for trade in mine) == D(order["cummulativeQuoteQty"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.lists(_step, min_size=3, max_size=14))
def test_coins_are_conserved_and_all_is_free_in_the_end(steps: list[tuple[str, Any]]) -> None:
    async def story() -> None:
        hands = Hands()
        coins = {"USDT": D(150_000), "BTC": D(2), "BNB": D("0.05")}
        venue = Venue(SEED, now_ms=hands)
        venue.add_account(KEY, SECRET, coins)
        async with trading(venue) as trader:
            for step in steps:
                await _do(trader, hands, step)
                _check_books(await trader.served.get("/_control/ledger"), coins)
            await trader.send("DELETE", "openOrders", symbol="BTCUSDT", timestamp=hands.moment)
            hands.moment += 2000
            book = await trader.served.get("/_control/ledger")
            _check_books(book, coins)
            assert {each["locked"] for each in book["balances"][KEY].values()} == {"0"}

    play(story())


def test_the_ledger_tells_of_every_order_with_its_arrival() -> None:
    async def story() -> None:
        async with trading() as trader:
            placed = await trader.limit("BUY", "0.01", "99000.00", newClientOrderId="entry-1")
            [order] = (await trader.served.get("/_control/ledger"))["orders"]
            received = order.pop("receivedNs")
            assert 0 <= placed["transactTime"] - received // 1_000_000 < 1000
            assert order == {
                "apiKey": KEY,
                "clientOrderId": "entry-1",
                "orderId": placed["orderId"],
                "orderListId": -1,
                "symbol": "BTCUSDT",
                "side": "BUY",
                "type": "LIMIT",
                "status": "NEW",
                "price": "99000.00000000",
                "stopPrice": "0.00000000",
                "origQty": "0.01000000",
                "executedQty": "0.00000000",
                "cummulativeQuoteQty": "0.00000000",
            }

    play(story())


def test_a_reset_forgets_orders_and_trades_and_ids_go_on() -> None:
    async def story() -> None:
        async with trading() as trader:
            before = await trader.order(type="MARKET", quantity="0.01")
            resting = await trader.limit("BUY", "0.01", "90000")
            await trader.served.control("reset")
            gone = await trader.send("GET", "order", symbol="BTCUSDT", orderId=before["orderId"])
            assert gone.code == -2013
            assert await trader.get("myTrades", symbol="BTCUSDT") == []
            assert await trader.balances() == {name: (amount, 0) for name, amount in COINS.items()}
            after = await trader.order(type="MARKET", quantity="0.01")
            assert after["orderId"] > resting["orderId"]
            assert after["fills"][0]["tradeId"] > before["fills"][0]["tradeId"]

    play(story())


def test_what_was_traded_and_what_rests_outlives_the_venue(tmp_path: Path) -> None:
    journal = tmp_path / "venue.jsonl"
    legs = {"aboveType": "LIMIT_MAKER", "abovePrice": "110000", "belowType": "STOP_LOSS", "belowStopPrice": "95000"}
    books: list[Any] = []

    async def before() -> None:
        async with trading(Venue(SEED, 24, journal)) as trader:
            await trader.served.control("commission", apiKey=KEY, rate="0.0005")
            await trader.order(type="MARKET", quantity="0.01")
            await trader.limit("BUY", "0.01", "96000")
            oco = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", **legs}
            assert (await trader.send("POST", "orderList/oco", **oco)).status == 200
            await trader.fills(mode="partial", parts=2, seconds=3600)
            await trader.order(type="MARKET", quantity="0.02")
            books.append(await trader.served.get("/_control/ledger"))

    async def after() -> None:
        venue = Venue(SEED, 24, journal)
        venue.add_account(KEY, SECRET, {"USDT": D(1)})
        async with trading(venue) as trader:
            assert await trader.served.get("/_control/ledger") == books[0]
            await trader.price("96000.00")
            await trader.price("95000.00")
            statuses = {order["type"]: order["status"] for order in await trader.get("allOrders", symbol="BTCUSDT")}
            assert statuses == {
                "LIMIT": "FILLED",
                "MARKET": "PARTIALLY_FILLED",
                "STOP_LOSS": "FILLED",
                "LIMIT_MAKER": "EXPIRED",
            }
            book = await trader.served.get("/_control/ledger")
            _check_books(book, COINS)
            assert [trade["id"] for trade in book["trades"]] == sorted({trade["id"] for trade in book["trades"]})
            assert D(book["trades"][-1]["commission"]) == D(book["trades"][-1]["quoteQty"]) * D("0.0005")

    play(before())
    assert journal.stat().st_mode & 0o777 == 0o600
    with journal.open("a") as file:
        file.write('{"balances":{"aaa')  # killed as it wrote
    play(after())


def test_a_damaged_journal_is_said_in_a_line(tmp_path: Path) -> None:
    journal = tmp_path / "venue.jsonl"
    journal.write_text('{"reset":true}\nnonsense\n{"reset":true}\n')

    async def story() -> None:
        arguments = ("-m", "sandbox.venue", "--port", "0", "--journal", str(journal))
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=asyncio.subprocess.PIPE)
        _, error = await process.communicate()
        assert process.returncode == 2
        assert "line 2" in error.decode()
        assert error.decode().count("\n") == 1

    play(story())


def test_a_venue_killed_at_any_moment_has_every_order_it_answered(tmp_path: Path) -> None:
    journal = tmp_path / "venue.jsonl"
    arguments = ("-m", "sandbox.venue", "--port", "0", "--journal", str(journal))

    async def start() -> tuple[Any, str]:
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout
        return process, (await process.stdout.readline()).decode().split()[1]

    async def story() -> None:
        process, origin = await start()
        answered: list[int] = []
        async with aiohttp.ClientSession() as http:
            account = {"apiKey": KEY, "secret": SECRET, "balances": {"USDT": "100000"}}
            async with http.post(f"{origin}/_control/accounts", json=account) as opened:
                assert opened.status == 200

            async def trade() -> None:
                trader = Trader(Served(Venue(SEED, 1), origin, http), None)
                while True:
                    answered.append((await trader.order(type="MARKET", quantity="0.0001"))["orderId"])
                    if len(answered) == 20:
                        os.kill(process.pid, signal.SIGKILL)

            try:
                await trade()
            except (aiohttp.ClientError, OSError):
                await process.wait()
            process, origin = await start()
            async with http.get(f"{origin}/_control/ledger") as answer:
                book = json.loads(await answer.text())
            known = {order["orderId"] for order in book["orders"]}
            assert set(answered) <= known
            _check_books(book, {"USDT": D(100_000)})
            process.terminate()
            await process.wait()

    play(story())
