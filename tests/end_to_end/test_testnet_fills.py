"""Entries at the exchange that take their time: filled in parts, never, while being cancelled, or after it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from streams.domain.money import average
from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    HOLDING,
    SHORT,
    TestnetUser,
    asked,
    at_venue,
    entry,
    join_testnet,
    settled,
)
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

GIVEN_SECONDS = "2.5"


@pytest.fixture(scope="module")
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for the whole module, which gives a limit entry two and a half seconds."""
    settings = {**SHORT, "MAX_EXECUTION_TIME": GIVEN_SECONDS}
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **settings)
    worker.wait_for("ready")
    yield worker
    worker.end()


@pytest.fixture
def user(project: Project, trading: Worker) -> TestnetUser:
    return join_testnet(project)


@pytest.fixture(autouse=True)
def as_before(project: Project) -> Iterator[None]:
    yield
    project.venue("DELETE", "faults")
    for symbol in ("ADA/USDT", "DOT/USDT", "LINK/USDT", "LTC/USDT"):
        project.venue("POST", "fills", {"symbol": symbol, "mode": "instant"})
        project.venue("POST", "price", {"symbol": symbol, "price": None})


def limit(project: Project, user: TestnetUser, symbol: str, price: str, limit_price: str) -> str:
    """A limit entry, with the market held at a price; returns its signal."""
    project.venue("POST", "price", {"symbol": symbol, "price": price})
    return project.signal(user, symbol, order_type="limit", limit_price=limit_price)


def rests(project: Project, signal: str) -> dict[str, Any]:
    wait_until(
        "the entry rests",
        lambda: project.rows(
            "select o.id from orders as o join positions as p on p.id = o.position_id"
            " where p.signal_id = %s and o.status = 'submitted'",
            signal,
        ),
    )
    return entry(project, signal)


@pytest.mark.parametrize("seconds", [1.6, pytest.param(10.0, marks=pytest.mark.bench)])
def test_parts_are_booked_as_they_come(project: Project, user: TestnetUser, seconds: float) -> None:
    project.venue("POST", "fills", {"symbol": "ADA/USDT", "mode": "partial", "parts": 5, "seconds": seconds})
    signal = project.signal(user, "ADA/USDT")
    settled(project, signal, "open")
    seen: set[Decimal] = set()

    def ended() -> bool:
        order = entry(project, signal)
        seen.add(order["filled_quantity"])
        assert order["entry_quantity"] <= order["filled_quantity"]
        assert order["status"] in ("partially_filled", "filled")
        return order["status"] == "filled"

    wait_until("all parts are filled", ended, seconds + 10)
    assert len(seen) >= 3
    order = entry(project, signal)
    assert order["filled_quantity"] == order["quantity"]
    fees = sum(one["fee"] for one in project.rows("select fee from trades where order_id = %s", order["id"]))
    assert order["entry_quantity"] == order["filled_quantity"] - fees
    assert order["entry_price"] == average(order["total_value"], order["filled_quantity"])
    assert_ledger_equals_rows(project, user)


def test_a_limit_never_reached_is_cancelled_at_the_exchange_and_fails(project: Project, user: TestnetUser) -> None:
    signal = limit(project, user, "DOT/USDT", "3.000", "2.500")
    resting = rests(project, signal)
    order = settled(project, signal, "failed")
    (there,) = at_venue(project, resting["client_order_id"])
    assert (there["status"], order["status"], order["failure_code"]) == ("CANCELED", "cancelled", "entry_not_filled")
    assert order["failure_reason"].endswith(".")
    assert_ledger_equals_rows(project, user)


def test_what_was_filled_before_the_time_was_up_is_kept(project: Project, user: TestnetUser) -> None:
    project.venue("POST", "fills", {"symbol": "LINK/USDT", "mode": "partial", "parts": 2, "seconds": 60})
    project.venue("POST", "price", {"symbol": "LINK/USDT", "price": "10.00"})
    signal = project.signal(user, "LINK/USDT", order_type="limit", limit_price="10.10")
    settled(project, signal, "open")
    wait_until("the rest is cancelled", lambda: entry(project, signal)["status"] == "cancelled")
    order = entry(project, signal)
    assert 0 < order["filled_quantity"] < order["quantity"]
    assert order["position_status"] in HOLDING
    assert_ledger_equals_rows(project, user)


