"""An emergency stop in the middle of a burst: nothing is entered after it, and its actions tell what became of all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, wait_until
from tests.end_to_end.testnet import TestnetUser, join_testnet, ledger

BURST, UNDER_WAY = 100, 10
ORDER = "/api/v3/order"
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "LTC/USDT")
SETTINGS = {
    "SWEEP_INTERVAL": "0.5",
    "LEASE_SECONDS": "4",
    "RECV_WINDOW_MS": "1000",
    "UNKNOWN_MARGIN_SECONDS": "2",
    "POLL_INTERVAL": "0.2",
    "LATE_FILL_SECONDS": "0.5",
}
ENTRIES = """
  select o.client_order_id, o.status, o.filled_quantity, o.created_at, p.id as position_id, p.status as position_status,
    p.exit_reason, p.failure_code
  from orders as o join positions as p on p.id = o.position_id where o.user_id = %s and o.purpose = 'entry'
"""
ASKED = "select position_id, action, status, error_message from position_actions where user_id = %s"


@pytest.fixture
def user(project: Project) -> Iterator[TestnetUser]:
    yield join_testnet(project, max_open_positions=1000)
    project.request("DELETE", "/_control/rest").raise_for_status()
    project.venue("DELETE", "faults")
    project.request("POST", "/rest/v1/rpc/clear_system_stop", json={}).raise_for_status()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("whose", ["the user's own", "everybody's"])
def test_nothing_is_entered_after_a_stop(
    project: Project, start_worker: StartWorker, user: TestnetUser, whose: str, closing: bool
) -> None:
    start_worker(**SETTINGS)
    signals = _burst(project, user)
    stopped = _stop(project, user if whose == "the user's own" else None, closing)
    _assert_stopped(project, user, signals, stopped, closing)


@pytest.mark.timeout(120)
def test_a_stop_needs_no_realtime(project: Project, start_worker: StartWorker, user: TestnetUser) -> None:
    start_worker(**SETTINGS, REALTIME="false")
    signals = _burst(project, user)
    _assert_stopped(project, user, signals, _stop(project, user, closing=True), closing=True)


@pytest.mark.timeout(120)
def test_a_stop_holds_while_the_exchange_answers_slowly(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    start_worker(**SETTINGS)
    slow = {"method": "POST", "path": ORDER, "kind": "delay", "seconds": 0.3, "times": 1000, "execute": True}
    project.venue("POST", "faults", slow)
    signals = _burst(project, user)
    _assert_stopped(project, user, signals, _stop(project, user, closing=True), closing=True)


@pytest.mark.timeout(120)
def test_a_stop_holds_while_the_worker_is_killed_and_another_starts(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    worker = start_worker(**SETTINGS)
    signals = _burst(project, user)
    worker.kill()
    stopped = _stop(project, user, closing=True)
    start_worker(**SETTINGS)
    _assert_stopped(project, user, signals, stopped, closing=True)


@pytest.mark.timeout(120)
def test_a_stop_gives_up_what_rests_at_the_exchange(
    project: Project, start_worker: StartWorker, user: TestnetUser
) -> None:
    start_worker(**SETTINGS)
    rows = [_row(user, number, order_type="limit", limit_price=_LOW[SYMBOLS[number % 5]]) for number in range(20)]
    signals = project.signals(rows)
    resting = f"{ENTRIES} and o.status = 'submitted'"
    wait_until("all rest", lambda: len(project.rows(resting, user.id)) == len(rows))
    stopped = _stop(project, user, closing=False)
    assert stopped["cancel_entry"] == len(rows)
    wait_until("all are given up", lambda: set(project.statuses(signals)) == {"failed"})
    assert {one["status"] for one in _of(user, ledger(project)["orders"])} == {"CANCELED"}
    assert {(one["status"], one["error_message"]) for one in project.rows(ASKED, user.id)} == {("done", None)}


_LOW = {"BTC/USDT": "60000", "ETH/USDT": "2000", "SOL/USDT": "100", "BNB/USDT": "400", "LTC/USDT": "60"}


def _row(user: TestnetUser, number: int, **columns: object) -> dict[str, object]:
    return {"user_id": user.id, "trader_id": user.trader_id, "symbol": SYMBOLS[number % len(SYMBOLS)], **columns}


def _burst(project: Project, user: TestnetUser) -> list[str]:
    """A burst of signals, of which the first have been carried out and most have not."""
    signals = project.signals([_row(user, number) for number in range(BURST)])
    wait_until("the burst is under way", lambda: len(project.rows(ENTRIES, user.id)) >= UNDER_WAY, 30.0)
    return signals


def _stop(project: Project, user: TestnetUser | None, closing: bool) -> dict[str, Any]:
    """Stop as a user does for themselves, or the operator for everybody."""
    body: dict[str, object] = {"p_close_positions": closing}
    token = None if user is None else user.token
    answer = project.request("POST", "/rest/v1/rpc/emergency_stop", token, json=body).raise_for_status()
    return answer.json()


def _assert_stopped(
    project: Project, user: TestnetUser, signals: list[str], stopped: dict[str, Any], closing: bool
) -> None:
    wanted = {"completed", "failed", "rejected"} if closing else {"in_position", "failed", "rejected"}
    wait_until("every signal is answered", lambda: set(project.statuses(signals)) <= wanted, 60.0)
    wait_until("every action is answered", lambda: not _pending(project, user))
    entries = project.rows(ENTRIES, user.id)
    print(f"{len(entries)} of {BURST} were entered; {stopped}")
    assert UNDER_WAY <= len(entries) < BURST
    (at,) = project.rows(
        "select coalesce((select paused_at from risk_limits where user_id = %s and trader_id is null),"
        " (select stopped_at from system_state)) as at",
        user.id,
    )
    assert all(one["created_at"] < at["at"] for one in entries)
    at_exchange = {one["clientOrderId"] for one in _of(user, ledger(project)["orders"]) if one["side"] == "BUY"}
    never_sent = {one["client_order_id"] for one in entries if one["failure_code"] == "entry_not_accepted"}
    assert at_exchange == {one["client_order_id"] for one in entries} - never_sent
    codes = project.rows("select code from risk_refusals where signal_id = any (%s)", _uuids(signals))
    assert [one["code"] for one in codes] == ["trading_paused"] * (BURST - len(entries))
    _assert_told(project, user, entries, stopped, closing)


def _assert_told(
    project: Project, user: TestnetUser, entries: list[dict[str, Any]], stopped: dict[str, Any], closing: bool
) -> None:
    """Each action says what became of its order; what holds coins is open, or closed where that was asked."""
    positions = {one["position_id"]: one for one in entries}
    actions = project.rows(ASKED, user.id)
    kinds = [one["action"] for one in actions]
    asked = (kinds.count("cancel_entry"), kinds.count("close"))
    if not stopped["everybody"]:
        assert asked == (stopped["cancel_entry"], stopped["close"])
    for action in actions:
        entry = positions[action["position_id"]]
        bought, told = entry["filled_quantity"], action["error_message"]
        if action["action"] == "close":
            assert action["status"] == "done"
            assert bought == 0 or (entry["position_status"], entry["exit_reason"]) == ("closed", "emergency_stop")
        elif action["status"] == "refused":
            assert told, action
            assert bought > 0, action
        else:
            assert (action["status"], entry["status"] in ("cancelled", "expired", "failed")) == ("done", True)
    if closing:
        assert {one["position_status"] for one in entries} <= {"closed", "failed"}
    sold = {one["status"] for one in _of(user, ledger(project)["orders"]) if one["side"] == "SELL"}
    assert sold == ({"FILLED"} if closing else set[str]())


def _pending(project: Project, user: TestnetUser) -> list[dict[str, Any]]:
    return [one for one in project.rows(ASKED, user.id) if one["status"] == "pending"]


def _of(user: TestnetUser, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in orders if one["apiKey"] == user.api_key]


def _uuids(ids: list[str]) -> list[uuid.UUID]:
    return [uuid.UUID(one) for one in ids]
