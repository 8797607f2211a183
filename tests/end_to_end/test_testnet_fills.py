"""Entries at the exchange that take their time: filled in parts, never, while being cancelled, or after it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from streams.domain.money import average
from tests.end_to_end.history import assert_no_row_lied, keep_history, moments, states
from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    HOLDING,
    MARGIN_SECONDS,
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
LATE = {**SHORT, "MAX_EXECUTION_TIME": GIVEN_SECONDS}
SYMBOLS = ("ADA/USDT", "DOT/USDT", "LINK/USDT", "LTC/USDT", "BNB/USDT")
FUNDS = "GET /api/v3/account"
CANCEL = "DELETE /api/v3/order"
LOST: tuple[dict[str, Any], ...] = (
    {"kind": "hang", "seconds": 0.5},
    {"kind": "drop"},
    {"kind": "truncate"},
    {"kind": "html"},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 503, "code": -1007},
)


@pytest.fixture(scope="module")
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for the whole module, which gives a limit entry two and a half seconds."""
    keep_history(project)
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **LATE)
    worker.wait_for("ready")
    yield worker
    worker.end()
    assert worker.alarms() == []


@pytest.fixture
def user(project: Project, trading: Worker) -> TestnetUser:
    return join_testnet(project)


@pytest.fixture(autouse=True)
def as_before(project: Project) -> Iterator[None]:
    yield
    project.venue("DELETE", "faults")
    project.venue("POST", "streams", {"user": "ok"})
    project.request("DELETE", "/_control/rest").raise_for_status()
    for symbol in SYMBOLS:
        project.venue("POST", "fills", {"symbol": symbol, "mode": "instant"})
        project.venue("POST", "price", {"symbol": symbol, "price": None})
        project.venue("POST", "book", {"symbol": symbol})


def limit(project: Project, user: TestnetUser, symbol: str, price: str, limit_price: str) -> str:
    """A limit entry, with the market held at a price; returns its signal."""
    project.venue("POST", "price", {"symbol": symbol, "price": price})
    return project.signal(user, symbol, order_type="limit", limit_price=limit_price)


def in_parts(project: Project, symbol: str, parts: int, seconds: float, **more: Any) -> None:
    """Have a symbol's orders filled in so many parts, the first at once."""
    plan = {"symbol": symbol, "mode": "partial", "parts": parts, "seconds": seconds, **more}
    project.venue("POST", "fills", plan)


def reaches(project: Project, signal: str, status: str, seconds: float = 15.0) -> dict[str, Any]:
    """The entry order, once it is in a state."""
    reached = (
        "select from orders as o join positions as p on p.id = o.position_id"
        " where p.signal_id = %s and o.purpose = 'entry' and o.status = %s"
    )
    wait_until(f"the entry is {status}", lambda: project.rows(reached, signal, status), seconds)
    return entry(project, signal)


def assert_true(project: Project, *users: TestnetUser) -> None:
    """The rows say what the exchange says, and none ever said more than was known."""
    assert_ledger_equals_rows(project, *users)
    assert_no_row_lied(project, *users, margin_seconds=MARGIN_SECONDS)


@pytest.mark.parametrize("stream", ["ok", "silent", "duplicate", "reorder"])
def test_parts_are_booked_as_they_come(project: Project, user: TestnetUser, stream: str) -> None:
    project.venue("POST", "streams", {"user": stream})
    in_parts(project, "ADA/USDT", 5, 1.6)
    signal = project.signal(user, "ADA/USDT")
    settled(project, signal, "open")
    order = reaches(project, signal, "filled")
    said = moments(project, "orders", order["id"])
    assert states(said) == ["created", "submitting", "partially_filled", "filled"]
    assert len({moment.quantity for moment in said}) >= 4  # none of it, and most of the five parts by themselves
    assert order["filled_quantity"] == order["quantity"]
    assert order["entry_price"] == average(order["total_value"], order["filled_quantity"])
    assert_true(project, user)


