"""Never bare for long, never sold twice, whatever befalls worker, exchange or answers; and the owner watches it all."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, User, wait_until
from tests.end_to_end.screen import screen_of
from tests.end_to_end.test_closing import BOTH, SIZE, assert_exact, monitored, orders, position, price, reaches, rests
from tests.end_to_end.testnet import SHORT, TestnetUser, join_testnet, ledger

BARE_SECONDS, MOVED_SECONDS = 2.0, 1.0
"""How long a filled entry may be without protection, and how long replacing it may take."""
OCO, STOP = "/api/v3/orderList/oco", "/api/v3/order"
SETTINGS = {**SHORT, "LEASE_SECONDS": "3", "DEFAULT_SLIPPAGE": "1"}
SYMBOL = "LTC/USDT"


@pytest.fixture(autouse=True)
def a_market_at_100(project: Project) -> Iterator[None]:
    price(project, SYMBOL, "100.00")
    yield
    project.venue("DELETE", "faults")
    project.venue("POST", "fills", {"symbol": SYMBOL, "mode": "instant"})
    project.request("DELETE", "/_control/rest").raise_for_status()


@pytest.fixture
def user(project: Project) -> TestnetUser:
    return join_testnet(project, risk_config=BOTH)


def listed(project: Project, user: TestnetUser) -> list[dict[str, Any]]:
    """The user's protective orders at the exchange, oldest first."""
    mine = [one for one in ledger(project)["orders"] if one["apiKey"] == user.api_key]
    return [one for one in mine if one["type"] in ("STOP_LOSS", "TAKE_PROFIT")]


def bare_seconds(project: Project, user: TestnetUser) -> float:
    """From the entry's fill to the first protective order that the exchange received, by its own clock."""
    (entry,) = [one for one in ledger(project)["orders"] if one["apiKey"] == user.api_key and one["side"] == "BUY"]
    return (listed(project, user)[0]["receivedNs"] - entry["receivedNs"]) / 1e9


def test_a_fill_is_protected_at_once(project: Project, start_worker: StartWorker, user: TestnetUser) -> None:
    start_worker(**SETTINGS)
    monitored(project, user, SYMBOL)
    assert bare_seconds(project, user) < BARE_SECONDS