@pytest.mark.parametrize("executed", [True, False], ids=["carried out", "not carried out"])
def test_a_cancel_whose_answer_is_lost_is_sent_again_until_the_end_is_known(
    project: Project, user: TestnetUser, executed: bool
) -> None:
    lost = {"method": "DELETE", "path": "/api/v3/order", "kind": "drop", "execute": executed, "times": 2}
    project.venue("POST", "faults", lost)
    signal = limit(project, user, "DOT/USDT", "3.000", "2.500")
    order = settled(project, signal, "failed")
    assert (order["status"], order["failure_code"]) == ("cancelled", "entry_not_filled")
    assert asked(project, "DELETE /api/v3/order", user) <= 4
    assert_ledger_equals_rows(project, user)


def test_one_that_fills_while_it_is_being_cancelled_is_open_and_filled(project: Project, user: TestnetUser) -> None:
    late = {"method": "DELETE", "path": "/api/v3/order", "kind": "queue", "execute": True, "seconds": 0.8, "times": 1}
    project.venue("POST", "faults", late)
    signal = limit(project, user, "LTC/USDT", "80.00", "79.00")
    rests(project, signal)
    wait_until("it is being cancelled", lambda: asked(project, "DELETE /api/v3/order", user) == 1)
    project.venue("POST", "price", {"symbol": "LTC/USDT", "price": "78.00"})
    order = settled(project, signal, "open")
    wait_until("its end is booked", lambda: entry(project, signal)["status"] == "filled")
    assert order["failure_code"] is None
    assert_ledger_equals_rows(project, user)


@pytest.mark.parametrize("filled_before", [False, True], ids=["unfilled", "filled in part"])
def test_a_fill_told_after_the_cancel_is_booked(project: Project, user: TestnetUser, filled_before: bool) -> None:
    plan: dict[str, Any] = {"mode": "partial", "parts": 2, "seconds": 60} if filled_before else {"mode": "never"}
    project.venue("POST", "fills", {"symbol": "LTC/USDT", **plan, "late": 0.5})
    signal = limit(project, user, "LTC/USDT", "80.00", "81.00")
    wait_until(
        "the cancel is booked",
        lambda: project.rows(
            "select o.id from orders as o join positions as p on p.id = o.position_id"
            " where p.signal_id = %s and o.status = 'cancelled'",
            signal,
        ),
    )
    settled(project, signal, "open")
    wait_until("the late fill is booked", lambda: entry(project, signal)["status"] == "filled")
    order = entry(project, signal)
    assert order["filled_quantity"] == order["quantity"]
    assert order["failure_code"] is None
    assert_ledger_equals_rows(project, user)


@pytest.mark.parametrize("asset", ["LTC", "BNB"])
def test_fees_are_taken_in_whatever_asset_the_exchange_says(project: Project, user: TestnetUser, asset: str) -> None:
    project.venue("POST", "balance", {"apiKey": user.api_key, "asset": "BNB", "free": "10"})
    project.venue("POST", "commission", {"apiKey": user.api_key, "bnb": asset == "BNB", "rate": "0.00075"})
    signal = project.signal(user, "LTC/USDT")
    order = settled(project, signal, "open")
    trades = project.rows("select * from trades where order_id = %s", order["id"])
    assert {one["fee_asset"] for one in trades} == {asset}
    fees = sum(one["fee"] for one in trades)
    assert order["entry_quantity"] == order["filled_quantity"] - (fees if asset == "LTC" else 0)
    assert order["fees_paid"] == sum(one["fee_usdt"] for one in trades) > 0
    assert_ledger_equals_rows(project, user)