def test_a_limit_never_reached_is_cancelled_at_the_exchange_and_fails(project: Project, user: TestnetUser) -> None:
    signal = limit(project, user, "DOT/USDT", "3.000", "2.500")
    resting = reaches(project, signal, "submitted")
    order = settled(project, signal, "failed")
    (there,) = at_venue(project, resting["client_order_id"])
    assert (there["status"], order["status"], order["failure_code"]) == ("CANCELED", "cancelled", "entry_not_filled")
    assert order["failure_reason"].endswith(".")
    assert states(moments(project, "orders", order["id"])) == ["created", "submitting", "submitted", "cancelled"]
    assert_true(project, user)


def test_what_was_filled_before_the_time_was_up_is_kept(project: Project, user: TestnetUser) -> None:
    in_parts(project, "LINK/USDT", 2, 60)
    signal = limit(project, user, "LINK/USDT", "10.00", "10.10")
    settled(project, signal, "open")
    order = reaches(project, signal, "cancelled")
    assert 0 < order["filled_quantity"] < order["quantity"]
    assert order["position_status"] in HOLDING
    assert_true(project, user)


def test_cancels_whose_answers_are_lost_are_sent_again_until_the_end_is_known(
    project: Project, trading: Worker
) -> None:
    unfilled, partly = join_testnet(project), join_testnet(project)
    in_parts(project, "LINK/USDT", 2, 60)
    project.venue("POST", "price", {"symbol": "LINK/USDT", "price": "10.00"})
    project.venue("POST", "price", {"symbol": "DOT/USDT", "price": "3.000"})
    for told in LOST:
        for executed in (True, False):
            fault = {"method": "DELETE", "path": "/api/v3/order", "execute": executed, **told}
            project.venue("POST", "faults", fault)
    lost = 2 * len(LOST)
    signals = {
        user: [project.signal(user, symbol, order_type="limit", limit_price=price) for _ in range(len(LOST))]
        for user, symbol, price in ((unfilled, "DOT/USDT", "2.500"), (partly, "LINK/USDT", "10.10"))
    }
    for signal in signals[unfilled]:
        order = settled(project, signal, "failed")
        assert (order["status"], order["failure_code"]) == ("cancelled", "entry_not_filled")
    for signal in signals[partly]:
        order = reaches(project, signal, "cancelled")
        assert 0 < order["filled_quantity"] < order["quantity"]
        assert order["position_status"] in HOLDING
    assert project.venue("GET", "faults").json()["faults"] == []
    assert asked(project, CANCEL, unfilled) + asked(project, CANCEL, partly) <= 2 * lost + 6
    assert_true(project, unfilled, partly)


def test_one_that_fills_before_its_cancel_is_carried_out_is_open_and_filled(
    project: Project, user: TestnetUser
) -> None:
    late = {"method": "DELETE", "path": "/api/v3/order", "kind": "queue", "execute": True, "seconds": 0.8, "times": 1}
    project.venue("POST", "faults", late)
    signal = limit(project, user, "LTC/USDT", "80.00", "79.00")
    reaches(project, signal, "submitted")
    wait_until("it is being cancelled", lambda: asked(project, CANCEL, user) == 1)
    project.venue("POST", "price", {"symbol": "LTC/USDT", "price": "78.00"})
    order = settled(project, signal, "open")
    reaches(project, signal, "filled")
    assert order["failure_code"] is None
    assert_true(project, user)


def test_one_that_fills_after_its_cancel_was_lost_is_open_and_filled(project: Project, user: TestnetUser) -> None:
    lost = {"method": "DELETE", "path": "/api/v3/order", "kind": "hang", "execute": False, "seconds": 0.5}
    project.venue("POST", "faults", lost)
    signal = limit(project, user, "LTC/USDT", "80.00", "79.00")
    wait_until("it is being cancelled", lambda: asked(project, CANCEL, user) == 1)
    project.venue("POST", "price", {"symbol": "LTC/USDT", "price": "78.00"})
    order = reaches(project, signal, "filled")
    assert order["failure_code"] is None
    assert asked(project, CANCEL, user) <= 2
    assert_true(project, user)


