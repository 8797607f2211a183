"""Many signals, many users, many announcements, several workers: one position each, in order, to the last digit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import pytest

from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, User, wait_until

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "XRP/USDT", "ADA/USDT", "DOGE/USDT", "LTC/USDT")
LINES = ("realtime line 'broadcast' is up", "realtime line 'rows' is up")
PATHS = ("broadcast", "postgres_changes")
QUICK = {"SWEEP_INTERVAL": "0.5", "LEASE_SECONDS": "6", "RECV_WINDOW_MS": "1000"}
AT_ONCE_SECONDS, ANSWERED_SECONDS = 60.0, 10.0


def test_a_hundred_signals_of_ten_users_in_one_statement(project: Project, start_worker: StartWorker) -> None:
    users = _everybody(project, 10)
    worker = start_worker()
    ids = _burst(project, users, 10)
    project.wait_for(ids, seconds=AT_ONCE_SECONDS)
    assert worker.stop() == 0
    assert len(_positions_of(project, ids)) == 100
    _assert_in_order(project, users)
    assert_books(project, *users)


def test_a_signal_announced_five_times_is_one_position(project: Project, start_worker: StartWorker) -> None:
    [user] = _everybody(project, 1)
    worker = start_worker(SWEEP_INTERVAL="60")
    for line in LINES:
        worker.wait_for(line)
    project.control("realtime", {path: {"duplicate": 1} for path in PATHS})
    signal = project.signal(user)
    _announce(project, signal, times=5)
    project.wait_for([signal])
    _announce(project, signal, times=5)
    # Announcements are heard in their order: once this one has been worked on, all before it have been heard.
    last = project.signal(user)
    project.wait_for([last])
    assert worker.stop() == 0
    assert len(_positions_of(project, [signal])) == 1
    assert [one["signal"] for one in worker.events() if one["event"] == "opened"] == [signal, last]
    assert_books(project, user)


def test_two_workers_share_the_work_and_double_nothing(project: Project, start_worker: StartWorker) -> None:
    users = _everybody(project, 10)
    workers = [start_worker(**QUICK), start_worker(**QUICK)]
    ids = _burst(project, users, 10)
    project.wait_for(ids, seconds=AT_ONCE_SECONDS)
    for worker in workers:
        assert worker.stop() == 0
    positions = _positions_of(project, ids)
    assert len(positions) == 100
    assert len(_workers_of(project, ids)) == 2
    _assert_in_order(project, users)
    assert_books(project, *users)


def test_a_worker_that_comes_later_gets_its_share(project: Project, start_worker: StartWorker) -> None:
    users = _everybody(project, 8)
    first = start_worker(**QUICK)
    ids = _burst(project, users, 2)
    project.wait_for(ids, seconds=AT_ONCE_SECONDS)
    assert len(_held(project, users)) == 1
    second = start_worker(**QUICK)
    wait_until("both hold some of the accounts", lambda: len(_held(project, users)) == 2)
    more = _burst(project, users, 3)
    project.wait_for(more, seconds=AT_ONCE_SECONDS)
    assert len(_workers_of(project, more)) == 2
    for worker in (first, second):
        assert len([one for one in worker.events() if one["event"].startswith("registered as worker")]) == 1
        assert [one for one in worker.events() if one["level"] in ("warning", "error")] == []
        assert worker.stop() == 0
    _assert_in_order(project, users)
    assert_books(project, *users)


@pytest.mark.parametrize("workers", [1, 2])
def test_of_two_hundred_at_once_as_many_are_taken_as_the_limit_allows(
    project: Project, start_worker: StartWorker, workers: int
) -> None:
    user = project.sign_up(max_open_positions=5)
    for _ in range(workers):
        start_worker(**QUICK).wait_for("ready")
    ids = _burst(project, [user], 200)
    wait_until(
        "every signal is answered",
        lambda: set(project.statuses(ids)) == {"in_position", "rejected"},
        ANSWERED_SECONDS,
    )
    assert len(_positions_of(project, ids)) == 5
    codes = project.rows("select code from risk_refusals where signal_id = any (%s)", _uuids(ids))
    assert [row["code"] for row in codes] == ["max_open_positions"] * 195
    assert_books(project, user)


@pytest.mark.bench
@pytest.mark.timeout(300)
def test_a_thousand_signals_at_once(project: Project, start_worker: StartWorker) -> None:
    users = _everybody(project, 20)
    worker = start_worker()
    ids = _burst(project, users, 50)
    project.wait_for(ids, seconds=240.0)
    assert worker.stop() == 0
    assert len(_positions_of(project, ids)) == 1000
    _assert_in_order(project, users)
    assert_books(project, *users)


def _everybody(project: Project, count: int) -> list[User]:
    return [project.sign_up(max_open_positions=1000) for _ in range(count)]


def _burst(project: Project, users: list[User], each: int) -> list[str]:
    """Insert signals of users by turns, in one statement."""
    return project.signals(
        [
            {"user_id": user.id, "trader_id": user.trader_id, "symbol": SYMBOLS[(turn + place) % len(SYMBOLS)]}
            for turn in range(each)
            for place, user in enumerate(users)
        ]
    )


def _announce(project: Project, signal: str, times: int) -> None:
    project.rows(
        "select realtime.send(jsonb_build_object('ids', jsonb_build_array(%s::text), 'more', false), "
        "'signals-ready', 'workers', true)::text as sent from generate_series(1, %s)",
        signal,
        times,
    )


def _uuids(ids: list[str]) -> list[uuid.UUID]:
    return [uuid.UUID(one) for one in ids]


def _positions_of(project: Project, ids: list[str]) -> list[uuid.UUID]:
    holding = "select id from positions where signal_id = any (%s) and status in ('open', 'monitoring', 'closing')"
    rows = project.rows(holding, _uuids(ids))
    return [row["id"] for row in rows]


def _workers_of(project: Project, ids: list[str]) -> set[uuid.UUID]:
    """Who opened the positions of these signals."""
    rows = project.rows(
        "select distinct event.worker_id from position_events as event "
        "join positions as position on position.id = event.position_id where position.signal_id = any (%s)",
        _uuids(ids),
    )
    return {row["worker_id"] for row in rows}


def _held(project: Project, users: list[User]) -> Mapping[uuid.UUID, int]:
    """How many accounts of these users each worker holds."""
    rows = project.rows(
        "select worker_id, count(*) as accounts from accounts"
        " where worker_id is not null and user_id = any (%s) group by worker_id",
        _uuids([user.id for user in users]),
    )
    return {row["worker_id"]: row["accounts"] for row in rows}


def _assert_in_order(project: Project, users: list[User]) -> None:
    """Each user's signals were admitted in their order."""
    rows = project.rows(
        "select signal.user_id, signal.seq, position.admitted_at from signals as signal "
        "join positions as position on position.signal_id = signal.id "
        "where signal.user_id = any (%s) order by signal.user_id, position.admitted_at",
        _uuids([user.id for user in users]),
    )
    admitted = [(row["user_id"], row["seq"]) for row in rows]
    assert admitted == sorted(admitted)
