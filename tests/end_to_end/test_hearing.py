"""A worker hears of every signal, whatever Realtime and REST do to its messages."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import StartSandbox
from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, User, Worker, launch_worker, wait_until

SWEEP_SECONDS = 2.0
PROMISED_SECONDS = SWEEP_SECONDS + 2.0
PATHS = ("broadcast", "postgres_changes")
LINES = ("realtime line 'broadcast' is up", "realtime line 'rows' is up")
ALL = 1_000_000
OUTAGE_SECONDS = 40.0
NO_FAULTS = {"lose": 0, "duplicate": 0, "delay_ms": 0, "refuse_joins": False, "off": False}


@pytest.fixture(autouse=True)
def faultless(project: Project) -> Iterator[None]:
    """Leave no fault to the next test."""
    yield
    project.control("realtime", _both(**NO_FAULTS))
    project.request("DELETE", "/_control/rest").raise_for_status()


def test_signals_from_before_the_start_are_traded(project: Project, start_worker: StartWorker) -> None:
    users = [project.sign_up() for _ in range(2)]
    waiting = [project.signal(user) for user in users for _ in range(2)]
    start_worker()
    project.wait_for(waiting, seconds=PROMISED_SECONDS)
    assert_books(project, *users)


def test_signals_are_traded_while_the_line_is_cut_and_it_comes_up_again(
    project: Project, start_worker: StartWorker
) -> None:
    user = project.sign_up()
    worker = _listening(start_worker())
    project.control("realtime", _both(refuse_joins=True, drop=True))
    wait_until("the lines are cut", lambda: project.control("realtime", {})["channels"] == 0)
    project.wait_for([project.signal(user)], seconds=PROMISED_SECONDS)
    project.control("realtime", _both(refuse_joins=False))
    for line in LINES:
        wait_until(f"{line} again", lambda line=line: _times(worker, line) > 1, 45.0)
    project.wait_for([project.signal(user)], seconds=PROMISED_SECONDS)


def test_signals_are_traded_though_every_event_is_lost(project: Project, start_worker: StartWorker) -> None:
    users = [project.sign_up() for _ in range(2)]
    _listening(start_worker())
    project.control("realtime", _both(lose=ALL))
    for user in users:
        project.wait_for([project.signal(user)], seconds=PROMISED_SECONDS)
    assert_books(project, *users)


class TestOnePathIsEnough:
    """Sweeps come once a minute here, so only a hint is in time."""

    @pytest.fixture(scope="class")
    @classmethod
    def patient(cls, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
        """One worker that listens, and all but never looks by itself."""
        log = tmp_path_factory.mktemp("patient") / "worker.log"
        worker = launch_worker(project.env, log, SWEEP_INTERVAL="60")
        try:
            yield _listening(worker)
        finally:
            worker.end()

    @pytest.mark.parametrize("becomes_ready", ["by insert", "by update"])
    @pytest.mark.parametrize("path", PATHS)
    def test_a_signal_is_heard_of_by_it(self, project: Project, patient: Worker, path: str, becomes_ready: str) -> None:
        [other] = [one for one in PATHS if one != path]
        project.control("realtime", {other: {"lose": ALL}})
        for _ in range(5):
            unheard = self._unheard(project, path)
            user = project.sign_up()
            signal = self._made_ready(project, user, becomes_ready)
            assert project.wait_for([signal]) < PROMISED_SECONDS
            # Had it been found by looking at the table, as after a subscription, so had the unheard one.
            if project.statuses([unheard]) == ["ready"]:
                return
        pytest.fail(f"every signal was found by looking, none by {path}")

    def _unheard(self, project: Project, path: str) -> str:
        """A signal whose only message on the path is lost."""
        user = project.sign_up()
        project.control("realtime", {path: {"lose": 1}})
        unheard = project.signal(user)
        wait_until("its message is lost", lambda: project.control("realtime", {})[path]["lose"] == 0)
        return unheard

    def _made_ready(self, project: Project, user: User, how: str) -> str:
        if how == "by insert":
            return project.signal(user)
        signal = project.signal(user, decision="wait")
        assert project.statuses([signal]) == ["ready"]
        project.request(
            "PATCH", f"/rest/v1/signals?id=eq.{signal}", json={"decision": "enter_trade"}
        ).raise_for_status()
        return signal


def test_signals_are_traded_once_rest_answers_again(project: Project, worker: Worker) -> None:
    users = [project.sign_up() for _ in range(3)]
    with _rest_fault(project, path="*", status=503, times=None):
        signals = [_inserted(project, user) for user in users for _ in range(2)]
        worker.wait_for("the database is out of reach; signals wait in their table")
        assert set(project.statuses(signals)) == {"ready"}
    assert project.wait_for(signals) < PROMISED_SECONDS
    assert_books(project, *users)


# A call is tried four times, so with five answers lost in a row its outcome is only found in the rows.
@pytest.mark.parametrize("lost", [1, 5], ids=["asked for again", "found by recovery"])
@pytest.mark.parametrize("call", ["admit_signal", "record_order"])
def test_a_lost_answer_doubles_nothing(project: Project, worker: Worker, call: str, lost: int) -> None:
    user = project.sign_up()
    with _rest_fault(project, path=f"rpc/{call}", after_commit=True, times=lost):
        signals = [project.signal(user) for _ in range(3)]
        project.wait_for(signals)
        assert project.request("GET", "/_control/rest").json() == {"faults": []}
    assert_books(project, user)


@dataclass(frozen=True)
class Outage:
    """A project without Realtime since a moment (monotonic seconds), and a worker on it."""

    project: Project
    worker: Worker
    since: float


@pytest.fixture(scope="module", autouse=True)
def outage(start_sandbox: StartSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """Begins with the module, so that the others are not kept waiting until it has been long enough."""
    sandbox = start_sandbox("--no-fsync")
    deserted = Project(sandbox.env)
    deserted.control("realtime", _both(off=True))
    signal = deserted.signal(deserted.sign_up())
    worker = launch_worker(deserted.env, tmp_path_factory.mktemp("outage") / "worker.log")
    try:
        worker.wait_for("ready")
        since = time.monotonic()
        deserted.wait_for([signal], seconds=PROMISED_SECONDS)
        yield Outage(deserted, worker, since)
    finally:
        worker.end()
        sandbox.end()


def test_signals_are_traded_without_realtime_and_it_comes_back(outage: Outage) -> None:
    """Down for 40 s, so that a worker that gives up after some tries, as clients do, is found out."""
    project, worker = outage.project, outage.worker
    user = project.sign_up()
    while True:
        project.wait_for([project.signal(user, "ETH/USDT")], seconds=PROMISED_SECONDS)
        if time.monotonic() - outage.since > OUTAGE_SECONDS:
            break
    assert all(_times(worker, line) == 0 for line in LINES)
    project.control("realtime", _both(off=False))
    for line in LINES:
        worker.wait_for(line, 45.0)
    assert_books(project, user)


def _both(**knobs: object) -> dict[str, dict[str, object]]:
    return dict.fromkeys(PATHS, knobs)


def _listening(worker: Worker) -> Worker:
    for event in ("ready", *LINES):
        worker.wait_for(event)
    return worker


def _times(worker: Worker, event: str) -> int:
    return sum(one["event"] == event for one in worker.events())


def _inserted(project: Project, user: User) -> str:
    """A signal past REST."""
    [row] = project.rows(
        "insert into signals (user_id, trader_id, symbol, decision) values (%s, %s, 'BTC/USDT', 'enter_trade')"
        " returning id",
        user.id,
        user.trader_id,
    )
    return str(row["id"])


@contextmanager
def _rest_fault(project: Project, **fault: Any) -> Generator[None]:
    project.control("rest", fault)
    yield
    project.request("DELETE", "/_control/rest").raise_for_status()
