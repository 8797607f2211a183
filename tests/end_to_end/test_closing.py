"""From signal to close, by every way a position can end, on paper and at the exchange: rows and ledger to the digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from streams.domain.money import average
from tests.end_to_end.product import Project, User, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    SHORT,
    TestnetUser,
    asked,
    join_testnet,
    ledger,
)
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

START = "100.00"
SIZE = {"position_size": {"type": "fixed", "value": "1000"}}
BOTH = {**SIZE, "stop_loss_percent": "2", "take_profit_percent": "4"}
SYMBOLS = iter(("LTC/USDT", "SOL/USDT", "AVAX/USDT", "LINK/USDT") * 20)  # no price of 100 is too far from theirs


@pytest.fixture(scope="module")
def trading(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    settings = {**SHORT, "MAX_EXECUTION_TIME": "3", "DEFAULT_SLIPPAGE": "1"}
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log", **settings)
    worker.wait_for("ready")
    yield worker
    worker.end()


@pytest.fixture(params=["paper", "testnet"])
def join(request: pytest.FixtureRequest, project: Project, trading: Worker) -> Callable[..., User]:
    """Sign somebody up who trades in this mode."""

    def joined(risk_config: dict[str, Any]) -> User:
        if request.param == "paper":
            return project.sign_up(risk_config)
        return join_testnet(project, risk_config=risk_config)

    return joined


@pytest.fixture
def symbol(project: Project) -> Iterator[str]:
    """A symbol of the test's own, held at 100."""
    name = next(SYMBOLS)
    price(project, name, START)
    yield name
    project.venue("POST", "price", {"symbol": name, "price": None})
    project.venue("POST", "fills", {"symbol": name, "mode": "instant"})


def price(project: Project, symbol: str, at: str | None) -> None:
    project.venue("POST", "price", {"symbol": symbol, "price": at})


def position(project: Project, signal: str) -> dict[str, Any]:
    (row,) = project.rows("select * from positions where signal_id = %s", signal)
    return row


def orders(project: Project, signal: str, *purposes: str) -> list[dict[str, Any]]:
    return project.rows(
        "select o.* from orders as o join positions as p on p.id = o.position_id"
        " where p.signal_id = %s and o.purpose = any (%s) order by o.created_at, o.purpose",
        signal,
        list(purposes or ("exit", "stop_loss", "take_profit")),
    )


def reaches(project: Project, signal: str, status: str, seconds: float = 15.0) -> dict[str, Any]:
    wait_until(
        f"the position is {status}",
        lambda: project.rows("select from positions where signal_id = %s and status = %s", signal, status),
        seconds,
    )
    return position(project, signal)


def monitored(project: Project, user: User, symbol: str, **columns: Any) -> str:
    """A signal whose position is adopted."""
    signal = project.signal(user, symbol, **columns)
    reaches(project, signal, "monitoring")
    return signal


def rests(project: Project, signal: str) -> dict[str, dict[str, Any]]:
    """The protective orders at work, by their purpose."""
    return {one["purpose"]: one for one in orders(project, signal) if one["status"] == "submitted"}


def ask(project: Project, user: User, position_id: object, action: str, **details: str) -> str:
    """Ask something of a position as its owner does; returns the action's id."""
    row = {"position_id": str(position_id), "action": action, "details": details}
    made = project.request(
        "POST",
        "/rest/v1/position_actions",
        user.token,
        json=row,
        headers={"Prefer": "return=representation"},
    ).raise_for_status()
    return made.json()[0]["id"]


def answered(project: Project, action: str) -> tuple[str, str | None]:
    told = "select status, error_message from position_actions where id = %s and status <> 'pending'"
    wait_until("the action is answered", lambda: project.rows(told, action))
    (row,) = project.rows(told, action)
    return row["status"], row["error_message"]


