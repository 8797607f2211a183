"""Pauses, stops and modes: who may, and that nothing is admitted after."""

from __future__ import annotations

from functools import partial
from threading import Event, Thread
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import errors

from tests.database.client import Client
from tests.database.project import Project
from tests.database.trading import Worker


def _limits(project: Project, user_id: UUID) -> tuple[Any, ...]:
    return project.owner.rows(
        "select trading_paused, pause_reason, paused_by, paused_at is not null from public.risk_limits"
        " where user_id = %s and trader_id is null",
        user_id,
    )[0]


def _actions(project: Project) -> list[tuple[UUID, str, str]]:
    return project.owner.rows("select user_id, action, status from public.position_actions order by seq")


def test_a_user_pauses_and_resumes_their_own_account(project: Project, alice: UUID, bob: UUID) -> None:
    project.trader(alice)
    project.trader(bob)
    user = project.user(alice)
    answer = user.call("pause_trading", p_reason="holiday")
    assert (answer["trading_paused"], answer["pause_reason"], answer["paused_by"]) == (True, "holiday", "user")
    assert _limits(project, alice) == (True, "holiday", "user", True)
    assert _limits(project, bob) == (False, None, None, False)
    assert user.call("resume_trading") == {"trading_paused": False}
    assert _limits(project, alice) == (False, None, None, False)


def test_a_user_without_limits_can_pause_too(project: Project, alice: UUID) -> None:
    project.user(alice).call("pause_trading")
    assert _limits(project, alice) == (True, None, "user", True)
    assert project.owner.value("select max_total_exposure_usdt from public.risk_limits") == 500


def test_a_user_lifts_a_pause_by_a_limit_but_not_the_operators(project: Project, alice: UUID) -> None:
    project.trader(alice)
    user = project.user(alice)
    project.limit(alice, trading_paused=True, paused_by="limit")
    user.call("resume_trading")
    assert _limits(project, alice)[0] is False
    project.service().call("emergency_stop", p_user_id=alice)
    with pytest.raises(errors.InsufficientPrivilege, match="operator"):
        user.call("resume_trading")
    user.call("pause_trading", p_reason="mine now")
    assert _limits(project, alice) == (True, "emergency stop", "operator", True)


def test_a_user_stops_no_other_account(project: Project, alice: UUID, bob: UUID) -> None:
    project.trader(bob)
    with pytest.raises(errors.InsufficientPrivilege, match="your own account"):
        project.user(alice).call("emergency_stop", p_user_id=bob)
    assert _limits(project, bob)[0] is False


