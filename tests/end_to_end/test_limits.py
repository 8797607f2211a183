"""Limits hold under bursts, on paper and at the exchange, with two workers: replayed from what was committed."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import pytest

from tests.connections import HTTP
from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.limit_replay import (
    Moment,
    Scope,
    assert_did_not_fit,
    assert_within,
    keep_limit_history,
    replay,
)
from tests.end_to_end.product import Project, User, wait_until
from tests.end_to_end.test_closing import ask
from tests.end_to_end.testnet import hand_over

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "XRP/USDT", "LTC/USDT")
SIZES = tuple(Decimal(size) for size in (40, 75, 120))
QUICK = {"SWEEP_INTERVAL": "0.5", "LEASE_SECONDS": "6", "RECV_WINDOW_MS": "1000"}
BRIEF = {"MAX_EXECUTION_TIME": "1", "LATE_FILL_SECONDS": "0.5", "POLL_INTERVAL": "0.2"}
"""So that entries at rest are given up soon."""
ANSWERED = frozenset({"in_position", "rejected", "completed", "failed"})
USERS, BURSTS, SIGNALS_EACH = 6, 3, 14


@dataclass(frozen=True)
class Limited:
    """Somebody with limits of their account and of their traders, and what each trader puts into a position."""

    user: User
    mode: str
    sizes: dict[str, Decimal]
    scopes: tuple[Scope, ...]


@pytest.fixture(scope="module", autouse=True)
def kept(project: Project) -> None:
    keep_limit_history(project)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(int(os.environ.get("LIMIT_SEEDS", "2"))))
def test_no_limit_is_ever_exceeded_and_nothing_that_fits_is_refused(
    project: Project, start_worker: StartWorker, seed: int
) -> None:
    draw = random.Random(seed)
    everybody = [_join(project, draw, ("paper", "testnet")[number % 2]) for number in range(USERS)]
    for _ in range(2):
        start_worker(**QUICK, **BRIEF)
    prices = {symbol: _price(project, symbol) for symbol in SYMBOLS}
    given: dict[str, Decimal] = {}
    for _ in range(BURSTS):
        burst = [row for one in everybody for row in _signals(draw, one, prices)]
        draw.shuffle(burst)
        ids = project.signals([row for row, _ in burst])
        given |= dict(zip(ids, (size for _, size in burst), strict=True))
        wait_until("all are answered", lambda ids=ids: set(project.statuses(ids)) <= ANSWERED, 60.0)
        for one in everybody:
            _close_some(project, draw, one)  # while the next burst comes
    admitted = refused = 0
    for one in everybody:
        before: list[Moment] = []
        for moment in replay(project, one.user.id):
            assert_within(moment, one.scopes)
            before.append(moment)
            for refusal in moment.refusals:
                refused += 1
                size = given[refusal["signal_id"]]
                assert_did_not_fit(refusal, size, before, _scopes_of(project, one, refusal["signal_id"]))
        admitted += len(before[-1].positions)
    print(f"{admitted} admitted, {refused} refused")
    assert admitted + refused == len(given)
    assert min(admitted, refused) > len(given) / 10
    failed = "select distinct failure_code from positions where user_id = any (%s) and status = 'failed'"
    codes = {row["failure_code"] for row in project.rows(failed, [uuid.UUID(one.user.id) for one in everybody])}
    assert codes == {"entry_not_filled"}  # no money that was spent twice came to light at the exchange
    assert_books(project, *(one.user for one in everybody if one.mode == "paper"))


def _join(project: Project, draw: random.Random, mode: str) -> Limited:
    size = draw.choice(SIZES)
    user = project.sign_up(_fixed(size))
    second_size = draw.choice(SIZES)
    made = project.request(
        "POST",
        "/rest/v1/traders",
        user.token,
        json={"user_id": user.id, "name": "second", "risk_config": _fixed(second_size)},
        headers={"Prefer": "return=representation"},
    ).raise_for_status()
    sizes = {user.trader_id: size, made.json()[0]["id"]: second_size}
    account = Scope(
        None,
        draw.choice((None, 2, 4, 7)),
        draw.choice((size + second_size, 2 * size + second_size - 1, Decimal("333.33"), Decimal("100000"))),
        draw.choice((Decimal("100"), Decimal("100000"))),
        one_per_symbol=draw.random() < 0.3,
    )
    of_trader = Scope(
        user.trader_id,
        draw.choice((None, 1, 3)),
        draw.choice((None, 2 * size, 3 * size - 1)),
        draw.choice((None, Decimal("75.9"))),
        one_per_symbol=draw.random() < 0.3,
    )
    _limit(project, user, account)
    _limit(project, user, of_trader)
    if mode == "testnet":
        hand_over(project, user, usdt=draw.choice(("300", "100000")))
        for trader_id in sizes:
            wanted = {"p_trader_id": trader_id, "p_mode": mode}
            project.request("POST", "/rest/v1/rpc/set_trader_mode", user.token, json=wanted).raise_for_status()
    elif draw.random() < 0.5:
        change = (
            "update paper_balances set initial_balance = 300, current_balance = 300 where user_id = %s returning id"
        )
        project.rows(change, user.id)
    return Limited(user, mode, sizes, (account, of_trader))


def _fixed(size: Decimal) -> dict[str, object]:
    return {"position_size": {"type": "fixed", "value": str(size)}, "max_slippage_percent": "1"}


def _limit(project: Project, user: User, scope: Scope) -> None:
    """Set limits as their user does."""
    if scope.trader_id is None:
        method, path, row = "PATCH", f"/rest/v1/risk_limits?user_id=eq.{user.id}&trader_id=is.null", scope.columns
    else:
        method, path = "POST", "/rest/v1/risk_limits"
        row = {"user_id": user.id, "trader_id": scope.trader_id, **scope.columns}
    project.request(method, path, user.token, json=row).raise_for_status()


def _price(project: Project, symbol: str) -> Decimal:
    name = symbol.replace("/", "")
    told = HTTP.get(f"{project.env['EXCHANGE_BASE_URL']}/api/v3/ticker/price?symbol={name}").raise_for_status().json()
    return Decimal(told["price"])


def _signals(
    draw: random.Random, one: Limited, prices: Mapping[str, Decimal]
) -> list[tuple[dict[str, object], Decimal]]:
    """Some buy at once, some rest below the price until their time is up, and count meanwhile."""
    drawn: list[tuple[dict[str, object], Decimal]] = []
    for _ in range(SIGNALS_EACH):
        trader_id, symbol = draw.choice(sorted(one.sizes)), draw.choice(SYMBOLS)
        row: dict[str, object] = {"user_id": one.user.id, "trader_id": trader_id, "symbol": symbol}
        resting = draw.random() < 0.3
        row["order_type"] = "limit" if resting else "market"
        row["limit_price"] = str((prices[symbol] * 9 / 10).quantize(Decimal("0.01"))) if resting else None
        drawn.append((row, one.sizes[trader_id]))
    return drawn


def _close_some(project: Project, draw: random.Random, one: Limited) -> None:
    held = project.rows(
        "select id from positions where user_id = %s and status in ('open', 'monitoring') order by created_at",
        one.user.id,
    )
    for row in held:
        if draw.random() < 0.6:
            ask(project, one.user, row["id"], "close")


def _scopes_of(project: Project, one: Limited, signal_id: str) -> list[Scope]:
    (row,) = project.rows("select trader_id::text from signals where id = %s", uuid.UUID(signal_id))
    return [scope for scope in one.scopes if scope.trader_id in (None, row["trader_id"])]
