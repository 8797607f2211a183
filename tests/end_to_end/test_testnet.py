"""Real signed orders at the exchange: the ledger equals the rows, and a lost answer doubles and loses nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.product import Project, Worker, launch_worker, wait_until

SHORT = {"RECV_WINDOW_MS": "1000", "UNKNOWN_MARGIN_SECONDS": "2", "POLL_INTERVAL": "0.2", "LEASE_SECONDS": "4"}
FAULTS: dict[str, dict[str, Any]] = {
    "hang": {"kind": "hang", "seconds": 1},
    "dropped connection": {"kind": "drop"},
    "truncated answer": {"kind": "truncate"},
    "200 with HTML": {"kind": "html"},
    "503": {"kind": "status", "status": 503},
    "524": {"kind": "status", "status": 524},
    "-1006": {"kind": "status", "status": 400, "code": -1006},
    "-1007": {"kind": "status", "status": 503, "code": -1007},
}


@pytest.fixture(scope="module")
def testnet(project: Project) -> Project:
    """The project with user A's trader in testnet mode, as its owner sets it."""
    wanted = {"p_trader_id": project.env["SANDBOX_USER_A_TRADER_ID"], "p_mode": "testnet"}
    token = project.env["SANDBOX_USER_A_TOKEN"]
    project.request("POST", "/rest/v1/rpc/set_trader_mode", token, json=wanted).raise_for_status()
    return project


@pytest.fixture(scope="module")
def trading(testnet: Project, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One worker for the whole module, its windows short."""
    worker = launch_worker(testnet.env, tmp_path_factory.mktemp("worker") / "log", **SHORT)
    worker.wait_for("ready")
    yield worker
    worker.end()


def enter(project: Project, symbol: str) -> str:
    """A signal of user A's; returns its id."""
    row = {"user_id": project.env["SANDBOX_USER_A_ID"], "trader_id": project.env["SANDBOX_USER_A_TRADER_ID"]}
    return project.signals([{**row, "symbol": symbol}])[0]


def settled(project: Project, signal: str) -> dict[str, Any]:
    """The entry order of a signal and its position's state, once both have ended."""

    def look() -> list[dict[str, Any]]:
        return project.rows(
            "select o.*, p.status as position_status, p.failure_code, p.entry_order_id, p.entry_quantity, p.entry_value"
            " from orders as o join positions as p on p.id = o.position_id"
            " where p.signal_id = %s and p.status in ('open', 'failed')",
            signal,
        )

    wait_until("the position is open or failed", look, 25)
    return look()[0]


def at_venue(project: Project, client_order_id: str) -> list[dict[str, Any]]:
    """What the exchange's ledger has of an order."""
    return [one for one in ledger(project)["orders"] if one["clientOrderId"] == client_order_id]


def ledger(project: Project) -> dict[str, Any]:
    return project.venue("GET", "ledger").json()


def test_the_ledger_equals_the_rows(testnet: Project, trading: Worker) -> None:
    signals = [enter(testnet, symbol) for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")]
    for signal in signals:
        order = settled(testnet, signal)
        (there,) = at_venue(testnet, order["client_order_id"])
        assert (order["position_status"], order["status"], there["status"]) == ("open", "filled", "FILLED")
        assert order["exchange_order_id"] == order["entry_order_id"] == str(there["orderId"])
        assert order["filled_quantity"] == Decimal(there["executedQty"])
        assert order["total_value"] == order["entry_value"] == Decimal(there["cummulativeQuoteQty"])
        fills = [one for one in ledger(testnet)["trades"] if one["orderId"] == there["orderId"]]
        trades = testnet.rows("select * from trades where order_id = %s", order["id"])
        assert {one["exchange_trade_id"] for one in trades} == {str(one["id"]) for one in fills}
        fees = sum(Decimal(one["commission"]) for one in fills)
        assert {one["commissionAsset"] for one in fills} == {one["fee_asset"] for one in trades}
        assert sum(one["fee"] for one in trades) == fees
        assert order["entry_quantity"] == order["filled_quantity"] - fees  # taken in the coin itself


@pytest.mark.parametrize("executed", [True, False], ids=["carried out", "not carried out"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_answer_doubles_and_loses_nothing(testnet: Project, trading: Worker, fault: str, executed: bool) -> None:
    told = {"method": "POST", "path": "/api/v3/order", "execute": executed, "times": 1, **FAULTS[fault]}
    testnet.venue("POST", "faults", told)
    signal = enter(testnet, "ETH/USDT")
    order = settled(testnet, signal)
    there = at_venue(testnet, order["client_order_id"])
    events = testnet.rows(
        "select to_status from position_events where position_id = %s order by seq", order["position_id"]
    )
    if executed:
        (placed,) = there
        assert (order["position_status"], order["status"]) == ("open", "filled")
        assert order["filled_quantity"] == Decimal(placed["executedQty"])
        assert [one["to_status"] for one in events] == ["created", "submitting", "open"]
    else:
        assert there == []
        assert (order["position_status"], order["status"]) == ("failed", "failed")
        assert order["failure_code"] == "entry_not_accepted"
        assert [one["to_status"] for one in events] == ["created", "submitting", "failed"]
    testnet.venue("DELETE", "faults")
