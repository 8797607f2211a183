"""Bad signals: each is answered on its row with its code and a sentence, and disturbs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.end_to_end.books import assert_books
from tests.end_to_end.product import Project, User, Worker, launch_worker, wait_until

SMALL = {"position_size": {"type": "fixed", "value": "100"}}
ENDED = {"in_position", "rejected", "expired", "failed"}


def size(kind: str, value: object, **settings: object) -> dict[str, Any]:
    return {"position_size": {"type": kind, "value": value}, **settings}


@dataclass(frozen=True)
class Bad:
    """A signal that is refused: what is wrong with it, with its trader, or with its user's limits."""

    code: str
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])
    risk_config: Any = field(default_factory=lambda: SMALL)
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trader: Mapping[str, Any] = field(default_factory=dict[str, Any])


def limit(**columns: str) -> dict[str, Any]:
    return {"order_type": "limit", **columns}


BAD = {
    "unknown symbol": Bad("unknown_symbol", {"symbol": "NOSUCH/USDT"}),
    "market that does not trade": Bad("unknown_symbol", {"symbol": "LUNA/USDT"}),
    "symbol without a slash": Bad("unknown_symbol", {"symbol": "BTCUSDT"}),
    "symbol in small letters": Bad("unknown_symbol", {"symbol": "btc/usdt"}),
    "empty symbol": Bad("unknown_symbol", {"symbol": ""}),
    "symbol of 10 kB": Bad("unknown_symbol", {"symbol": "BTC/USDT" * 1280}),
    "symbol with quotes and lines": Bad("unknown_symbol", {"symbol": "';\n\"\\\u2028💥/USDT"}),
    "quote currency that is listed": Bad("unsupported_quote", {"symbol": "BTC/USDC"}),
    "quote currency that is not": Bad("unsupported_quote", {"symbol": "BTC/EUR"}),
    "short": Bad("short_not_supported", {"side": "short"}),
    "no side that there is": Bad("invalid_signal", {"side": "up"}),
    "side of null": Bad("invalid_signal", {"side": None}),
    "no order type that there is": Bad("invalid_signal", {"order_type": "stop"}),
    "limit without a price": Bad("invalid_signal", {"order_type": "limit"}),
    "negative price": Bad("invalid_signal", {"price": "-1"}),
    "price of zero": Bad("invalid_signal", {"price": "0"}),
    "price that is no number": Bad("invalid_signal", {"price": "NaN"}),
    "price without end": Bad("invalid_signal", {"price": "Infinity"}),
    "price beyond any market": Bad("invalid_signal", {"price": "1e40"}),
    "price of a hundred thousand digits": Bad("invalid_signal", {"price": "1e100000"}),
    "negative limit price": Bad("invalid_signal", limit(limit_price="-5")),
    "limit price below the tick": Bad("invalid_signal", limit(limit_price="0.000000001")),
    "limit price far from the market": Bad("price_deviation", limit(limit_price="0.01")),
    "negative stop": Bad("invalid_signal", {"stop_loss": "-1"}),
    "stop that is no number": Bad("invalid_signal", {"stop_loss": "NaN"}),
    "stop above the market": Bad("invalid_stop", {"stop_loss": "900000"}),
    "target below the market": Bad("invalid_stop", {"take_profit": "1"}),
    "stop above its target": Bad("invalid_stop", {"stop_loss": "2", "take_profit": "1"}),
    "expired": Bad("signal_expired", {"expires_at": "2020-01-01T00:00:00Z"}),
    "trader switched off": Bad("trader_disabled", trader={"enabled": False}),
    "live without a worker for it": Bad("mode_not_allowed", trader={"mode": "live"}),
    "testnet without keys": Bad("keys_missing", trader={"mode": "testnet"}),
    "smaller than the venue takes": Bad("below_min_notional", risk_config=size("fixed", "1")),
    "smaller than anything": Bad("below_min_notional", risk_config=size("fixed", "0.000000000000000001")),
    "larger than the venue takes": Bad("position_too_large", risk_config=size("fixed", "100000000000")),
    "more than the balance": Bad("insufficient_balance", risk_config=size("fixed", "10001")),
    "all of the balance and its fee": Bad("insufficient_balance", risk_config=size("fixed", "10000")),
    "settings: empty": Bad("invalid_risk_config", risk_config={"max_slippage_percent": "1"}),
    "settings: a list": Bad("invalid_risk_config", risk_config=[1, 2]),
    "settings: a text": Bad("invalid_risk_config", risk_config="large"),
    "settings: no type that there is": Bad("invalid_risk_config", risk_config=size("martingale", "2")),
    "settings: no number": Bad("invalid_risk_config", risk_config=size("fixed", "lots")),
    "settings: negative": Bad("invalid_risk_config", risk_config=size("fixed", "-100")),
    "settings: zero": Bad("invalid_risk_config", risk_config=size("percent", 0)),
    "settings: above everything": Bad("invalid_risk_config", risk_config=size("percent", "101")),
    "settings: true": Bad("invalid_risk_config", risk_config=size("fixed", True)),
    "settings: not a number": Bad("invalid_risk_config", risk_config=size("fixed", "NaN")),
    "settings: huge": Bad("invalid_risk_config", risk_config=size("fixed", "1e4000")),
    "settings: stop beyond zero": Bad("invalid_risk_config", risk_config=size("fixed", "9", stop_loss_percent="150")),
    "settings: misspelt stop": Bad("invalid_risk_config", risk_config=size("fixed", "9", stop_los_percent="2")),
    "risk without a stop": Bad("stop_loss_required", risk_config=size("risk", "1")),
    "spread": Bad("spread_too_wide", risk_config=size("fixed", "100", max_spread_percent="0.0000001")),
    "stop required": Bad("stop_loss_required", limits={"require_stop_loss": True}),
    "stop too wide": Bad("stop_too_wide", {"stop_loss": "1"}, limits={"max_stop_loss_percent": "5"}),
    "price moved away": Bad("price_deviation", {"price": "1000"}, limits={"max_price_deviation_percent": "1"}),
    "smaller than the user allows": Bad("position_too_small", limits={"min_position_size_usdt": "500"}),
    "no open position allowed": Bad("max_open_positions", limits={"max_open_positions": 0}),
    "more exposure than allowed": Bad("exposure_limit", limits={"max_total_exposure_usdt": "99"}),
}