def assert_exact(project: Project, user: User, signal: str, reason: str) -> dict[str, Any]:
    """A closed position says what its trades alone say; balances and ledger agree; nothing is left at work."""
    row = reaches(project, signal, "closed")
    assert row["exit_reason"] == reason
    trades = project.rows("select * from trades where position_id = %s", row["id"])
    base = row["symbol"].split("/")[0]
    bought, sold = ([one for one in trades if one["side"] == side] for side in ("buy", "sell"))
    quantity = sum(one["quantity"] for one in bought) - sum(one["fee"] for one in bought if one["fee_asset"] == base)
    assert row["entry_quantity"] == quantity
    assert row["entry_value"] == sum(one["value"] for one in bought)
    assert row["exit_quantity"] == sum(one["quantity"] for one in sold)
    assert row["exit_value"] == sum(one["value"] for one in sold)
    assert row["dust_quantity"] == (quantity - row["exit_quantity"] or None)
    assert row["fees_paid"] == sum(one["fee_usdt"] for one in trades)
    profit = row["exit_value"] - row["entry_value"] - sum(one["fee_usdt"] for one in trades if one["fee_asset"] != base)
    assert row["realized_pnl"] == profit
    assert row["realized_pnl_percent"] == average(abs(profit) * 100, row["entry_value"]).copy_sign(profit)
    assert row["exit_price"] == average(row["exit_value"], row["exit_quantity"])
    assert not project.rows(
        "select from orders where position_id = %s and status in ('created','submitting','submitted',"
        "'partially_filled','unknown')",
        row["id"],
    )
    assert project.statuses([signal]) == ["completed"]
    if isinstance(user, TestnetUser):
        assert_ledger_equals_rows(project, user)
        mine = [one["status"] for one in ledger(project)["orders"] if one["apiKey"] == user.api_key]
        assert not {"NEW", "PARTIALLY_FILLED"}.intersection(mine)
    else:
        cash = sum(one["value"] * (1 if one["side"] == "sell" else -1) - one["fee_usdt"] for one in trades)
        (balance,) = project.rows("select * from paper_balances where user_id = %s", user.id)
        assert balance["current_balance"] == balance["initial_balance"] + cash
        assert (balance["reserved"], balance["total_pnl"], balance["total_trades"]) == (0, profit, 1)
    return row


