"""Who works for whom: leases, takeover, fair shares, and that the dead change nothing."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from psycopg import Error, errors

from tests.database.concurrency import at_once
from tests.database.project import Project
from tests.database.trading import Worker


def _lapse(project: Project, worker: Worker) -> None:
    project.owner.execute(
        "update public.workers set heartbeat_at = heartbeat_at - make_interval(secs => lease_seconds + 1)"
        " where id = %s",
        worker.id,
    )


def _users_with_signals(project: Project, count: int) -> list[UUID]:
    users = [project.sign_up() for _ in range(count)]
    for user_id in users:
        project.signal(user_id, project.trader(user_id))
    return users


def test_registering_again_changes_nothing(project: Project) -> None:
    worker = project.worker()
    worker.register(lease=5)
    assert project.owner.value("select lease_seconds from public.workers") == 60


@pytest.mark.parametrize("modes", [(), ("play",), ("paper", "margin")])
def test_a_worker_registers_for_modes_that_exist(project: Project, modes: tuple[str, ...]) -> None:
    worker = project.worker(registered=False)
    worker.modes = modes
    with pytest.raises((errors.CheckViolation, errors.NotNullViolation)):
        worker.register()


def test_a_heartbeat_renews_the_lease_and_tells_what_is_held(project: Project, alice: UUID) -> None:
    worker = project.worker()
    project.signal(alice, project.trader(alice))
    worker.claim()
    _lapse(project, worker)
    pulse = worker.call("worker_heartbeat")
    assert (pulse["alive"], pulse["accounts"], pulse["surplus"]) == (
        True,
        [{"user_id": str(alice), "mode": "paper"}],
        0,
    )
    assert abs(int(pulse["now_ms"]) - int(pulse["heartbeat_ms"])) < 1000
    other = project.worker()
    other.claim()
    assert worker.call("worker_heartbeat")["alive"] is True


def test_a_worker_past_its_lease_is_alive_until_it_is_declared_dead(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    _lapse(project, worker)
    assert worker.claimed() == [signal_id]


def test_a_heartbeat_declares_others_dead_and_never_itself(project: Project) -> None:
    first, second = project.worker(), project.worker()
    _lapse(project, first)
    _lapse(project, second)
    assert second.call("worker_heartbeat")["alive"] is True
    pulse = first.call("worker_heartbeat")
    assert (pulse["alive"], pulse["accounts"], pulse["surplus"], pulse["heartbeat_ms"]) == (False, [], 0, None)


def test_a_dead_id_is_dead_for_good(project: Project) -> None:
    worker = project.worker()
    worker.call("worker_retire")
    with pytest.raises(Error, match="was declared dead") as caught:
        worker.register()
    assert caught.value.sqlstate == "FSD01"


def test_a_takeover_finds_signals_orders_and_positions(project: Project, alice: UUID, bob: UUID) -> None:
    first = project.worker()
    trader_id = project.trader(alice)
    opened = project.open_position(first, alice, trader_id)
    in_flight = first.admitted(project.signal(alice, trader_id))
    waiting = project.signal(alice, trader_id)
    project.open_position(first, bob, project.trader(bob))
    _lapse(project, first)

    second = project.worker()
    claim = second.claim()
    assert {UUID(account["user_id"]) for account in claim["taken"]} == {alice, bob}
    assert [UUID(brief["id"]) for brief in claim["signals"]] == [waiting]
    account = [{"user_id": str(alice), "mode": "paper"}]
    orders = second.call("unfinished_orders", p_accounts=account)["orders"]
    assert [one["order"]["id"] for one in orders] == [in_flight["order_id"]]
    assert orders[0]["order"]["reserved"] == "100.1"
    assert orders[0]["order"]["fills"] == 0
    assert orders[0]["brief"]["symbol"] == "BTC/USDT"
    assert orders[0]["expired"] is False
    positions = second.call("open_positions", p_accounts=account)["positions"]
    assert [one["id"] for one in positions] == [opened["position_id"]]
    assert positions[0]["entry_value"] == "100"
    assert len(second.call("open_positions")["positions"]) == 2


def test_a_takeover_finds_entries_cut_short_a_moment_ago(project: Project, alice: UUID) -> None:
    worker = project.worker("paper", "testnet")
    plans = {
        mode: worker.admitted(project.signal(alice, project.trader(alice, mode)), quantity="2", fee="0.2")
        for mode in ("paper", "testnet")
    }
    for plan in plans.values():
        worker.record(plan["order_id"], status="cancelled", fills=[worker.fill("1", "100", "1")])

    def found(**asked: object) -> list[str]:
        return [one["order"]["id"] for one in worker.call("unfinished_orders", **asked)["orders"]]

    accounts = [{"user_id": str(alice), "mode": mode} for mode in plans]
    assert found(p_accounts=accounts) == [plans["testnet"]["order_id"]]
    assert found() == []
    project.owner.execute("alter table public.orders disable trigger user")
    project.owner.execute("update public.orders set updated_at = updated_at - interval '2 hours'")
    assert found(p_accounts=accounts) == []


Mutation = Callable[[Worker, UUID, dict[str, str]], object]
MUTATIONS: dict[str, Mutation] = {
    "register": lambda worker, signal_id, plan: worker.register(),
    "claim": lambda worker, signal_id, plan: worker.claim(),
    "brief": lambda worker, signal_id, plan: worker.brief(signal_id),
    "refuse": lambda worker, signal_id, plan: worker.call(
        "refuse_signal", p_signal_id=signal_id, p_code="unknown_symbol", p_reason="There is none."
    ),
    "failed try": lambda worker, signal_id, plan: worker.call(
        "record_failed_try", p_signal_id=signal_id, p_detail="no"
    ),
    "admit": lambda worker, signal_id, plan: worker.admit(signal_id, plan),
    "record": lambda worker, signal_id, plan: worker.record(plan["order_id"], status="cancelled"),
    "release": lambda worker, signal_id, plan: worker.call("release_accounts", p_accounts=[]),
    "unfinished": lambda worker, signal_id, plan: worker.call("unfinished_orders"),
    "open positions": lambda worker, signal_id, plan: worker.call("open_positions"),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_the_dead_change_nothing(project: Project, alice: UUID, mutation: Mutation) -> None:
    worker = project.worker()
    trader_id = project.trader(alice)
    in_flight = worker.admitted(project.signal(alice, trader_id))
    waiting = project.signal(alice, trader_id)
    _lapse(project, worker)
    successor = project.worker()
    successor.claim()
    before = _rows(project)
    with pytest.raises(Error, match="was declared dead") as caught:
        mutation(worker, waiting, in_flight)
    assert caught.value.sqlstate == "FSD01"
    assert _rows(project) == before


def test_the_unknown_change_nothing_either(project: Project) -> None:
    stranger = project.worker(registered=False)
    with pytest.raises(Error, match="was declared dead"):
        stranger.claim()
    assert stranger.call("worker_heartbeat")["alive"] is False


def _rows(project: Project) -> list[object]:
    return project.owner.column(
        "select to_jsonb(s) from public.signals s union all select to_jsonb(o) from public.orders o"
        " union all select to_jsonb(p) from public.positions p union all select to_jsonb(a) from public.accounts a"
        " union all select to_jsonb(b) from public.paper_balances b"
    )


def test_a_worker_in_the_middle_of_a_change_is_not_declared_dead(project: Project) -> None:
    first, second = project.worker(), project.worker()
    _lapse(project, first)
    with first.client.connection.transaction():
        first.claim()
        second.claim()
    assert first.call("worker_heartbeat")["alive"] is True


def test_an_account_is_recorded_by_its_holder_alone(project: Project, alice: UUID) -> None:
    first, second = project.worker(), project.worker()
    plan = first.admitted(project.signal(alice, project.trader(alice)))
    with pytest.raises(Error, match="is not held by worker") as caught:
        second.record(plan["order_id"], status="filled", fills=[second.fill("1", "100", "1")])
    assert caught.value.sqlstate == "FSD02"


def test_two_workers_share_fairly(project: Project) -> None:
    first, second = project.worker(), project.worker()
    users = _users_with_signals(project, 10)
    first.claim()
    second.claim()
    assert len(first.held()) == 6  # half, plus one
    assert first.held() | second.held() == set(users)


def test_a_lone_worker_takes_everything_and_lets_go_when_another_comes(project: Project) -> None:
    first = project.worker()
    users = _users_with_signals(project, 8)
    first.claim()
    assert len(first.held()) == 8
    second = project.worker()
    assert first.call("worker_heartbeat")["surplus"] == 3  # of 8, a fair share is 4, plus one
    accounts = [{"user_id": str(user_id), "mode": "paper"} for user_id in users[:3]]
    assert first.call("release_accounts", p_accounts=accounts) == {"released": 3}
    second.claim()
    assert second.held() == set(users[:3])


def test_only_workers_of_a_mode_share_its_accounts(project: Project) -> None:
    paper = project.worker("paper")
    project.worker("testnet")
    _users_with_signals(project, 6)
    paper.claim()
    assert len(paper.held()) == 6


def test_many_workers_claiming_at_once_neither_share_an_account_nor_block(project: Project) -> None:
    workers = [project.worker() for _ in range(6)]
    users = _users_with_signals(project, 18)
    at_once([worker.claim for worker in workers])
    at_once([worker.claim for worker in workers])
    held = [worker.held() for worker in workers]
    assert sum(map(len, held)) == len(set[UUID]().union(*held)) == len(users)
    assert max(map(len, held)) <= 4


def test_retiring_frees_the_accounts_at_once(project: Project, alice: UUID) -> None:
    first = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    first.claim()
    assert first.call("worker_retire") == {"released": 1}
    assert project.worker().claimed() == [signal_id]
    assert first.call("worker_retire") == {"released": 0}


def test_an_account_is_held_by_one_worker(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice))
    first, second = project.worker(), project.worker()
    assert first.claimed() == [signal_id]
    assert second.claimed() == []
    assert second.claimed(signal_id) == []
    assert second.brief(signal_id) is None
    assert second.call("refuse_signal", p_signal_id=signal_id, p_code="unknown_symbol", p_reason="no") == {
        "outcome": "taken"
    }
    assert second.call("record_failed_try", p_signal_id=signal_id, p_detail="no")["outcome"] == "taken"


def test_each_mode_of_a_user_is_an_account_of_its_own(project: Project, alice: UUID) -> None:
    paper, testnet = project.worker("paper"), project.worker("testnet")
    signals = {mode: project.signal(alice, project.trader(alice, mode)) for mode in ("paper", "testnet")}
    assert paper.claimed() == [signals["paper"]]
    assert testnet.claimed() == [signals["testnet"]]


def test_a_trader_that_changes_mode_gets_an_account_there(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    signal_id = project.signal(alice, trader_id)
    project.keys(alice, "testnet")
    project.owner.execute("update public.traders set mode = 'testnet' where id = %s", trader_id)
    assert project.worker("testnet").claimed(signal_id) == [signal_id]


def test_an_unknown_order_is_said_to_be_unknown(project: Project) -> None:
    with pytest.raises(errors.NoDataFound, match="there is no order"):
        project.worker().record(uuid4(), status="filled")
