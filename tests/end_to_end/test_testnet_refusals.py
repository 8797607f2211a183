"""What the exchange refuses, and when it is closed: each ends with its code, stops nobody else, and raises no storm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    SHORT,
    TestnetUser,
    asked,
    at_venue,
    entry,
    join_testnet,
    ledger,
    refused,
    settled,
)
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows
from worker.adapters.ccxt_exchange.balances import QUIET_SECONDS

ORDER, FUNDS = "POST /api/v3/order", "GET /api/v3/account"
SETTINGS = {**SHORT, "MAX_SIGNAL_AGE": "6", "SWEEP_INTERVAL": "0.5", "KEYS_CACHE_SECONDS": "2"}
NO_REQUESTS = ("WS", "GET /stream")
"""So begins, in the exchange's counts, what is no request to its API: messages on sockets, and streams of prices."""


@pytest.fixture(scope="module")
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for the whole module, to which a signal is stale after six seconds."""
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **SETTINGS)
    worker.wait_for("ready")
    yield worker
    worker.end()
    assert worker.alarms() == []


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
    project.request("DELETE", "/_control/rest").raise_for_status()
    project.venue("POST", "clock", {"offset_ms": 0})
    project.venue("DELETE", "weight")


def meet(project: Project, user: TestnetUser, method: str, path: str, **told: Any) -> None:
    """Have the next such request of somebody's refused, and not carried out."""
    fault = {"method": method, "path": path, "apiKey": user.api_key, "kind": "status", "execute": False}
    project.venue("POST", "faults", {**fault, **told})


def take_down(project: Project) -> None:
    """Have every request answered as in the exchange's maintenance, and every stream cut."""
    project.venue("POST", "faults", {"path": "*", "kind": "status", "status": 503, "times": 1_000_000})
    project.venue("POST", "streams", {"drop": True})
    project.venue("POST", "streams", {"user": "drop"})


def trades(project: Project, other: TestnetUser, seconds: float = 25.0) -> None:
    """The others are not stopped."""
    assert settled(project, project.signal(other, "SOL/USDT"), "open", seconds=seconds)["status"] == "filled"


def admitted_slowly(project: Project, user: TestnetUser) -> str:
    """A signal whose funds are known and whose order is not sent yet, for half a second."""
    before = asked(project, FUNDS, user)
    project.control("rest", {"path": "rpc/admit_signal", "delay_ms": 500})
    signal = project.signal(user)
    wait_until("its funds are known", lambda: asked(project, FUNDS, user) > before)
    return signal


def total(project: Project, *users: TestnetUser, but: tuple[str, ...] = ()) -> int:
    """All requests that the exchange's API ever got, of these users or nobody where any are named."""
    requests: dict[str, dict[str, int]] = project.venue("GET", "requests").json()["requests"]
    keys = {"", *(user.api_key for user in users)}
    return sum(
        count
        for what, counts in requests.items()
        for key, count in counts.items()
        if not what.startswith((*NO_REQUESTS, *but)) and (key in keys or not users)
    )


def is_met(project: Project) -> bool:
    """Whether all that was planned has befallen somebody."""
    return project.venue("GET", "faults").json()["faults"] == []


def assert_quiet(project: Project, seconds: float) -> None:
    """Nothing is asked of the exchange for so long, but for what was on its way."""
    until = time.monotonic() + seconds - 0.3
    wait(0.2)
    met = total(project)
    wait_until("it is over", lambda: total(project) != met or time.monotonic() > until)
    assert total(project) == met


def wait(seconds: float) -> None:
    """Let time pass in which nothing is to happen."""
    until = time.monotonic() + seconds
    wait_until(f"{seconds:g} s have passed", lambda: time.monotonic() > until, seconds + 5)


def test_a_balance_too_small_is_refused_before_anything_is_sent(project: Project, user: TestnetUser) -> None:
    project.venue("POST", "balance", {"apiKey": user.api_key, "asset": "USDT", "free": "50"})
    row = refused(project, project.signal(user))
    assert row["refusal_code"] == "insufficient_balance"
    assert "50 USDT" in row["refusal_reason"]
    assert asked(project, ORDER, user) == 0