def test_a_stop_closes_it(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join(BOTH)
    signal = monitored(project, user, symbol)
    assert rests(project, signal).keys() == {"stop_loss", "take_profit"}
    price(project, symbol, "97.50")
    row = assert_exact(project, user, signal, "stop_loss")
    assert row["realized_pnl"] < 0
    states = project.rows("select to_status from position_events where position_id = %s order by seq", row["id"])
    assert [one["to_status"] for one in states] == ["created", "submitting", "open", "monitoring", "closing", "closed"]


def test_a_target_closes_it(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join(BOTH)
    signal = monitored(project, user, symbol)
    price(project, symbol, "104.50")
    assert assert_exact(project, user, signal, "take_profit")["realized_pnl"] > 0


@pytest.mark.parametrize("alone", ["stop_loss", "take_profit"])
def test_one_of_them_alone_rests_as_a_single_order(
    project: Project, join: Callable[..., User], symbol: str, alone: str
) -> None:
    user = join({**SIZE, f"{alone}_percent": "2"})
    signal = monitored(project, user, symbol)
    (order,) = rests(project, signal).values()
    assert (order["purpose"], order["list_client_order_id"]) == (alone, None)
    price(project, symbol, "97.50" if alone == "stop_loss" else "102.50")
    assert_exact(project, user, signal, alone)


def test_a_trailing_stop_follows_the_price_and_closes_it(
    project: Project, join: Callable[..., User], symbol: str
) -> None:
    user = join({**SIZE, "stop_loss_percent": "5", "trailing_stop_percent": "2"})
    signal = monitored(project, user, symbol)
    first = rests(project, signal)["stop_loss"]["stop_price"]
    price(project, symbol, "110.00")
    wait_until(
        "the stop is moved", lambda: any(one["stop_price"] > first + 8 for one in rests(project, signal).values())
    )
    assert position(project, signal)["trailing_stop_price"] == rests(project, signal)["stop_loss"]["stop_price"]
    price(project, symbol, "107.00")
    assert assert_exact(project, user, signal, "trailing_stop")["realized_pnl"] > 0


def test_it_is_held_no_longer_than_it_may(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join({**BOTH, "max_hold_minutes": "0.03"})
    signal = project.signal(user, symbol)
    assert_exact(project, user, signal, "time_limit")


def test_an_action_closes_it_and_is_done_with_the_close(
    project: Project, join: Callable[..., User], symbol: str
) -> None:
    user = join(BOTH)
    signal = monitored(project, user, symbol)
    action = ask(project, user, position(project, signal)["id"], "close")
    assert_exact(project, user, signal, "action")
    assert answered(project, action) == ("done", None)


def test_a_part_is_sold_and_the_rest_protected_anew(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join(BOTH)
    signal = monitored(project, user, symbol)
    before = position(project, signal)["entry_quantity"]
    reduced = ask(project, user, position(project, signal)["id"], "reduce", quantity="4")
    assert answered(project, reduced) == ("done", None)
    wait_until("the rest is protected", lambda: rests(project, signal).keys() == {"stop_loss", "take_profit"})
    assert all(before - 5 < one["quantity"] <= before - 4 for one in rests(project, signal).values())
    assert position(project, signal)["exit_quantity"] == 4
    refused = answered(project, ask(project, user, position(project, signal)["id"], "reduce", quantity="400"))
    assert refused[0] == "refused"
    price(project, symbol, "97.50")
    assert_exact(project, user, signal, "stop_loss")


def test_stop_and_target_are_moved_where_they_make_sense(
    project: Project, join: Callable[..., User], symbol: str
) -> None:
    user = join(BOTH)
    signal = monitored(project, user, symbol)
    identity = position(project, signal)["id"]
    assert answered(project, ask(project, user, identity, "hold")) == ("done", None)
    assert answered(project, ask(project, user, identity, "adjust_sl", stop_loss_price="99"))[0] == "done"
    assert answered(project, ask(project, user, identity, "adjust_tp", take_profit_price="102"))[0] == "done"
    wait_until(
        "both are moved",
        lambda: {one["stop_price"] for one in rests(project, signal).values()} == {Decimal(99), Decimal(102)},
    )
    for action, details, said in (
        ("adjust_sl", {"stop_loss_price": "101"}, "below the price"),
        ("adjust_tp", {"take_profit_price": "90"}, "above the price"),
        ("adjust_sl", {"stop_loss_price": "soon"}, "amount"),
        ("adjust_sl", {}, "stop_loss_price"),
        ("cancel_entry", {}, "no entry"),
    ):
        status, message = answered(project, ask(project, user, identity, action, **details))
        assert status == "refused"
        assert said in (message or "")
    price(project, symbol, "98.50")
    assert_exact(project, user, signal, "stop_loss")


def test_an_emergency_stop_closes_it_and_says_so(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join(BOTH)
    signal = monitored(project, user, symbol)
    body = {"p_close_positions": True}
    counts = project.request("POST", "/rest/v1/rpc/emergency_stop", user.token, json=body).raise_for_status().json()
    assert counts["close"] == 1
    assert_exact(project, user, signal, "emergency_stop")


def test_an_entry_at_rest_is_cancelled_when_asked(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join(BOTH)
    signal = project.signal(user, symbol, order_type="limit", limit_price="90")
    wait_until("it rests", lambda: [one for one in orders(project, signal, "entry") if one["status"] == "submitted"])
    action = ask(project, user, position(project, signal)["id"], "cancel_entry")
    assert answered(project, action) == ("done", None)
    assert reaches(project, signal, "failed")["failure_code"] == "entry_not_filled"


def test_without_stop_and_target_it_is_monitored_bare(project: Project, join: Callable[..., User], symbol: str) -> None:
    user = join(SIZE)
    signal = monitored(project, user, symbol)
    assert orders(project, signal) == []
    assert position(project, signal)["protected_at"] is None
    ask(project, user, position(project, signal)["id"], "close")
    assert_exact(project, user, signal, "action")


def test_what_is_filled_in_parts_is_protected_as_it_grows(project: Project, trading: Worker, symbol: str) -> None:
    user = join_testnet(project, risk_config=BOTH)
    project.venue("POST", "fills", {"symbol": symbol, "mode": "partial", "parts": 3, "seconds": 2})
    signal = project.signal(user, symbol)
    wait_until("the first part is protected", lambda: rests(project, signal))
    (first,) = {one["quantity"] for one in rests(project, signal).values()}
    project.venue("POST", "fills", {"symbol": symbol, "mode": "instant"})
    row = reaches(project, signal, "monitoring")
    assert all(first < one["quantity"] <= row["entry_quantity"] for one in rests(project, signal).values())
    price(project, symbol, "97.50")
    assert_exact(project, user, signal, "stop_loss")
    assert asked(project, "POST /api/v3/orderList/oco", user) >= 2
