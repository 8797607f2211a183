"""What the exchange refuses, and when it is closed: each ends with its code, stops nobody else, and raises no storm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    SHORT,
    TestnetUser,
    asked,
    at_venue,
    join_testnet,
    refused,
    settled,
)
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

ORDER = "POST /api/v3/order"


@pytest.fixture(scope="module")
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for the whole module, to which a signal is stale after six seconds."""
    settings = {**SHORT, "MAX_SIGNAL_AGE": "6", "SWEEP_INTERVAL": "0.5", "KEYS_CACHE_SECONDS": "2"}
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **settings)
    worker.wait_for("ready")
    yield worker
    worker.end()


@pytest.fixture
def user(project: Project, trading: Worker) -> TestnetUser:
    return join_testnet(project)


@pytest.fixture(scope="module")
def other(project: Project, trading: Worker) -> TestnetUser:
    """Somebody whose signals nothing is wrong with."""
    return join_testnet(project)


@pytest.fixture(autouse=True)
def as_before(project: Project) -> Iterator[None]:
    yield
    project.venue("DELETE", "faults")
    project.venue("POST", "clock", {"offset_ms": 0})
    project.venue("DELETE", "weight")


def meet(project: Project, method: str, path: str, **told: Any) -> None:
    """Have the next such request refused, and not carried out."""
    project.venue("POST", "faults", {"method": method, "path": path, "kind": "status", "execute": False, **told})


def trades(project: Project, other: TestnetUser, seconds: float = 25.0) -> None:
    """The others are not stopped."""
    assert settled(project, project.signal(other, "SOL/USDT"), "open", seconds=seconds)["status"] == "filled"


def test_a_balance_too_small_is_refused_before_anything_is_sent(project: Project, user: TestnetUser) -> None:
    project.venue("POST", "balance", {"apiKey": user.api_key, "asset": "USDT", "free": "50"})
    row = refused(project, project.signal(user))
    assert row["refusal_code"] == "insufficient_balance"
    assert "50 USDT" in row["refusal_reason"]
    assert asked(project, ORDER, user) == 0


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-2010, "Account has insufficient balance for requested action.", "insufficient_balance"),
        (-1013, "Filter failure: PRICE_FILTER", "venue_rejected"),
        (-1013, "Filter failure: LOT_SIZE", "venue_rejected"),
        (-1013, "Filter failure: NOTIONAL", "venue_rejected"),
        (-1121, "Invalid symbol.", "venue_rejected"),
        (-2010, "Market is closed.", "venue_rejected"),
        (-2015, "Invalid API-key, IP, or permissions for action.", "keys_rejected"),
        (-2014, "API-key format invalid.", "keys_rejected"),
        (-1022, "Signature for this request is not valid.", "keys_rejected"),
        (-1021, "Timestamp for this request is outside of the recvWindow.", "venue_unavailable"),
    ],
)
def test_an_order_that_the_exchange_refuses_fails_with_its_code(
    project: Project, user: TestnetUser, other: TestnetUser, code: int, message: str, expected: str
) -> None:
    meet(project, "POST", "/api/v3/order", status=400, code=code, msg=message)
    order = settled(project, project.signal(user), "failed")
    assert (order["status"], order["failure_code"]) == ("failed", expected)
    assert order["failure_reason"]
    assert at_venue(project, order["client_order_id"]) == []
    assert asked(project, ORDER, user) == 1
    trades(project, other)
    assert settled(project, project.signal(user), "open")["status"] == "filled"  # nor is the user from then on
    assert_ledger_equals_rows(project, user, other)


@pytest.mark.parametrize(
    ("symbol", "size", "columns", "expected"),
    [
        ("NOSUCH/USDT", "100", {}, "unknown_symbol"),
        ("BTC/USDT", "1", {}, "below_min_notional"),
        ("BTC/USDT", "2000000000", {}, "position_too_large"),
        ("BTC/USDT", "100", {"order_type": "limit", "limit_price": "1"}, "price_deviation"),
    ],
)
def test_what_the_filters_speak_against_is_not_sent(
    project: Project, trading: Worker, symbol: str, size: str, columns: dict[str, Any], expected: str
) -> None:
    config = {"position_size": {"type": "fixed", "value": size}}
    user = join_testnet(
        project, "4000000000", config, max_position_size_usdt="4000000000", max_total_exposure_usdt="4000000000"
    )
    row = refused(project, project.signal(user, symbol, **columns))
    assert row["refusal_code"] == expected
    assert asked(project, ORDER, user) == 0