def test_a_stop_that_is_hit_while_no_worker_runs_is_booked_by_the_next(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    first = start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    first.kill()
    price(project, SYMBOL, "97.00")
    wait_until("the exchange fires it", lambda: any(one["status"] == "FILLED" for one in listed(project, user)))
    assert position(project, signal)["status"] == "monitoring"
    start_worker(**SETTINGS)
    assert_exact(project, user, signal, "stop_loss")


def test_a_worker_killed_before_it_protected_is_followed_by_one_that_does(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    project.control("rest", {"path": "rpc/prepare_exits", "status": 503, "times": None})
    first = start_worker(**SETTINGS)
    signal = project.signal(user, SYMBOL)
    reaches(project, signal, "open")
    first.kill()
    project.request("DELETE", "/_control/rest").raise_for_status()
    assert listed(project, user) == []
    start_worker(**SETTINGS)
    reaches(project, signal, "monitoring")
    assert rests(project, signal).keys() == {"stop_loss", "take_profit"}
    price(project, SYMBOL, "97.00")
    assert_exact(project, user, signal, "stop_loss")


def test_a_trailing_stop_and_the_one_at_the_exchange_sell_once(project: Project, start_worker: StartWorker) -> None:
    user = join_testnet(project, risk_config={**SIZE, "stop_loss_percent": "3", "trailing_stop_percent": "2"})
    start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    price(project, SYMBOL, "95.00")
    row = reaches(project, signal, "closed")
    assert_exact(project, user, signal, row["exit_reason"])
    assert row["exit_reason"] in ("trailing_stop", "stop_loss")


@pytest.mark.parametrize("executed", [True, False], ids=["carried out", "not carried out"])
@pytest.mark.parametrize("kind", ["drop", "html"])
def test_protection_whose_answer_is_lost_is_looked_up_and_never_doubled(
    project: Project, start_worker: StartWorker, user: TestnetUser, kind: str, executed: bool
) -> None:
    project.venue("POST", "faults", {"method": "POST", "path": OCO, "kind": kind, "execute": executed, "times": 1})
    start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    working = [one for one in listed(project, user) if one["status"] == "NEW"]
    assert {one["type"] for one in working} == {"STOP_LOSS", "TAKE_PROFIT"}
    assert len(listed(project, user)) == 2
    price(project, SYMBOL, "97.00")
    assert_exact(project, user, signal, "stop_loss")


def test_protection_that_keeps_being_refused_sells_and_says_why(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    told = {"kind": "status", "status": 400, "code": -2010, "msg": "Stop orders are off.", "times": 50}
    project.venue("POST", "faults", {"method": "POST", "path": OCO, "execute": False, **told})
    start_worker(**SETTINGS)
    signal = project.signal(user, SYMBOL)
    assert_exact(project, user, signal, "protection_failed")


def test_protection_that_somebody_cancelled_is_placed_anew(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    before = {one["client_order_id"] for one in rests(project, signal).values()}
    cancel_by_hand(project, user)
    wait_until("it is placed anew", lambda: len(rests(project, signal)) == 2 and not before & _names(project, signal))
    cancelled = max(one["receivedNs"] for one in listed(project, user)) - min(
        one["receivedNs"] for one in listed(project, user)
    )
    assert cancelled > 0
    price(project, SYMBOL, "104.50")
    assert_exact(project, user, signal, "take_profit")


def test_a_stop_filled_in_parts_sells_all_of_it_once(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    project.venue("POST", "fills", {"symbol": SYMBOL, "mode": "partial", "parts": 3, "seconds": 60})
    price(project, SYMBOL, "97.00")
    wait_until("a part is sold", lambda: position(project, signal)["exit_quantity"])
    project.venue("POST", "fills", {"symbol": SYMBOL, "mode": "instant"})
    assert_exact(project, user, signal, "stop_loss")


def test_a_reset_of_the_exchange_ends_it_as_lost(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    project.venue("POST", "reset", {})
    row = reaches(project, signal, "closed", 30)
    assert (row["exit_reason"], row["realized_pnl"]) == ("lost_at_venue", None)


def test_replacing_protection_leaves_it_bare_for_a_moment_only(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    start_worker(**SETTINGS)
    signal = monitored(project, user, SYMBOL)
    ask = {"position_id": str(position(project, signal)["id"]), "action": "adjust_sl"}
    project.request(
        "POST", "/rest/v1/position_actions", user.token, json={**ask, "details": {"stop_loss_price": "99"}}
    ).raise_for_status()
    wait_until(
        "the stop is moved", lambda: any(one["stop_price"] == Decimal(99) for one in rests(project, signal).values())
    )
    old, new = orders(project, signal, "stop_loss")
    bare = (new["acknowledged_at"] - old["updated_at"]).total_seconds()
    assert old["status"] == "cancelled"
    assert bare < MOVED_SECONDS


def test_the_owner_hears_every_mark_and_nobody_else_does(project: Project, start_worker: StartWorker) -> None:
    owner, stranger = project.sign_up(BOTH), project.sign_up()

    async def scenario() -> None:
        heard: list[dict[str, Any]] = []
        more = asyncio.Event()

        def hear(message: dict[str, Any]) -> None:
            heard.append(message)
            more.set()

        async with screen_of(project, owner) as mine, screen_of(project, stranger) as other:
            assert await mine.join(f"user:{owner.id}", heard=hear) == "SUBSCRIBED"
            assert await other.join(f"user:{owner.id}") != "SUBSCRIBED"
            signal = await asyncio.to_thread(monitored, project, owner, SYMBOL)
            await asyncio.to_thread(price, project, SYMBOL, "101.00")
            async with asyncio.timeout(20):
                while not any(_mark_of(one) > Decimal("100.5") for one in heard):
                    more.clear()
                    await more.wait()
            identity = str((await asyncio.to_thread(position, project, signal))["id"])
            (told,) = heard[-1]["payload"]["positions"]
            assert told["position_id"] == identity

    start_worker(**SETTINGS)
    asyncio.run(scenario())
    wait_until("it is written too", lambda: _rows(project, owner, "position_marks"))
    (mark,) = _rows(project, owner, "position_marks")
    assert Decimal(str(mark["mark_price"])) > 0
    assert _rows(project, owner, "pnl_snapshots")
    assert _rows(project, owner, "account_equity")
    assert _rows(project, stranger, "position_marks") == []


def cancel_by_hand(project: Project, user: TestnetUser) -> None:
    """Cancel an order list at the exchange as its owner may."""

    (number,) = {one["orderListId"] for one in listed(project, user) if one["status"] == "NEW"}
    query = urlencode({"symbol": SYMBOL.replace("/", ""), "orderListId": number, "timestamp": int(time.time() * 1000)})
    signature = hmac.new(user.secret.encode(), query.encode(), hashlib.sha256).hexdigest()
    httpx.delete(
        f"{project.env['EXCHANGE_BASE_URL']}/api/v3/orderList?{query}&signature={signature}",
        headers={"X-MBX-APIKEY": user.api_key},
    ).raise_for_status()


def _names(project: Project, signal: str) -> set[str]:
    return {one["client_order_id"] for one in rests(project, signal).values()}


def _mark_of(message: dict[str, Any]) -> Decimal:
    positions: list[dict[str, Any]] = message.get("payload", {}).get("positions") or []
    return Decimal(str(positions[0]["mark_price"])) if positions else Decimal(0)


def _rows(project: Project, user: User, table: str) -> list[dict[str, Any]]:
    return project.request("GET", f"/rest/v1/{table}?select=*", user.token).raise_for_status().json()
