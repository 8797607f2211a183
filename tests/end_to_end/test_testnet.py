"""Real signed orders at the exchange: the ledger equals the rows, and a lost answer doubles and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.history import assert_no_row_lied, keep_history, moments, since, states
from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.screen import Screen, watching
from tests.end_to_end.testnet import (
    HOLDING,
    MARGIN_SECONDS,
    SHORT,
    TestnetUser,
    asked,
    at_venue,
    hand_over,
    join_testnet,
    ledger,
    settled,
)
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

ORDER = "/api/v3/order"
FAULTS: dict[str, dict[str, Any]] = {
    "hang": {"kind": "hang", "seconds": 1},
    "dropped connection": {"kind": "drop"},
    "truncated answer": {"kind": "truncate"},
    "200 with HTML": {"kind": "html"},
    "403 of a firewall": {"kind": "status", "status": 403},
    "503": {"kind": "status", "status": 503},
    "524": {"kind": "status", "status": 524},
    "-1000": {"kind": "status", "status": 400, "code": -1000},
    "-1006": {"kind": "status", "status": 400, "code": -1006},
    "-1007": {"kind": "status", "status": 503, "code": -1007},
    "-1008": {"kind": "status", "status": 503, "code": -1008},
}
HIDDEN, LATER = "carried out, and hidden from queries at first", "carried out long after"
TOLD_AFTER = {HIDDEN: 1.0, LATER: 0.3}
"""Seconds from an order's arrival before which nobody can be told of it."""
FATES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "carried out": ("ETH/USDT", {"execute": True}, {}),
    HIDDEN: ("SOL/USDT", {"execute": True}, {"lag": TOLD_AFTER[HIDDEN]}),
    LATER: ("XRP/USDT", {"execute": True, "after": TOLD_AFTER[LATER]}, {}),
    "never carried out": ("ADA/USDT", {"execute": False}, {}),
}
"""What becomes of an order whose answer is lost: its symbol, what the fault does with it, and how it is filled."""

Case = tuple[str, str]


