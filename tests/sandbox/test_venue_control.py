"""The control endpoints let a test set prices, books, time, balances and faults, and say what is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import MOMENT, SEED, Hands, play, serving


def test_a_set_price_holds_until_it_is_let_go() -> None:
    async def story() -> None:
        hands = Hands()
        async with serving(Venue(SEED, now_ms=hands)) as served:

            async def price() -> str:
                return (await served.get("/api/v3/ticker/price", symbol="ETHUSDT"))["price"]

            answer = await served.control("price", symbol="ETH/USDT", price="3333.33")
            assert answer.pop("setNs") <= time.time_ns()
            assert answer == {"symbol": "ETHUSDT", "price": "3333.33000000"}
            for _ in range(3):
                assert await price() == "3333.33000000"
                hands.moment += 60_000
            best = await served.get("/api/v3/ticker/bookTicker", symbol="ETHUSDT")
            assert (best["bidPrice"], best["askPrice"]) == ("3333.32000000", "3333.34000000")
            assert (await served.control("price", symbol="ETHUSDT", price=None))["price"] is None
            hands.moment += 1000
            assert await price() != "3333.33000000"

    play(story())


def test_a_set_book_is_the_book_to_the_last_level_until_it_is_let_go() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served:
            bids, asks = [["99.50", "1"], ["99.00", "2"]], [["100.00", "0.5"], ["101.00", "3"]]
            quoted = await served.get("/api/v3/depth", symbol="SOLUSDT")
            await served.control("book", symbol="SOLUSDT", bids=bids, asks=asks)
            book = await served.get("/api/v3/depth", symbol="SOLUSDT")
            assert book["lastUpdateId"] > quoted["lastUpdateId"]
            assert [[Decimal(text) for text in level] for level in book["asks"]] == [
                [Decimal(text) for text in level] for level in asks
            ]
            best = await served.get("/api/v3/ticker/bookTicker", symbol="SOLUSDT")
            assert (best["bidPrice"], best["askQty"]) == ("99.50000000", "0.50000000")
            await served.control("book", symbol="SOLUSDT", bids=[], asks=asks)
            best = await served.get("/api/v3/ticker/bookTicker", symbol="SOLUSDT")
            assert (best["bidPrice"], best["askPrice"]) == ("0.00000000", "100.00000000")
            await served.control("book", symbol="SOLUSDT", bids=None, asks=None)
            again = await served.get("/api/v3/depth", symbol="SOLUSDT")
            assert again["bids"] == quoted["bids"]

    play(story())


def test_the_clock_can_be_set_off_without_moving_a_price() -> None:
    async def story() -> None:
        async with serving(Venue(SEED, now_ms=Hands())) as served:
            before = await served.get("/api/v3/ticker/price")
            await served.control("clock", offset_ms=-5000)
            assert await served.get("/api/v3/time") == {"serverTime": MOMENT - 5000}
            assert await served.get("/api/v3/ticker/price") == before
            candle = (await served.get("/api/v3/klines", symbol="BTCUSDT", interval="1s", limit=1))[0]
            assert candle[0] == (MOMENT - 5000) // 1000 * 1000
            await served.control("clock", offset_ms=0)
            assert await served.get("/api/v3/time") == {"serverTime": MOMENT}

    play(story())


def test_the_ledger_shows_balances_as_set_and_a_reset_brings_back_the_first() -> None:
    async def story() -> None:
        venue = Venue(SEED)
        venue.add_account("key-of-a", "secret-of-a", {"USDT": Decimal(100000)})
        async with serving(venue) as served:
            first = {"USDT": {"free": "100000", "locked": "0"}}
            assert await served.get("/_control/ledger") == {
                "orders": [],
                "trades": [],
                "balances": {"key-of-a": first},
            }
            await served.control("balance", apiKey="key-of-a", asset="BTC", free="0.12345678")
            balances = (await served.get("/_control/ledger"))["balances"]["key-of-a"]
            assert balances == first | {"BTC": {"free": "0.12345678", "locked": "0"}}
            assert "secret-of-a" not in str(await served.get("/_control/ledger"))
            await served.control("reset")
            assert (await served.get("/_control/ledger"))["balances"] == {"key-of-a": first}

    play(story())


def test_one_key_has_one_account() -> None:
    venue = Venue(SEED)
    venue.add_account("key", "secret", {})
    with pytest.raises(ValueError, match="already"):
        venue.add_account("key", "secret", {})
    with pytest.raises(ValueError, match="at least 0"):
        venue.add_account("other", "secret", {"USDT": Decimal(-1)})


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("price", {"symbol": "NOPE", "price": "1"}, "BTC/USDT"),
        ("price", {"symbol": "BTCUSDT"}, "null"),
        ("price", {"symbol": "BTCUSDT", "price": 90000}, "as text"),
        ("price", {"symbol": "BTCUSDT", "price": "90000.001"}, "tick"),
        ("price", {"symbol": "BTCUSDT", "price": "-3"}, "at least 0"),
        ("price", {"symbol": "BTCUSDT", "price": "0"}, "tick"),
        ("book", {"symbol": "BTCUSDT", "bids": [["1"]]}, "pairs"),
        ("book", {"symbol": "BTCUSDT", "bids": [["2.00", "1"]], "asks": [["1.00", "1"]]}, "below"),
        ("book", {"symbol": "BTCUSDT", "bids": [["2.00", "1"], ["2.00", "3"]]}, "twice"),
        ("clock", {"offset_ms": "1"}, "whole number"),
        ("fills", {"symbol": "BTCUSDT", "mode": "sometimes"}, "instant"),
        ("fills", {"symbol": "BTCUSDT", "mode": "partial", "parts": 0}, "parts"),
        ("balance", {"apiKey": "nobody", "asset": "USDT", "free": "1"}, "accounts"),
        ("faults", {"kind": "explode", "path": "/api/v3/time"}, "hang"),
        ("faults", {"kind": "drop", "path": "time"}, "path"),
        ("faults", {"kind": "drop", "path": "/_control/faults"}, "path"),
        ("faults", {"kind": "drop", "path": "/api/v3/time", "times": 0}, "times"),
        ("faults", {"kind": "drop", "path": "/api/v3/time", "time": 1}, "no time"),
        ("faults", {"kind": "drop", "path": "/api/v3/time", "after": 1}, "execute"),
        ("faults", {"kind": "drop", "path": "/api/v3/time", "apiKey": 1}, "apiKey"),
        ("streams", {}, "drop"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(name: str, body: dict[str, Any], says: str) -> None:
    async def story() -> None:
        async with serving() as served, served.http.post(f"{served.origin}/_control/{name}", json=body) as answer:
            assert answer.status == 400
            error = (await answer.json())["error"]
            assert says in error
            assert "\n" not in error

    play(story())


@pytest.mark.parametrize("sent", ["{", "[]", '"price"'])
def test_a_body_that_is_no_object_is_refused(sent: str) -> None:
    async def story() -> None:
        async with serving() as served, served.http.post(f"{served.origin}/_control/price", data=sent) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]

    play(story())


def test_a_fill_plan_is_kept_for_its_symbol() -> None:
    async def story() -> None:
        async with serving() as served:
            await served.control("fills", symbol="BTC/USDT", mode="partial", parts=3, seconds=0.5)
            plan = served.venue.fill_plan("BTCUSDT")
            assert (plan.mode, plan.parts, plan.seconds) == ("partial", 3, 0.5)
            assert served.venue.fill_plan("ETHUSDT").mode == "instant"

    play(story())


def test_a_fault_befalls_its_method_and_path_so_many_times() -> None:
    async def story() -> None:
        async with serving() as served:

            async def status(path: str) -> int:
                async with served.http.get(served.origin + path) as answer:
                    await answer.read()
                    return answer.status

            fault = {"path": "/api/v3/time", "kind": "status", "status": 500, "times": 2}
            await served.control("faults", method="POST", **fault)
            await served.control("faults", method="get", **fault)
            assert await status("/api/v3/ping") == 200
            assert [await status("/api/v3/time") for _ in range(3)] == [500, 500, 200]
            assert [fault["method"] for fault in (await served.get("/_control/faults"))["faults"]] == ["POST"]
            async with served.http.delete(f"{served.origin}/_control/faults") as answer:
                assert await answer.json() == {"faults": []}
            assert (await served.get("/_control/faults")) == {"faults": []}

    play(story())


def test_a_fault_may_befall_every_request_but_those_that_control_it() -> None:
    async def story() -> None:
        async with serving() as served:
            await served.control("faults", path="*", kind="status", status=503, times=3)
            for path in ("/api/v3/time", "/stream", "/api/v3/ping"):
                async with served.http.get(served.origin + path) as answer:
                    assert answer.status == 503
            assert await served.get("/api/v3/ping") == {}

    play(story())


def test_a_fault_of_one_accounts_requests_leaves_the_others_alone() -> None:
    async def story() -> None:
        async with serving() as served:
            await served.control("faults", path="/api/v3/time", apiKey="key-of-a", kind="status", status=503)
            statuses: list[int] = []
            for key in ("key-of-b", "", "key-of-a", "key-of-a"):
                async with served.http.get(f"{served.origin}/api/v3/time", headers={"X-MBX-APIKEY": key}) as answer:
                    statuses.append(answer.status)
            assert statuses == [200, 200, 503, 200]

    play(story())


def test_faults_break_answers_in_their_several_ways() -> None:
    async def story() -> None:
        async with serving() as served:
            path = "/api/v3/time"

            async def fail(**fault: Any) -> tuple[int, str, bytes]:
                await served.control("faults", path=path, **fault)
                async with aiohttp.ClientSession() as http, http.get(served.origin + path) as answer:
                    return answer.status, answer.content_type, await answer.read()

            # aiohttp repeats a GET by itself, once
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await fail(kind="drop", times=2)
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await fail(kind="hang", seconds=0.01, times=2)
            with pytest.raises(aiohttp.ClientPayloadError):
                await fail(kind="truncate")
            with pytest.raises(aiohttp.ClientPayloadError):
                await fail(kind="truncate", execute=True)
            assert (await fail(kind="html"))[:2] == (200, "text/html")
            assert (await fail(kind="status", status=503, code=-1007)) == (
                503,
                "application/json",
                b'{"code":-1007,"msg":"Timeout waiting for response from backend server. '
                b'Send status unknown; execution status unknown."}',
            )
            status, kind, body = await fail(kind="delay", seconds=0.01)
            assert (status, kind) == (200, "application/json")
            assert b"serverTime" in body

    play(story())


def test_clearing_faults_lets_go_of_a_request_that_hangs() -> None:
    async def story() -> None:
        async with serving() as served:
            await served.control("faults", path="/api/v3/order", kind="hang", seconds=3600)

            async def order() -> None:
                async with served.http.post(f"{served.origin}/api/v3/order"):
                    pass

            hanging = asyncio.create_task(order())
            while (await served.get("/_control/faults"))["faults"]:
                pass
            async with served.http.delete(f"{served.origin}/_control/faults"):
                pass
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await hanging

    play(story())


def test_used_weight_can_be_forgotten() -> None:
    async def story() -> None:
        async with serving() as served:
            await served.get("/api/v3/exchangeInfo")
            async with served.http.delete(f"{served.origin}/_control/weight") as answer:
                assert answer.status == 200
            async with served.http.get(f"{served.origin}/api/v3/ping") as answer:
                assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "1"

    play(story())


def _alone(*arguments: str) -> Any:
    return asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sandbox.venue",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_alone_and_ends_cleanly(by: signal.Signals) -> None:
    async def story() -> None:
        process = await _alone("--port", "0", "--seed", "3", "--symbols", "5")
        try:
            ready, origin = (await process.stdout.readline()).decode().split()
            assert ready == "ready"
            async with aiohttp.ClientSession() as http, http.get(f"{origin}/api/v3/ticker/price") as answer:
                assert len(await answer.json()) == 5
            port = origin.rpartition(":")[2]
            second = await _alone("--port", port)
            _, error = await second.communicate()
            assert second.returncode == 2
            assert error.decode().count("\n") == 1
            assert "--port" in error.decode()
            os.kill(process.pid, by)
            rest, error = await process.communicate()
            assert (process.returncode, rest, error) == (0, b"", b"")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    play(story())


def test_alone_it_says_in_a_line_what_it_cannot_do() -> None:
    async def story() -> None:
        for arguments in (("--symbols", "0"), ("--port", "99999")):
            process = await _alone(*arguments)
            _, error = await process.communicate()
            assert process.returncode == 2
            assert error.decode().count("\n") == 1

    play(story())
