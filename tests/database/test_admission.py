"""A signal leads to one position at most, and every limit holds however many ask at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database.concurrency import at_once
from tests.database.project import Project
from tests.database.trading import Worker


def _second_connection(project: Project, worker: Worker) -> Worker:
    return Worker(project.service(), worker.id, worker.modes)


def test_admission_writes_position_order_and_reservation_together(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id), quantity="0.5", price="200", fee="0.1")
    answer = worker.admit(signal_id, plan)
    assert {key: answer[key] for key in ("outcome", "position_id", "order_id", "client_order_id")} == {
        "outcome": "admitted",
        "position_id": plan["position_id"],
        "order_id": plan["order_id"],
        "client_order_id": plan["client_order_id"],
    }
    order = project.owner.value("select to_jsonb(o) from public.orders as o")
    assert (order["status"], order["purpose"], order["side"], order["type"]) == ("submitting", "entry", "buy", "limit")
    assert (order["quantity"], order["price"], order["recv_window_ms"]) == (Decimal("0.5"), 200, 5000)
    assert (order["worst_value"], order["reserved"]) == (100, Decimal("100.1"))
    position = project.position_row(plan["position_id"])
    assert (position["status"], position["mode"], position["is_paper_trade"]) == ("submitting", "paper", True)
    assert (position["stop_loss_price"], position["take_profit_price"]) == (90, 120)
    assert (position["stop_loss_percent"], position["take_profit_percent"]) == (10, None)
    assert project.states(plan["position_id"]) == ["created", "submitting"]
    assert project.signal_row(signal_id)["status"] == "executing"
    assert project.owner.rows("select current_balance, reserved from public.paper_balances") == [
        (10000, Decimal("100.1"))
    ]


def test_the_request_is_stamped_in_venue_time_and_whole_milliseconds(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id)) | {"venue_offset_ms": 3_600_000}
    before = project.owner.value("select clock_timestamp()")
    answer = worker.admit(signal_id, plan)
    signed_at = datetime.fromisoformat(answer["signed_at"])
    assert timedelta(0) <= signed_at - before - timedelta(hours=1) + timedelta(milliseconds=1) < timedelta(seconds=5)
    assert signed_at.timestamp() * 1000 == int(answer["signed_at_ms"])
    assert project.owner.value("select signed_at from public.orders") == signed_at


def test_the_same_attempt_gets_its_first_answer_again(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id, attempt_id = project.signal(alice, project.trader(alice)), uuid4()
    worker.claim()
    plan = worker.plan(worker.brief(signal_id))
    twins = [_second_connection(project, worker) for _ in range(4)]
    answers = at_once([partial(twin.admit, signal_id, plan, attempt_id) for twin in twins])
    assert answers[0]["outcome"] == "admitted"
    assert all(answer == answers[0] for answer in answers)
    assert project.owner.value("select count(*) from public.orders") == 1
    worker.record(plan["order_id"], status="cancelled")
    assert worker.admit(signal_id, plan, attempt_id) == answers[0]


def test_another_attempt_is_told_that_the_signal_is_taken(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    brief = worker.brief(signal_id)
    twins = [_second_connection(project, worker) for _ in range(5)]
    answers = at_once([partial(twin.admit, signal_id, twin.plan(brief)) for twin in twins])
    assert sorted(answer["outcome"] for answer in answers) == ["admitted", "taken", "taken", "taken", "taken"]
    assert worker.admit(uuid4(), worker.plan(brief)) == {"outcome": "taken"}


def test_a_worker_without_the_account_is_told_that_the_signal_is_taken(project: Project, alice: UUID) -> None:
    first, second = project.worker(), project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    first.claim()
    brief = first.brief(signal_id)
    assert second.admit(signal_id, second.plan(brief)) == {"outcome": "taken"}
    assert first.admit(signal_id, first.plan(brief))["outcome"] == "admitted"


def test_a_refusal_is_answered_again_too(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id, attempt_id = project.signal(alice, project.trader(alice)), uuid4()
    worker.claim()
    plan = worker.plan(worker.brief(signal_id))
    project.limit(alice, max_total_exposure_usdt=99)
    answers = [worker.admit(signal_id, plan, attempt_id) for _ in range(2)]
    assert answers[0]["code"] == "exposure_limit"
    assert answers[1] == answers[0]
    assert project.owner.value("select count(*) from public.risk_refusals") == 1


@pytest.mark.parametrize("limit", [1, 3])
def test_eight_at_once_under_a_limit_of_positions(project: Project, alice: UUID, limit: int) -> None:
    outcomes = _eight_at_once(project, alice, max_open_positions=limit)
    assert outcomes == ["admitted"] * limit + ["max_open_positions"] * (8 - limit)


def test_eight_at_once_under_a_limit_of_exposure(project: Project, alice: UUID) -> None:
    assert _eight_at_once(project, alice, max_total_exposure_usdt=300) == ["admitted"] * 3 + ["exposure_limit"] * 5


def test_eight_at_once_in_one_symbol(project: Project, alice: UUID) -> None:
    assert _eight_at_once(project, alice, one_position_per_symbol=True) == ["admitted"] + ["duplicate_position"] * 7


def test_eight_at_once_cannot_spend_the_same_play_money(project: Project, alice: UUID) -> None:
    project.trader(alice)
    project.owner.execute("update public.paper_balances set current_balance = 200.2")
    assert _eight_at_once(project, alice) == ["admitted"] * 2 + ["insufficient_balance"] * 6
    assert project.owner.rows("select current_balance, reserved from public.paper_balances") == [
        (Decimal("200.2"), Decimal("200.2"))
    ]


def _eight_at_once(project: Project, user_id: UUID, **limits: int) -> list[str]:
    trader_id = project.trader(user_id)
    if limits:
        project.limit(user_id, **limits)
    worker = project.worker()
    signals = [project.signal(user_id, trader_id) for _ in range(8)]
    worker.claim()
    plans = {signal_id: worker.plan(worker.brief(signal_id)) for signal_id in signals}
    twins = [_second_connection(project, worker) for _ in signals]
    answers: list[dict[str, Any]] = at_once(
        [partial(twin.admit, signal_id, plans[signal_id]) for twin, signal_id in zip(twins, signals, strict=True)]
    )
    order = ["admitted"]
    return sorted((answer.get("code") or answer["outcome"] for answer in answers), key=lambda one: one not in order)


def test_users_do_not_wait_for_one_another(project: Project, alice: UUID, bob: UUID) -> None:
    worker = project.worker()
    signals = [project.signal(user_id, project.trader(user_id)) for user_id in (alice, bob)]
    worker.claim()
    plans = [worker.plan(worker.brief(signal_id)) for signal_id in signals]
    twin = _second_connection(project, worker)
    twin.client.execute("set statement_timeout = '5s'")
    with worker.client.connection.transaction():
        assert worker.admit(signals[0], plans[0])["outcome"] == "admitted"
        assert twin.admit(signals[1], plans[1])["outcome"] == "admitted"


@pytest.mark.parametrize(
    "change",
    [
        "update public.traders set risk_config = '{}'",
        "update public.traders set name = 'other'",
        "update public.signals set stop_loss = 95",
        "update public.signals set symbol = 'ETH/USDT'",
    ],
)
def test_a_plan_made_from_what_has_changed_is_stale(project: Project, alice: UUID, change: str) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id))
    project.owner.connection.execute(change.encode())
    assert worker.admit(signal_id, plan) == {"outcome": "stale"}
    assert project.signal_row(signal_id)["status"] == "ready"
    assert worker.admit(signal_id, worker.plan(worker.brief(signal_id)))["outcome"] == "admitted"


def test_a_stale_plan_is_not_held_against_its_signal(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id), quantity="1000")
    project.owner.execute("update public.traders set name = 'smaller now'")
    assert worker.admit(signal_id, plan) == {"outcome": "stale"}


def test_a_trader_switched_off_meanwhile_is_refused_though_the_plan_is_stale(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id))
    project.owner.execute("update public.traders set enabled = false")
    assert worker.admit(signal_id, plan)["code"] == "trader_disabled"


def test_limits_changed_meanwhile_hold_at_once(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id))
    project.user(alice).execute("update public.risk_limits set max_open_positions = 0")
    assert worker.admit(signal_id, plan)["code"] == "max_open_positions"


def test_too_late_in_the_lease_nothing_is_admitted(project: Project, alice: UUID) -> None:
    worker = project.worker(lease=60)
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    plan = worker.plan(worker.brief(signal_id))
    project.owner.execute("update public.workers set heartbeat_at = clock_timestamp() - interval '56 seconds'")
    assert worker.admit(signal_id, plan) == {"outcome": "late"}
    assert project.signal_row(signal_id)["status"] == "ready"
    worker.call("worker_heartbeat")
    assert worker.admit(signal_id, plan)["outcome"] == "admitted"


def test_a_testnet_entry_names_the_version_of_its_keys(project: Project, alice: UUID) -> None:
    worker = project.worker("testnet")
    service = project.service()
    service.execute(
        "insert into public.exchange_credentials (user_id, mode, api_key_ciphertext, secret_ciphertext)"
        " values (%s, 'testnet', 'x', 'y')",
        alice,
    )
    service.execute("update public.exchange_credentials set secret_ciphertext = 'z'")
    signal_id = project.signal(alice, project.trader(alice, "testnet"))
    worker.claim()
    assert worker.admit(signal_id, worker.plan(worker.brief(signal_id)))["credential_version"] == 2
    assert project.owner.value("select reserved from public.paper_balances") == 0


def test_a_trader_spends_its_own_play_money(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    project.owner.execute(
        "insert into public.paper_balances (user_id, trader_id, current_balance) values (%s, %s, 150)", alice, trader_id
    )
    worker = project.worker()
    plan = worker.admitted(project.signal(alice, trader_id))
    worker.record(plan["order_id"], status="filled", fills=[worker.fill("1", "100", "1", fee="0.1")])
    assert project.owner.rows(
        "select trader_id, current_balance, reserved from public.paper_balances order by trader_id nulls first"
    ) == [(None, 10000, 0), (trader_id, Decimal("49.9"), 0)]