def test_what_another_entry_has_set_aside_is_not_spent_twice(project: Project, user: TestnetUser) -> None:
    project.venue("POST", "balance", {"apiKey": user.api_key, "asset": "USDT", "free": "150"})
    project.venue("POST", "price", {"symbol": "DOT/USDT", "price": "3.000"})
    resting = project.signal(user, "DOT/USDT", order_type="limit", limit_price="2.500")
    wait_until("it rests", lambda: ledger(project)["balances"][user.api_key]["USDT"]["locked"] != "0")
    assert refused(project, project.signal(user, "DOT/USDT"))["refusal_code"] == "insufficient_balance"
    assert asked(project, ORDER, user) == 1
    action = {"position_id": str(entry(project, resting)["position_id"]), "action": "cancel_entry"}
    project.request("POST", "/rest/v1/position_actions", user.token, json=action).raise_for_status()
    assert settled(project, resting, "failed")["failure_code"] == "entry_not_filled"
    assert settled(project, project.signal(user, "DOT/USDT"), "open")
    project.venue("POST", "price", {"symbol": "DOT/USDT", "price": None})
    assert_ledger_equals_rows(project, user)


def test_a_balance_that_goes_before_the_order_comes_fails_it(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    signal = admitted_slowly(project, user)
    project.venue("POST", "balance", {"apiKey": user.api_key, "asset": "USDT", "free": "50"})
    order = settled(project, signal, "failed")
    assert (order["status"], order["failure_code"]) == ("failed", "insufficient_balance")
    assert asked(project, ORDER, user) == 1
    trades(project, other)
    assert_ledger_equals_rows(project, user, other)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-2010, "Account has insufficient balance for requested action.", "insufficient_balance"),
        (-1013, "Filter failure: PRICE_FILTER", "venue_rejected"),
        (-1013, "Filter failure: LOT_SIZE", "venue_rejected"),
        (-1013, "Filter failure: NOTIONAL", "venue_rejected"),
        (-1013, "Filter failure: MARKET_LOT_SIZE", "venue_rejected"),
        (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE", "venue_rejected"),
        (-1013, "Filter failure: MAX_NUM_ORDERS", "venue_rejected"),
        (-1111, "Parameter 'quantity' has too much precision.", "venue_rejected"),
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
    meet(project, user, "POST", "/api/v3/order", status=400, code=code, msg=message)
    order = settled(project, project.signal(user), "failed")
    assert (order["status"], order["failure_code"]) == ("failed", expected)
    assert order["failure_reason"]
    assert at_venue(project, order["client_order_id"]) == []
    assert asked(project, ORDER, user) == 1
    trades(project, other)
    assert settled(project, project.signal(user), "open")["status"] == "filled"  # nor is the user from then on
    assert_ledger_equals_rows(project, user, other)


RICH = "4000000000"
FILTERED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "no such symbol": ("NOSUCH/USDT", {}, {}, "unknown_symbol"),
    "not trading now": ("LUNA/USDT", {}, {}, "unknown_symbol"),
    "not in USDT": ("ETH/BTC", {}, {}, "unsupported_quote"),
    "worth too little": ("BTC/USDT", {"value": "1"}, {}, "below_min_notional"),
    "more than a limit order may buy": ("BTC/USDT", {"value": "2000000000"}, {}, "position_too_large"),
    "more than a market order may buy": ("OP/USDT", {"value": "200000", "slippage": "0"}, {}, "position_too_large"),
    "a limit too far away": ("BTC/USDT", {}, {"order_type": "limit", "limit_price": "1"}, "price_deviation"),
    "a limit below a tick": ("BTC/USDT", {}, {"order_type": "limit", "limit_price": "0.001"}, "invalid_signal"),
}


@pytest.mark.parametrize("case", FILTERED)
def test_what_the_filters_speak_against_is_not_sent(project: Project, trading: Worker, case: str) -> None:
    symbol, sizing, columns, expected = FILTERED[case]
    config = {"position_size": {"type": "fixed", "value": sizing.get("value", "100")}}
    if "slippage" in sizing:
        config |= {"max_slippage_percent": sizing["slippage"]}
    user = join_testnet(project, RICH, config, max_position_size_usdt=RICH, max_total_exposure_usdt=RICH)
    row = refused(project, project.signal(user, symbol, **columns))
    assert (row["status"], row["refusal_code"]) == ("rejected", expected)
    assert row["refusal_reason"].endswith(".")
    assert asked(project, ORDER, user) == 0


def test_a_position_smaller_than_its_user_wants_any_is_not_sent(project: Project, trading: Worker) -> None:
    user = join_testnet(project, min_position_size_usdt="200")
    assert refused(project, project.signal(user))["refusal_code"] == "position_too_small"
    assert asked(project, ORDER, user) == 0


def key_error(project: Project, user: TestnetUser) -> str | None:
    """What its owner is shown to be wrong with their key."""
    shown = project.request("GET", "/rest/v1/exchange_accounts?select=error", user.token).raise_for_status().json()
    return shown[0]["error"]