@pytest.fixture(scope="module")
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for the whole module, its windows short, and each state of each row written down."""
    keep_history(project)
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **SHORT)
    worker.wait_for("ready")
    yield worker
    worker.end()
    assert worker.alarms() == []


@pytest.fixture(scope="module")
def user(project: Project, trading: Worker) -> TestnetUser:
    return join_testnet(project)


@pytest.fixture(scope="module")
def losers(project: Project, trading: Worker) -> Mapping[str, TestnetUser]:
    """Somebody for each fate, so that one that hangs keeps no other waiting."""
    return {fate: join_testnet(project) for fate in FATES}


@pytest.fixture(scope="module")
def lost(project: Project, losers: Mapping[str, TestnetUser]) -> Mapping[Case, str]:
    """A signal for each way to lose an answer and each fate; what comes after the loss runs side by side."""
    signals: dict[Case, str] = {}
    for symbol, _, fills in FATES.values():
        project.venue("POST", "fills", {"symbol": symbol, "mode": "instant", **fills})
    for fault, told in FAULTS.items():
        for fate, (symbol, becomes, _) in FATES.items():
            fault_of = {"method": "POST", "path": ORDER, "apiKey": losers[fate].api_key}
            project.venue("POST", "faults", {**fault_of, **told, **becomes})
            signals[fault, fate] = project.signal(losers[fate], symbol)
            wait_until("the answer is lost", lambda: not project.venue("GET", "faults").json()["faults"])
    return signals


def test_the_ledger_equals_the_rows(project: Project, user: TestnetUser) -> None:
    signals = [project.signal(user, symbol) for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")]
    for signal in signals:
        order = settled(project, signal)
        (there,) = at_venue(project, order["client_order_id"])
        assert order["position_status"] in HOLDING
        assert (order["status"], there["status"]) == ("filled", "FILLED")
        assert order["entry_order_id"] == str(there["orderId"])
        assert order["entry_value"] == Decimal(there["cummulativeQuoteQty"])
        fees = sum(
            Decimal(one["commission"]) for one in ledger(project)["trades"] if one["orderId"] == there["orderId"]
        )
        assert order["entry_quantity"] == order["filled_quantity"] - fees  # taken in the coin itself
    assert_ledger_equals_rows(project, user)
    assert_no_row_lied(project, user, margin_seconds=MARGIN_SECONDS)


def test_the_next_order_is_signed_with_the_keys_that_its_user_stored_last(project: Project, trading: Worker) -> None:
    user = join_testnet(project)
    first = settled(project, project.signal(user))
    api_key, _ = hand_over(project, user)
    second = settled(project, project.signal(user))  # the worker still holds the others, and they still work
    sent_by = [at_venue(project, order["client_order_id"])[0]["apiKey"] for order in (first, second)]
    assert sent_by == [user.api_key, api_key]
    assert [order["status"] for order in (first, second)] == ["filled", "filled"]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_answer_doubles_and_loses_nothing(
    project: Project, lost: Mapping[Case, str], fault: str, fate: str
) -> None:
    order = settled(project, lost[fault, fate])
    there = at_venue(project, order["client_order_id"])
    said = moments(project, "orders", order["id"])
    of_position = states(moments(project, "positions", order["position_id"]))
    if fate == "never carried out":
        assert there == []
        assert states(said) == ["created", "submitting", "unknown", "failed"]
        assert of_position == ["created", "submitting", "failed"]
        assert order["failure_code"] == "entry_not_accepted"
    else:
        (placed,) = there
        assert states(said) == ["created", "submitting", "unknown", "filled"]
        assert of_position[:3] == ["created", "submitting", "open"]
        assert order["filled_quantity"] == Decimal(placed["executedQty"])
        assert since(said, "filled") > placed["receivedNs"] / 1e9 + TOLD_AFTER.get(fate, 0)


def test_each_order_was_sent_once_and_no_row_lied_meanwhile(
    project: Project, losers: Mapping[str, TestnetUser], lost: Mapping[Case, str]
) -> None:
    for signal in lost.values():
        settled(project, signal)
    for loser in losers.values():
        assert asked(project, f"POST {ORDER}", loser) == len(FAULTS)
    assert_ledger_equals_rows(project, *losers.values())
    assert_no_row_lied(project, *losers.values(), margin_seconds=MARGIN_SECONDS)


def test_look_ups_may_be_lost_as_well(
    project: Project, losers: Mapping[str, TestnetUser], lost: Mapping[Case, str]
) -> None:
    for signal in lost.values():
        settled(project, signal)  # none of them is looked up any more
    three = list(losers.values())[:3]
    before = [asked(project, f"POST {ORDER}", loser) for loser in three]
    for fault in ("hang", "dropped connection", "truncated answer", "200 with HTML", "503", "-1007"):
        for path in (ORDER, "/api/v3/myTrades"):
            project.venue("POST", "faults", {"method": "GET", "path": path, **FAULTS[fault]})
    project.venue("POST", "faults", {"method": "POST", "path": ORDER, "kind": "drop", "execute": True, "times": 3})
    for signal in [project.signal(loser, "ETH/USDT") for loser in three]:
        order = settled(project, signal)
        assert states(moments(project, "orders", order["id"])) == ["created", "submitting", "unknown", "filled"]
    assert [asked(project, f"POST {ORDER}", loser) for loser in three] == [count + 1 for count in before]
    assert_ledger_equals_rows(project, *three)
    assert_no_row_lied(project, *three, margin_seconds=MARGIN_SECONDS)


@pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")  # of supabase-py's own making
def test_the_user_sees_unknown_and_then_what_came_of_it(project: Project, user: TestnetUser) -> None:
    async def lose(screen: Screen, execute: bool) -> tuple[list[str], list[str]]:
        fault = {"method": "POST", "path": ORDER, "kind": "drop", "execute": execute}
        await asyncio.to_thread(project.venue, "POST", "faults", fault)
        signal = await asyncio.to_thread(project.signal, user)
        await screen.until(lambda: screen.statuses("signals", ("id", signal))[-1:] in (["in_position"], ["failed"]))
        (position,) = {one["record"]["id"] for one in screen.changes if one["record"].get("signal_id") == signal}
        return screen.statuses("orders", ("position_id", position)), screen.statuses("positions", ("id", position))

    async def scenario() -> None:
        async with watching(project, user) as screen:
            orders, positions = await lose(screen, execute=True)
            assert orders == ["created", "submitting", "unknown", "filled"]
            assert positions[:3] == ["created", "submitting", "open"]
            orders, positions = await lose(screen, execute=False)
            assert orders == ["created", "submitting", "unknown", "failed"]
            assert positions == ["created", "submitting", "failed"]

    asyncio.run(scenario())