@pytest.mark.parametrize("function", ["pause_trading", "resume_trading", "emergency_stop"])
def test_whoever_is_nobody_is_turned_away(project: Project, function: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        project.client("authenticated").call(function)
    with pytest.raises(errors.InsufficientPrivilege):
        project.client("anon").call(function)


def test_an_emergency_stop_cancels_entries_and_closes_positions(project: Project, alice: UUID, bob: UUID) -> None:
    worker = project.worker()
    trader_id = project.trader(alice)
    project.open_position(worker, alice, trader_id)
    worker.admitted(project.signal(alice, trader_id))
    project.open_position(worker, bob, project.trader(bob))
    user = project.user(alice)
    assert user.call("emergency_stop") == {"everybody": False, "paused": 1, "cancel_entry": 1, "close": 0}
    assert user.call("emergency_stop", p_close_positions=True) == {
        "everybody": False,
        "paused": 1,
        "cancel_entry": 0,  # asked already
        "close": 2,
    }
    assert {user_id for user_id, _, _ in _actions(project)} == {alice}
    assert _limits(project, alice)[:3] == (True, "emergency stop", "user")
    assert _limits(project, bob)[0] is False


def test_the_operator_stops_everybody_and_alone_lifts_it(project: Project, alice: UUID, bob: UUID) -> None:
    worker = project.worker()
    for user_id in (alice, bob):
        project.open_position(worker, user_id, project.trader(user_id))
    service = project.service()
    assert service.call("emergency_stop", p_close_positions=True) == {
        "everybody": True,
        "paused": 2,
        "cancel_entry": 0,
        "close": 2,
    }
    with pytest.raises(errors.InsufficientPrivilege):
        project.user(alice).call("clear_system_stop")
    project.user(alice).call("resume_trading")
    trader_id = project.owner.value("select id from public.traders where user_id = %s", alice)
    assert worker.claimed(project.signal(alice, trader_id)) == []
    service.call("clear_system_stop")
    assert len(worker.claimed(project.signal(alice, trader_id))) == 1


@pytest.mark.parametrize("who", ["user", "operator", "operator for everybody"])
def test_a_stop_waits_for_admissions_under_way_and_sees_them(project: Project, alice: UUID, who: str) -> None:
    worker = project.worker()
    trader_id = project.trader(alice)
    signals = [project.signal(alice, trader_id) for _ in range(2)]
    worker.claim()
    plans = [worker.plan(worker.brief(signal_id)) for signal_id in signals]
    stopper = project.user(alice) if who == "user" else project.service()
    arguments: dict[str, object] = {"p_user_id": alice} if who == "operator" else {}
    answers: list[dict[str, Any]] = []
    done = Event()

    def stop() -> None:
        answers.append(stopper.call("emergency_stop", **arguments))
        done.set()

    with worker.client.connection.transaction():
        worker.admit(signals[0], plans[0])
        thread = Thread(target=stop)
        thread.start()
        _wait_until_blocked(project, stopper, thread)
        assert not done.is_set()
    thread.join(10)
    assert answers[0]["cancel_entry"] == 1
    assert worker.admit(signals[1], plans[1])["code"] == "trading_paused"


def _wait_until_blocked(project: Project, client: Client, thread: Thread) -> None:
    pid = client.connection.info.backend_pid
    while not project.owner.value("select cardinality(pg_blocking_pids(%s)) > 0", pid):
        assert thread.is_alive()


def _with_keys(project: Project, user_id: UUID, mode: str, active: bool = True) -> None:
    service = project.service()
    service.execute(
        "insert into public.exchange_accounts (user_id, mode, is_active) values (%s, %s, %s)", user_id, mode, active
    )
    service.execute(
        "insert into public.exchange_credentials (user_id, mode, api_key_ciphertext, secret_ciphertext)"
        " values (%s, %s, 'x', 'y')",
        user_id,
        mode,
    )


def test_a_trader_goes_live_only_with_keys_and_limits(project: Project, alice: UUID) -> None:
    user = project.user(alice)
    user.execute("insert into public.traders (user_id, name) values (%s, 'mine')", alice)
    trader_id = user.value("select id from public.traders")
    go = partial(user.call, "set_trader_mode", p_trader_id=trader_id)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="store working live keys"):
        go(p_mode="live")
    _with_keys(project, alice, "testnet")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="store working live keys"):
        go(p_mode="live")
    assert go(p_mode="testnet")["mode"] == "testnet"
    _with_keys(project, alice, "live")
    project.limit(alice, max_total_exposure_usdt=None)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="set limits"):
        go(p_mode="live")
    project.limit(alice, max_total_exposure_usdt=1000)
    assert go(p_mode="live")["mode"] == "live"
    assert go(p_mode="paper")["mode"] == "paper"
    with pytest.raises(errors.InvalidParameterValue, match="paper, testnet or live"):
        go(p_mode="margin")


@pytest.mark.parametrize(
    "take_away",
    [
        "update public.risk_limits set max_total_exposure_usdt = null",
        "update public.risk_limits set max_position_size_usdt = null",
        "update public.risk_limits set daily_loss_limit_usdt = null, daily_loss_limit_percent = null",
    ],
)
def test_whoever_trades_at_an_exchange_keeps_the_limits_that_it_took(
    project: Project, alice: UUID, take_away: LiteralString
) -> None:
    trader_id, user = project.trader(alice), project.user(alice)
    project.limit(alice, max_total_exposure_usdt=1000, max_position_size_usdt=10, daily_loss_limit_percent=5)
    _with_keys(project, alice, "testnet")
    user.call("set_trader_mode", p_trader_id=trader_id, p_mode="testnet")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="keep limits on"):
        user.execute(take_away)
    user.execute("update public.risk_limits set max_total_exposure_usdt = 2000")  # other ones may take their place
    project.owner.execute(take_away)
    for function in ("pause_trading", "resume_trading", "emergency_stop"):
        user.call(function)
    user.call("set_trader_mode", p_trader_id=trader_id, p_mode="paper")
    user.execute(take_away)


def test_keys_that_do_not_work_open_no_mode(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    project.limit(alice, max_total_exposure_usdt=1000, max_position_size_usdt=10)
    _with_keys(project, alice, "testnet", active=False)
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        project.user(alice).call("set_trader_mode", p_trader_id=trader_id, p_mode="testnet")


def test_a_user_moves_no_other_trader(project: Project, alice: UUID, bob: UUID) -> None:
    theirs = project.trader(bob, "testnet")
    for trader_id in (theirs, uuid4()):
        with pytest.raises(errors.InsufficientPrivilege, match="no such trader of yours"):
            project.user(alice).call("set_trader_mode", p_trader_id=trader_id, p_mode="paper")


def test_positions_keep_the_mode_they_were_admitted_in(project: Project, alice: UUID) -> None:
    worker: Worker = project.worker("paper", "testnet")
    trader_id = project.trader(alice, "testnet")
    plan = worker.admitted(project.signal(alice, trader_id))
    project.service().call("set_trader_mode", p_trader_id=trader_id, p_mode="paper")
    row = project.position_row(plan["position_id"])
    assert (row["mode"], row["is_paper_trade"]) == ("testnet", False)
    assert len(worker.call("unfinished_orders")["orders"]) == 1