def test_a_revoked_key_refuses_the_signal_and_its_owner_sees_why(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    def error() -> str | None:
        shown = project.request("GET", "/rest/v1/exchange_accounts?select=error", user.token).raise_for_status().json()
        return shown[0]["error"]

    assert settled(project, project.signal(user), "open")
    project.venue("POST", "keys", {"apiKey": user.api_key, "revoked": True})
    row = refused(project, project.signal(user))
    assert row["refusal_code"] == "keys_rejected"
    wait_until("the owner sees it", error)
    assert user.secret not in (error() or "")
    trades(project, other)
    project.venue("POST", "keys", {"apiKey": user.api_key, "revoked": False})
    assert settled(project, project.signal(user), "open")
    wait_until("the owner sees that it works again", lambda: error() is None)


def test_a_user_without_keys_is_told_to_store_some(project: Project, user: TestnetUser) -> None:
    body = {"exchange": "binance", "mode": "testnet"}
    project.request("POST", "/functions/v1/revoke-api-keys", user.token, json=body).raise_for_status()
    assert refused(project, project.signal(user))["refusal_code"] == "keys_missing"


@pytest.mark.parametrize("status", [418, 429])
def test_a_ban_is_kept_to_and_signals_wait_until_it_is_over(
    project: Project, user: TestnetUser, other: TestnetUser, status: int
) -> None:
    assert settled(project, project.signal(user), "open")
    meet(project, "GET", "/api/v3/account", status=status, code=-1003, msg="Too much request weight used.", seconds=3)
    before = total(project)
    signal = project.signal(user)
    wait_until("the ban is met", lambda: total(project) > before)
    met = total(project)
    later = project.signal(other, "SOL/USDT")
    quiet_until = time.monotonic() + 2
    wait_until("two seconds have passed", lambda: time.monotonic() > quiet_until)
    assert total(project) == met
    assert settled(project, signal, "open")["status"] == "filled"
    assert settled(project, later, "open")["status"] == "filled"


def test_signals_that_a_ban_outlasts_expire(project: Project, user: TestnetUser) -> None:
    meet(project, "GET", "/api/v3/account", status=418, code=-1003, msg="IP banned.", seconds=9)
    row = refused(project, project.signal(user))
    assert (row["status"], row["refusal_code"]) == ("expired", "signal_expired")
    assert asked(project, ORDER, user) == 0


@pytest.mark.parametrize("offset_ms", [30_000, -30_000])
def test_a_clock_that_is_off_is_learnt_and_trading_goes_on(
    project: Project, user: TestnetUser, other: TestnetUser, offset_ms: int
) -> None:
    project.venue("POST", "clock", {"offset_ms": offset_ms})
    before = total(project)
    order = settled(project, project.signal(user), "open")
    there = at_venue(project, order["client_order_id"])
    assert len(there) == 1
    assert total(project) - before < 60
    trades(project, other)


def test_while_the_exchange_is_down_signals_wait_and_few_requests_are_made(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    assert settled(project, project.signal(user), "open")
    for path in ("/api/v3/account", "/api/v3/order", "/api/v3/ticker/bookTicker"):
        for method in ("GET", "POST"):
            meet(project, method, path, status=503, times=10_000)
    before = total(project)
    waiting, lost = project.signal(user), project.signal(other)
    for signal in (waiting, lost):
        assert refused(project, signal)["refusal_code"] == "signal_expired"
    assert total(project) - before < 60
    project.venue("DELETE", "faults")
    assert settled(project, project.signal(user), "open")["status"] == "filled"
    trades(project, other)


def test_an_entry_that_meets_the_outage_after_its_admission_is_looked_up_until_it_is_known(
    project: Project, user: TestnetUser
) -> None:
    meet(project, "POST", "/api/v3/order", status=503)
    meet(project, "GET", "/api/v3/order", status=503, times=5)
    order = settled(project, project.signal(user), "failed")
    assert order["failure_code"] == "entry_not_accepted"
    assert asked(project, ORDER, user) == 1
    assert asked(project, "GET /api/v3/order", user) < 30


def total(project: Project) -> int:
    """All requests that the exchange ever got over REST."""
    requests: dict[str, dict[str, int]] = project.venue("GET", "requests").json()["requests"]
    return sum(sum(counts.values()) for what, counts in requests.items() if not what.startswith("WS"))