def test_a_revoked_key_refuses_the_signal_and_its_owner_sees_why(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    assert settled(project, project.signal(user), "open")
    project.venue("POST", "keys", {"apiKey": user.api_key, "revoked": True})
    row = refused(project, project.signal(user))
    assert row["refusal_code"] == "keys_rejected"
    wait_until("the owner sees it", lambda: key_error(project, user))
    assert user.secret not in (key_error(project, user) or "")
    trades(project, other)
    project.venue("POST", "keys", {"apiKey": user.api_key, "revoked": False})
    assert settled(project, project.signal(user), "open")
    wait_until("the owner sees that it works again", lambda: key_error(project, user) is None)


def test_a_key_revoked_before_the_order_comes_fails_it_and_its_owner_sees_why(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    signal = admitted_slowly(project, user)
    project.venue("POST", "keys", {"apiKey": user.api_key, "revoked": True})
    order = settled(project, signal, "failed")
    assert (order["status"], order["failure_code"]) == ("failed", "keys_rejected")
    wait_until("the owner sees it", lambda: "-2015" in (key_error(project, user) or ""))
    assert asked(project, ORDER, user) == 1
    trades(project, other)


@pytest.mark.parametrize("code", [-2015, -2014, -1022])
def test_a_key_that_the_exchange_takes_no_more_refuses_the_signal(
    project: Project, user: TestnetUser, other: TestnetUser, code: int
) -> None:
    meet(project, user, "GET", "/api/v3/account", status=401, code=code)
    assert refused(project, project.signal(user))["refusal_code"] == "keys_rejected"
    assert asked(project, ORDER, user) == 0
    trades(project, other)


def test_a_user_without_keys_is_told_to_store_some(project: Project, user: TestnetUser) -> None:
    body = {"exchange": "binance", "mode": "testnet"}
    project.request("POST", "/functions/v1/revoke-api-keys", user.token, json=body).raise_for_status()
    assert refused(project, project.signal(user))["refusal_code"] == "keys_missing"


@pytest.mark.parametrize("status", [418, 429])
def test_a_ban_is_kept_to_and_signals_wait_until_it_is_over(
    project: Project, user: TestnetUser, other: TestnetUser, status: int
) -> None:
    assert settled(project, project.signal(user), "open")
    meet(project, user, "GET", "/api/v3/account", status=status, code=-1003, msg="Too much weight used.", seconds=4)
    signal = project.signal(user)
    wait_until("the ban is met", lambda: is_met(project))
    later = project.signal(other, "SOL/USDT")
    assert_quiet(project, 3)
    assert project.statuses([signal, later]) == ["ready", "ready"]
    for one in (signal, later):
        assert settled(project, one, "open")["status"] == "filled"
    assert_ledger_equals_rows(project, user, other)


@pytest.mark.parametrize("status", [418, 429])
def test_an_order_that_meets_a_ban_fails_and_the_ban_is_kept_to(
    project: Project, user: TestnetUser, other: TestnetUser, status: int
) -> None:
    meet(project, user, "POST", "/api/v3/order", status=status, code=-1003, msg="Too many requests.", seconds=3)
    order = settled(project, project.signal(user), "failed")
    assert (order["status"], order["failure_code"]) == ("failed", "venue_unavailable")
    later = project.signal(other, "SOL/USDT")
    assert_quiet(project, 2)
    assert project.statuses([later]) == ["ready"]
    assert settled(project, later, "open")["status"] == "filled"
    assert asked(project, ORDER, user) == 1
    assert_ledger_equals_rows(project, user, other)


def test_an_account_that_sent_too_many_orders_stops_nobody_else(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    meet(project, user, "POST", "/api/v3/order", status=429, code=-1015, seconds=30)
    assert settled(project, project.signal(user), "failed")["failure_code"] == "venue_unavailable"
    trades(project, other, seconds=5)


def test_signals_that_a_ban_outlasts_expire(project: Project, user: TestnetUser, other: TestnetUser) -> None:
    meet(project, user, "GET", "/api/v3/account", status=418, code=-1003, msg="IP banned.", seconds=8)
    first = project.signal(user)
    wait_until("the ban is met", lambda: is_met(project))
    second = project.signal(other, "SOL/USDT")
    assert_quiet(project, 6)
    for signal in (first, second):
        row = refused(project, signal)
        assert (row["status"], row["refusal_code"]) == ("expired", "signal_expired")
    assert asked(project, ORDER, user) == 0
    trades(project, other)


@pytest.mark.parametrize("offset_ms", [30_000, -30_000])
def test_a_clock_that_is_off_is_learnt_and_trading_goes_on(
    project: Project, user: TestnetUser, other: TestnetUser, offset_ms: int
) -> None:
    project.venue("POST", "price", {"symbol": "DOT/USDT", "price": "3.000"})
    resting = project.signal(user, "DOT/USDT", order_type="limit", limit_price="2.500")
    wait_until(
        "it rests", lambda: project.rows("select from orders where user_id = %s and status = 'submitted'", user.id)
    )
    project.venue("POST", "clock", {"offset_ms": offset_ms})
    before = total(project, user, other)
    order = settled(project, project.signal(user), "open")
    (there,) = at_venue(project, order["client_order_id"])
    assert abs(order["signed_at"].timestamp() * 1000 - (there["receivedNs"] / 1e6 + offset_ms)) < 2000
    action = {"position_id": str(entry(project, resting)["position_id"]), "action": "cancel_entry"}
    project.request("POST", "/rest/v1/position_actions", user.token, json=action).raise_for_status()
    assert settled(project, resting, "failed")["failure_code"] == "entry_not_filled"
    trades(project, other)
    assert total(project, user, other) - before < 40
    project.venue("POST", "price", {"symbol": "DOT/USDT", "price": None})
    assert_ledger_equals_rows(project, user, other)


@pytest.mark.parametrize("offset_ms", [30_000, -30_000])
def test_a_worker_that_starts_by_a_clock_that_is_off_trades(
    project: Project, trading: Worker, start_worker: StartWorker, offset_ms: int
) -> None:
    user = join_testnet(project)
    project.venue("POST", "clock", {"offset_ms": offset_ms})
    before = asked(project, FUNDS, user)
    start_worker(**SETTINGS)
    order = settled(project, project.signal(user), "open")
    assert order["status"] == "filled"
    assert asked(project, FUNDS, user) - before <= 4
    assert_ledger_equals_rows(project, user)


def test_after_a_maintenance_signals_that_waited_are_traded(
    project: Project, user: TestnetUser, other: TestnetUser
) -> None:
    assert settled(project, project.signal(user), "open")
    before = total(project, user, other, but=("GET /ws-api",))
    take_down(project)
    waiting = [project.signal(one, symbol) for one in (user, other) for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT")]
    wait(2.5)
    assert set(project.statuses(waiting)) == {"ready"}
    assert total(project, user, other, but=("GET /ws-api",)) - before < 25
    project.venue("DELETE", "faults")
    for signal in waiting:
        assert settled(project, signal, "open")["status"] == "filled"
    assert_ledger_equals_rows(project, user, other)


def test_while_the_exchange_is_down_signals_wait_and_few_requests_are_made(
    project: Project, trading: Worker, user: TestnetUser, other: TestnetUser
) -> None:
    assert settled(project, project.signal(user), "open")
    trading.live_for(QUIET_SECONDS)  # until then what it has just heard of the account would do
    before = asked(project, FUNDS, user) + asked(project, FUNDS, other)
    down = {"method": "GET", "path": "/api/v3/account", "kind": "status", "status": 503, "times": 1_000_000}
    project.venue("POST", "faults", down)
    waiting = [project.signal(one) for one in (user, other) for _ in range(10)]
    project.wait_for(waiting, "expired")
    assert (
        asked(project, FUNDS, user) + asked(project, FUNDS, other) - before < 15
    )  # of twenty signals at twelve sweeps
    project.venue("DELETE", "faults")
    assert settled(project, project.signal(user), "open")["status"] == "filled"
    trades(project, other)


def test_an_entry_that_meets_the_outage_after_its_admission_is_looked_up_until_it_is_known(
    project: Project, user: TestnetUser
) -> None:
    meet(project, user, "POST", "/api/v3/order", status=503)
    meet(project, user, "GET", "/api/v3/order", status=503, times=5)
    order = settled(project, project.signal(user), "failed")
    assert order["failure_code"] == "entry_not_accepted"
    assert asked(project, ORDER, user) == 1
    assert asked(project, "GET /api/v3/order", user) < 30
    assert_ledger_equals_rows(project, user)


def test_no_key_is_in_the_log(project: Project, trading: Worker, user: TestnetUser, other: TestnetUser) -> None:
    trades(project, user)
    written = trading.log.read_text()
    assert written
    assert not [secret for one in (user, other) for secret in (one.api_key, one.secret) if secret in written]


def test_a_limit_in_percent_of_the_account_holds_for_its_first_entry(project: Project, trading: Worker) -> None:
    user = join_testnet(project, usdt="5000", max_position_size_percent="1.9")
    assert refused(project, project.signal(user))["refusal_code"] == "position_too_large"
    (told,) = project.rows("select limit_value from risk_refusals where user_id = %s", user.id)
    assert told["limit_value"] == "95"
    assert not project.rows("select from orders where user_id = %s", user.id)
