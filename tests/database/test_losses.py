"""Limits on losses, size and pace: at the limit, under it and over it; what they pause, and what lifts that."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.database.project import Project
from tests.database.trading import Worker

SCOPES = ("account", "trader")
NO_LIMITS = {"max_position_size_usdt": None, "max_total_exposure_usdt": None, "daily_loss_limit_usdt": None}


@pytest.fixture
def trader(project: Project, alice: UUID) -> UUID:
    trader_id = project.trader(alice)
    project.limit(alice, None, **NO_LIMITS)
    return trader_id


def refused(project: Project, signal_id: UUID) -> tuple[str, str | None, str | None]:
    """Code, value and limit of a refusal."""
    return project.owner.rows(
        "select code, rule_value, limit_value from public.risk_refusals where signal_id = %s", signal_id
    )[0]


def outcome(project: Project, worker: Worker, signal_id: UUID, **planned: str) -> str:
    """What becomes of a ready signal: admitted, or the code of its refusal."""
    if signal_id not in worker.claimed(signal_id):
        return refused(project, signal_id)[0]
    answer = worker.admit(signal_id, worker.plan(worker.brief(signal_id), **planned))
    return answer.get("code") or answer["outcome"]


def lost(project: Project, worker: Worker, alice: UUID, trader_id: UUID, profit: str) -> None:
    """A position that ended today with so much of a profit."""
    plan = project.open_position(worker, alice, trader_id)
    for status in ("closing", "closed"):
        project.owner.execute(
            "update public.positions set status = %s, realized_pnl = %s::numeric, exit_time = clock_timestamp()"
            " where id = %s",
            status,
            profit,
            UUID(plan["position_id"]),
        )


def paused(project: Project, alice: UUID, trader_id: UUID | None = None) -> tuple[Any, ...]:
    return project.owner.rows(
        "select trading_paused, paused_by, paused_rule, paused_at is not null from public.risk_limits"
        " where user_id = %s and trader_id is not distinct from %s",
        alice,
        trader_id,
    )[0]


def mark(worker: Worker, plan: dict[str, str], price: str) -> None:
    worker.call("write_marks", p_marks=[{"position_id": plan["position_id"], "price": price}])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("profit", "code"), [("-49.99", "admitted"), ("-50", "daily_loss_limit"), ("-51", "daily_loss_limit")]
)
def test_what_was_lost_today_is_held_against_the_limit(
    project: Project, alice: UUID, trader: UUID, scope: str, profit: str, code: str
) -> None:
    worker = project.worker()
    lost(project, worker, alice, trader, profit)
    project.limit(alice, trader if scope == "trader" else None, daily_loss_limit_usdt=50)
    assert outcome(project, worker, project.signal(alice, trader)) == code


def test_gains_of_the_day_make_up_for_losses(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    lost(project, worker, alice, trader, "-60")
    lost(project, worker, alice, trader, "11")
    project.limit(alice, None, daily_loss_limit_usdt=50)
    assert outcome(project, worker, project.signal(alice, trader)) == "admitted"


def test_losses_of_yesterday_are_forgotten(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    lost(project, worker, alice, trader, "-60")
    project.owner.execute(
        "update public.positions set exit_time = exit_time - interval '1 day' where status = 'closed'"
    )
    project.limit(alice, None, daily_loss_limit_usdt=50)
    assert outcome(project, worker, project.signal(alice, trader)) == "admitted"


def test_a_limit_in_percent_is_one_of_what_the_day_began_with(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    lost(project, worker, alice, trader, "-50")
    project.owner.execute("delete from public.account_equity")
    project.limit(alice, None, daily_loss_limit_percent="0.5", daily_loss_limit_usdt=1000)
    signal_id = project.signal(alice, trader)
    # The play money that is left: 10,000 less what the fills of this position cost.
    balance = project.owner.value("select sum(current_balance) from public.paper_balances")
    code = "daily_loss_limit" if balance * 5 / 1000 <= 50 else "admitted"
    assert outcome(project, worker, signal_id) == code == "daily_loss_limit"


def test_a_loss_of_open_positions_pauses_by_itself_and_a_new_day_lifts_it(
    project: Project, alice: UUID, trader: UUID
) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, None, daily_loss_limit_usdt=20)
    mark(worker, plan, "80.2")  # 19.8 of price and 0.1 of fees
    assert paused(project, alice) == (False, None, None, False)
    mark(worker, plan, "80.1")  # 20 exactly
    assert paused(project, alice) == (True, "limit", "daily_loss_limit", True)
    signal_id = project.signal(alice, trader)
    assert outcome(project, worker, signal_id) == "daily_loss_limit"
    assert refused(project, signal_id) == ("daily_loss_limit", "20", "20")
    mark(worker, plan, "100")
    project.owner.execute("update public.risk_limits set paused_at = paused_at - interval '1 day'")
    worker.call("worker_heartbeat")
    assert paused(project, alice) == (False, None, None, False)
    assert outcome(project, worker, project.signal(alice, trader)) == "admitted"


def test_a_pause_by_a_loss_lasts_the_day_though_prices_come_back(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, None, daily_loss_limit_usdt=20)
    for price in ("70", "120"):
        mark(worker, plan, price)
    assert outcome(project, worker, project.signal(alice, trader)) == "daily_loss_limit"


def test_a_trader_that_lost_too_much_leaves_others_alone(project: Project, alice: UUID, trader: UUID) -> None:
    worker, other = project.worker(), project.trader(alice)
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, trader, daily_loss_limit_usdt=20)
    mark(worker, plan, "70")
    assert paused(project, alice, trader) == (True, "limit", "daily_loss_limit", True)
    assert paused(project, alice) == (False, None, None, False)
    assert outcome(project, worker, project.signal(alice, trader)) == "daily_loss_limit"
    assert outcome(project, worker, project.signal(alice, other)) == "admitted"


def test_a_drawdown_pauses_until_its_user_resumes(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, None, max_drawdown_percent="0.5")
    for price in ("100", "40"):
        mark(worker, plan, price)
    assert paused(project, alice) == (True, "limit", "drawdown_limit", True)
    project.owner.execute("update public.risk_limits set paused_at = paused_at - interval '3 days'")
    worker.call("worker_heartbeat")
    assert outcome(project, worker, project.signal(alice, trader)) == "drawdown_limit"
    project.user(alice).call("resume_trading")
    assert paused(project, alice) == (False, None, None, False)
    assert outcome(project, worker, project.signal(alice, trader)) == "admitted"
    mark(worker, plan, "39.9")
    assert paused(project, alice)[0] is False


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("limit", ["max_position_size_usdt", "max_order_size_usdt"])
@pytest.mark.parametrize(
    ("most", "code"), [("100.00000001", "admitted"), ("100", "admitted"), ("99.99999999", "position_too_large")]
)
def test_size(project: Project, alice: UUID, trader: UUID, scope: str, limit: str, most: str, code: str) -> None:
    project.limit(alice, trader if scope == "trader" else None, **{limit: most})
    assert outcome(project, project.worker(), project.signal(alice, trader)) == code


@pytest.mark.parametrize(("most", "code"), [("1.01", "admitted"), ("1", "admitted"), ("0.99", "position_too_large")])
def test_size_in_percent_of_the_account(project: Project, alice: UUID, trader: UUID, most: str, code: str) -> None:
    project.limit(alice, None, max_position_size_percent=most)
    assert outcome(project, project.worker(), project.signal(alice, trader)) == code


@pytest.mark.parametrize(("balance", "code"), [("10000", "admitted"), ("9999.99", "position_too_large")])
def test_size_in_percent_of_an_account_at_an_exchange_holds_for_its_first_entry(
    project: Project, alice: UUID, balance: str, code: str
) -> None:
    trader_id, worker = project.trader(alice, "testnet"), project.worker("testnet")
    project.limit(alice, None, max_position_size_percent=1)
    assert outcome(project, worker, project.signal(alice, trader_id), balance=balance) == code


def test_what_an_account_is_worth_is_known_from_its_first_entry_on(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker("paper", "testnet")
    worker.admitted(project.signal(alice, trader))
    testnet = project.trader(alice, "testnet")
    for balance in ("500", "300"):  # less is free while an entry rests, and the account is worth no less for it
        worker.admitted(project.signal(alice, testnet), balance=balance)
    worth = "select mode, day_start, peak, current from public.account_equity order by mode"
    assert project.owner.rows(worth) == [("paper", 10000, 10000, 10000), ("testnet", 500, 500, 500)]


def test_a_pause_outlives_its_limit_and_says_why(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, None, daily_loss_limit_usdt=20, max_drawdown_percent=50)
    mark(worker, plan, "70")
    project.limit(alice, None, daily_loss_limit_usdt=None)
    signal_id = project.signal(alice, trader)
    assert outcome(project, worker, signal_id) == "daily_loss_limit"
    reason = project.signal_row(signal_id)["refusal_reason"]
    assert reason == "Trading is paused for today: 30.1 USDT were lost today in paper mode; the limit is 20 USDT."


@pytest.mark.timeout(30)
def test_a_pause_by_a_limit_waits_for_nobody(project: Project, alice: UUID, trader: UUID) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, None, daily_loss_limit_usdt=20)
    with psycopg.connect(project.server.superuser_dsn) as closing:  # it holds the account, and wants the mark
        closing.execute("select from public.accounts where user_id = %s for update", (alice,))
        mark(worker, plan, "70")
        assert paused(project, alice)[0] is False
    mark(worker, plan, "70")
    assert paused(project, alice)[0] is True


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("seconds", "code"), [("59", "order_interval"), ("61", "admitted")])
def test_pace(project: Project, alice: UUID, trader: UUID, scope: str, seconds: str, code: str) -> None:
    worker = project.worker()
    project.open_position(worker, alice, trader)
    project.limit(alice, trader if scope == "trader" else None, min_order_interval_seconds=60)
    project.owner.execute(
        "update public.positions set admitted_at = admitted_at - %s::numeric * interval '1 second',"
        " created_at = created_at - %s::numeric * interval '1 second'",
        seconds,
        seconds,
    )
    assert outcome(project, worker, project.signal(alice, trader)) == code


def test_a_new_day_lifts_no_pause_that_the_operator_has_put_over_a_limits(
    project: Project, alice: UUID, trader: UUID
) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, trader)
    project.limit(alice, None, daily_loss_limit_usdt=20)
    mark(worker, plan, "70")
    project.service().execute("update public.risk_limits set paused_by = 'operator' where user_id = %s", alice)
    project.owner.execute("update public.risk_limits set paused_at = paused_at - interval '1 day'")
    mark(worker, plan, "100")
    worker.call("worker_heartbeat")
    assert paused(project, alice)[:2] == (True, "operator")
    assert outcome(project, worker, project.signal(alice, trader)) == "trading_paused"