@pytest.fixture(scope="module")
def worker(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker that meets them all, and has no trouble with any."""
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log")
    worker.wait_for("ready")
    yield worker
    assert worker.stop() == 0
    assert [one for one in worker.events() if one["level"] in ("warning", "error")] == []


@pytest.fixture(scope="module")
def careful(project: Project, worker: Worker) -> User:
    """A user whose signals are good."""
    return project.sign_up(max_open_positions=1000)


@dataclass(frozen=True)
class Tried:
    """What became of one bad signal, and of the good one beside it."""

    user: User
    row: Mapping[str, Any]
    beside: str


@pytest.fixture(scope="module")
def tried(project: Project, careful: User) -> Mapping[str, Tried]:
    """All bad signals of a user each, and a good one beside each, in one statement."""
    users = {name: project.sign_up(SMALL, **bad.limits) for name, bad in BAD.items()}
    rows: list[dict[str, Any]] = []
    for name, bad in BAD.items():
        _configure(project, users[name], bad)
        rows += [_row(users[name], **bad.columns), _row(careful, reasoning="why " * 2500)]
    ids = project.signals(rows)
    answered = [_answered(project, one) for one in ids]
    pairs = zip(answered[::2], answered[1::2], strict=True)
    return {
        name: Tried(users[name], refused, beside["status"]) for name, (refused, beside) in zip(BAD, pairs, strict=True)
    }


@pytest.mark.parametrize("name", BAD)
def test_a_bad_signal_is_refused_and_the_good_one_beside_it_traded(
    project: Project, tried: Mapping[str, Tried], name: str
) -> None:
    bad = tried[name]
    _assert_refused(project, bad.row, BAD[name].code)
    assert bad.beside == "in_position"
    [balance] = project.rows("select current_balance, reserved from paper_balances where user_id = %s", bad.user.id)
    assert (balance["current_balance"], balance["reserved"]) == (10000, 0)


def test_all_of_them_leave_the_books_exact(project: Project, careful: User, tried: Mapping[str, Tried]) -> None:
    assert_books(project, careful, *(one.user for one in tried.values()))


def test_another_users_trader_is_refused(project: Project, careful: User) -> None:
    user = project.sign_up()
    [refused, traded] = project.signals([{**_row(careful), "user_id": user.id}, _row(careful)])
    row = _answered(project, refused)
    project.wait_for([traded])
    _assert_refused(project, row, "trader_not_owned")
    assert_books(project, user, careful)


def test_a_limit_is_kept_between_signals_of_one_statement(project: Project, careful: User) -> None:
    few = project.sign_up(max_open_positions=2)
    exposed = project.sign_up(max_total_exposure_usdt="250")
    poor = project.sign_up(size("fixed", "4000"))
    users = {few: "max_open_positions", exposed: "exposure_limit", poor: "insufficient_balance"}
    ids = project.signals([_row(user) for _ in range(3) for user in (*users, careful)])
    rows = [_answered(project, one) for one in ids]
    for place, code in enumerate(users.values()):
        first, second, third = rows[place :: len(users) + 1]
        assert (first["status"], second["status"]) == ("in_position", "in_position")
        _assert_refused(project, third, code)
    assert_books(project, careful, *users)


def test_a_paused_user_is_not_traded_until_they_resume(project: Project, careful: User) -> None:
    user = project.sign_up()
    paused = project.request("POST", "/rest/v1/rpc/pause_trading", user.token, json={"p_reason": "on holiday"})
    assert paused.raise_for_status().json()["trading_paused"] is True
    [refused, traded] = project.signals([_row(user), _row(careful)])
    row = _answered(project, refused)
    project.wait_for([traded])
    _assert_refused(project, row, "trading_paused")
    assert "on holiday" in row["refusal_reason"]
    project.request("POST", "/rest/v1/rpc/resume_trading", user.token, json={}).raise_for_status()
    project.wait_for([project.signal(user)])
    assert_books(project, user)


def _row(user: User, **columns: Any) -> dict[str, Any]:
    """A row of `signals` with every column that any of them sets, as one statement needs."""
    optional = dict.fromkeys(("price", "limit_price", "stop_loss", "take_profit", "expires_at", "reasoning"))
    sound = {"symbol": "BTC/USDT", "side": "long", "order_type": "market"}
    return {"user_id": user.id, "trader_id": user.trader_id, **sound, **optional, **columns}


def _configure(project: Project, user: User, bad: Bad) -> None:
    """Write the trader's settings as the user, and what only an operator may set as the operator."""
    path = f"/rest/v1/traders?id=eq.{user.trader_id}"
    project.request("PATCH", path, user.token, json={"risk_config": bad.risk_config}).raise_for_status()
    if bad.trader:
        project.request("PATCH", path, json=dict(bad.trader)).raise_for_status()


def _answered(project: Project, signal: str) -> dict[str, Any]:
    """The signal's row once it has been answered."""
    query = "select status, refusal_code, refusal_reason, id, user_id from signals where id = %s"
    wait_until("the signal is answered", lambda: project.rows(query, signal)[0]["status"] in ENDED)
    return project.rows(query, signal)[0]


def _assert_refused(project: Project, row: Mapping[str, Any], code: str) -> None:
    """Refused with this code and a sentence that fits on a screen, noted, and nothing else made of it."""
    assert (row["status"], row["refusal_code"]) == ("expired" if code == "signal_expired" else "rejected", code)
    reason = row["refusal_reason"]
    assert reason.endswith(".")
    assert "\n" not in reason
    assert 15 < len(reason) < 300, reason
    assert project.rows("select id from positions where signal_id = %s", row["id"]) == []
    [noted] = project.rows("select code, user_id from risk_refusals where signal_id = %s", row["id"])
    assert (noted["code"], noted["user_id"]) == (code, row["user_id"])