@pytest.mark.parametrize("filled_before", [False, True], ids=["unfilled", "filled in part"])
def test_a_fill_told_after_the_cancel_is_booked(project: Project, user: TestnetUser, filled_before: bool) -> None:
    plan: dict[str, Any] = {"mode": "partial", "parts": 2, "seconds": 60} if filled_before else {"mode": "never"}
    project.venue("POST", "fills", {"symbol": "LTC/USDT", **plan, "late": 0.5})
    signal = limit(project, user, "LTC/USDT", "80.00", "81.00")
    reaches(project, signal, "cancelled")
    settled(project, signal, "open")
    order = reaches(project, signal, "filled")
    assert order["filled_quantity"] == order["quantity"]
    assert order["failure_code"] is None
    assert "cancelled" in states(moments(project, "orders", order["id"]))
    assert_true(project, user)


def test_a_market_entry_that_the_price_ran_away_from_buys_nothing(project: Project, user: TestnetUser) -> None:
    project.venue("POST", "price", {"symbol": "LTC/USDT", "price": "80.00"})
    project.control("rest", {"path": "rpc/admit_signal", "delay_ms": 500})
    before = asked(project, FUNDS, user)
    signal = project.signal(user, "LTC/USDT")
    wait_until("its price is decided", lambda: asked(project, FUNDS, user) > before)
    project.venue("POST", "price", {"symbol": "LTC/USDT", "price": "82.00"})
    order = settled(project, signal, "failed")
    assert (order["status"], order["failure_code"]) == ("expired", "entry_not_filled")
    assert states(moments(project, "orders", order["id"])) == ["created", "submitting", "expired"]
    assert_true(project, user)


def test_a_market_entry_buys_what_is_on_offer_up_to_its_bound_and_no_more(project: Project, user: TestnetUser) -> None:
    asks = [["80.00", "0.300"], ["80.20", "0.200"], ["90.00", "100"]]
    project.venue("POST", "book", {"symbol": "LTC/USDT", "bids": [["79.90", "10"]], "asks": asks})
    order = settled(project, project.signal(user, "LTC/USDT"), "open")
    assert (order["status"], order["filled_quantity"]) == ("expired", Decimal("0.5"))
    assert order["entry_value"] == Decimal("24") + Decimal("16.04")
    assert order["quantity"] > order["filled_quantity"]
    assert_true(project, user)


FEES = {
    "in the coin": ("LTC/USDT", "10", False, {"LTC"}),
    "in BNB": ("LTC/USDT", "10", True, {"BNB"}),
    "in BNB until it is used up": ("LTC/USDT", "0.00003", True, {"LTC", "BNB"}),
    "in BNB, which is the coin": ("BNB/USDT", "10", True, {"BNB"}),
}


@pytest.mark.parametrize("case", FEES)
def test_fees_are_taken_in_whatever_asset_the_exchange_says(project: Project, user: TestnetUser, case: str) -> None:
    symbol, bnb, pays_in_bnb, assets = FEES[case]
    project.venue("POST", "balance", {"apiKey": user.api_key, "asset": "BNB", "free": bnb})
    project.venue("POST", "commission", {"apiKey": user.api_key, "bnb": pays_in_bnb, "rate": "0.00075"})
    in_parts(project, symbol, 3, 0.6)
    signal = project.signal(user, symbol)
    settled(project, signal, "open")
    order = reaches(project, signal, "filled")
    trades = project.rows("select * from trades where order_id = %s", order["id"])
    assert {one["fee_asset"] for one in trades} == assets
    fees = sum(one["fee"] for one in trades if symbol.startswith(one["fee_asset"]))
    assert order["entry_quantity"] == order["filled_quantity"] - fees
    assert order["fees_paid"] == sum(one["fee_usdt"] for one in trades) > 0
    assert_true(project, user)


def test_an_entry_that_the_exchange_does_not_know_any_more_comes_to_an_end(project: Project, user: TestnetUser) -> None:
    signal = limit(project, user, "DOT/USDT", "3.000", "2.500")
    reaches(project, signal, "submitted")
    project.venue("POST", "reset")
    order = settled(project, signal, "failed")
    assert (order["status"], order["failure_code"]) == ("cancelled", "entry_not_filled")
    assert order["failure_reason"] == "The exchange does not know the order any more."
    assert project.statuses([signal]) == ["failed"]
