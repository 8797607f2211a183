"""A day's losses that reach the limit pause the account by themselves: realised, unrealised, or by fees alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.product import Project, User, launch_worker, wait_until
from tests.end_to_end.test_closing import ask, position, price
from tests.end_to_end.testnet import join_testnet, refused

START, FALLEN = "100.00", "98.50"
SIZE = {"position_size": {"type": "fixed", "value": "1000"}, "max_slippage_percent": "1"}
SYMBOLS = iter(("LTC/USDT", "SOL/USDT", "AVAX/USDT", "LINK/USDT") * 5)  # no price of 100 is too far from theirs
PAUSED_SECONDS = 20.0
"""Marks are written every 5 s, and the next batch holds what the one before has written against the limits."""
PAUSE = "select * from risk_limits where user_id = %s and trader_id is null"


@dataclass(frozen=True)
class Trade:
    """Somebody's position in a symbol of their own."""

    project: Project
    user: User
    symbol: str
    signal: str

    @property
    def row(self) -> dict[str, Any]:
        return position(self.project, self.signal)

    def close(self) -> dict[str, Any]:
        ask(self.project, self.user, self.row["id"], "close")
        self.project.wait_for([self.signal], "completed")
        return self.row


@pytest.fixture(scope="module", autouse=True)
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    settings = {"SWEEP_INTERVAL": "0.5", "LEASE_SECONDS": "4", "RECV_WINDOW_MS": "1000"}
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **settings)
    worker.wait_for("ready")
    yield
    worker.end()


@pytest.fixture
def trades(project: Project) -> Iterator[Callable[[str], list[Trade]]]:
    """Opens a position on paper and one at the exchange, under a limit on what a day may lose."""
    held: list[str] = []

    def opened(usdt: str) -> list[Trade]:
        made: list[Trade] = []
        for user in (project.sign_up(SIZE), join_testnet(project, risk_config=SIZE)):
            path = f"/rest/v1/risk_limits?user_id=eq.{user.id}&trader_id=is.null"
            project.request("PATCH", path, user.token, json={"daily_loss_limit_usdt": usdt}).raise_for_status()
            symbol = next(SYMBOLS)
            held.append(symbol)
            price(project, symbol, START)
            made.append(Trade(project, user, symbol, project.signal(user, symbol)))
        project.wait_for([trade.signal for trade in made])
        return made

    yield opened
    for symbol in held:
        price(project, symbol, None)


def move(trades: list[Trade], at: str) -> None:
    """Move the prices, and wait until the positions are worth by them in their rows."""
    for trade in trades:
        price(trade.project, trade.symbol, at)
    seen = "select from position_marks where position_id = %s and abs(mark_price - %s::numeric) < 0.5"
    for trade in trades:
        wait_until("its mark follows", lambda one=trade: one.project.rows(seen, one.row["id"], at), PAUSED_SECONDS)


def wait_for_pauses(trades: list[Trade]) -> None:
    for trade in trades:
        rows = f"{PAUSE} and trading_paused"
        wait_until("it is paused", lambda one=trade: one.project.rows(rows, one.user.id), PAUSED_SECONDS)  # noqa: B023


def assert_paused_for_the_day(trades: list[Trade], usdt: str) -> None:
    """Paused by the limit, with reason and time; the next signal is refused by it; the next day lifts it."""
    wait_for_pauses(trades)
    for trade in trades:
        (row,) = trade.project.rows(PAUSE, trade.user.id)
        assert (row["paused_by"], row["paused_rule"]) == ("limit", "daily_loss_limit")
        assert row["paused_at"] is not None
        assert row["pause_reason"].endswith(f"the limit is {usdt} USDT.")
        again = trade.project.signal(trade.user, trade.symbol)
        assert refused(trade.project, again)["refusal_code"] == "daily_loss_limit"
    for trade in trades:  # a day later, as the rows would be then
        for table, column in (("positions", "exit_time"), ("risk_limits", "paused_at")):
            earlier = f"update {table} set {column} = {column} - interval '1 day' where user_id = %s returning id"
            trade.project.rows(earlier, trade.user.id)
    for trade in trades:
        free = f"{PAUSE} and not trading_paused"
        wait_until("it is lifted", lambda one=trade: one.project.rows(free, one.user.id), PAUSED_SECONDS)  # noqa: B023
        trade.project.wait_for([trade.project.signal(trade.user, trade.symbol)])


def test_by_what_was_realised(trades: Callable[[str], list[Trade]]) -> None:
    lost = trades("12")
    move(lost, FALLEN)
    for trade in lost:
        assert trade.close()["realized_pnl"] <= -12
    assert_paused_for_the_day(lost, "12")


def test_by_what_is_open(trades: Callable[[str], list[Trade]]) -> None:
    lost = trades("12")
    move(lost, FALLEN)
    wait_for_pauses(lost)
    assert [trade.row["status"] for trade in lost] == ["monitoring"] * len(lost)  # a pause closes nothing
    move(lost, START)
    assert_paused_for_the_day(lost, "12")


def test_by_fees_alone(trades: Callable[[str], list[Trade]]) -> None:
    lost = trades("1.5")
    for trade in lost:
        row = trade.close()
        assert row["entry_value"] - row["exit_value"] < Decimal("1.5") <= -row["realized_pnl"]
    assert_paused_for_the_day(lost, "1.5")
