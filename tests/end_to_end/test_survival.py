"""Whatever dies, sleeps or is told to stop: every signal is answered once, and the books are exact."""

from __future__ import annotations

import random
import signal
import subprocess
from contextlib import suppress

import pytest

from sandbox.ports import free_port
from tests.conftest import StartSandbox
from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, User, Worker, wait_until
from tests.processes import descendants, left_after

pytestmark = pytest.mark.alone

SWEEP_SECONDS = 0.5
LEASE_SECONDS = 2.0
QUICK = {"SWEEP_INTERVAL": f"{SWEEP_SECONDS}", "LEASE_SECONDS": f"{LEASE_SECONDS}", "RECV_WINDOW_MS": "1000"}
PROMISED_SECONDS = SWEEP_SECONDS + 2.0
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


def test_killed_at_any_moment_every_signal_becomes_one_position(project: Project, start_worker: StartWorker) -> None:
    chance = random.Random(7)
    delays = [(step + chance.random()) * 25 / 1000 for step in range(8)]  # one in each part of the first 200 ms
    chance.shuffle(delays)
    everybody: list[User] = []
    worker = start_worker(**QUICK)
    for delay in delays:
        users = [project.sign_up() for _ in range(5)]
        everybody += users
        burst = _burst(project, users, 2)
        _live_for(worker, delay)
        worker.kill()
        worker = start_worker(**QUICK)
        taken = project.wait_for(burst, seconds=30.0)
        assert taken <= PROMISED_SECONDS + LEASE_SECONDS, f"killed after {delay * 1000:.0f} ms"
        assert_books(project, *users)
    assert worker.stop() == 0
    assert_books(project, *everybody)


def test_told_to_stop_it_leaves_nothing_half_done(project: Project, start_worker: StartWorker) -> None:
    users = [project.sign_up() for _ in range(2)]
    worker = start_worker(**QUICK)
    burst = _burst(project, users, 40)
    wait_until("the first position opens", lambda: "in_position" in project.statuses(burst))
    assert worker.stop() == 0
    left = project.statuses(burst)
    assert set(left) == {"in_position", "ready"}
    half_done = project.rows(
        "select status from orders where user_id = any (%s::uuid[]) and status <> 'filled'", [user.id for user in users]
    )
    assert half_done == []
    start_worker(**QUICK)
    project.wait_for(burst)
    assert_books(project, *users)


def test_a_worker_that_slept_past_its_lease_doubles_nothing(project: Project, start_worker: StartWorker) -> None:
    users = [project.sign_up() for _ in range(2)]
    sleeper = start_worker(**QUICK)
    burst = _burst(project, users, 20)
    wait_until("the first position opens", lambda: "in_position" in project.statuses(burst))
    sleeper.process.send_signal(signal.SIGSTOP)
    assert "ready" in project.statuses(burst)
    second = start_worker(**QUICK)
    assert project.wait_for(burst, seconds=30.0) <= PROMISED_SECONDS + LEASE_SECONDS
    sleeper.process.send_signal(signal.SIGCONT)
    wait_until("the sleeper registers anew", lambda: len(_registrations(sleeper)) == 2)
    assert_books(project, *users)

    assert second.stop() == 0
    more = _burst(project, users, 1)
    assert project.wait_for(more, seconds=30.0) <= PROMISED_SECONDS
    assert_books(project, *users)


def test_the_sandbox_killed_comes_back_and_the_worker_goes_on(
    start_sandbox: StartSandbox, start_worker: StartWorker
) -> None:
    ports = [f"--{name}-port={free_port()}" for name in ("api", "venue")]
    first = start_sandbox("--no-fsync", *ports)
    before = Project(first.env)
    users = [before.sign_up() for _ in range(3)]
    worker = start_worker(on=before)
    burst = _burst(before, users, 10)
    wait_until("the first position opens", lambda: "in_position" in before.statuses(burst))
    children = descendants(first.process.pid)
    assert len(children) > 2
    first.process.kill()
    assert left_after(children, 3.0) == []

    after = Project(start_sandbox("--no-fsync", *ports, data=first.data).env)
    assert after.env["SUPABASE_URL"] == before.env["SUPABASE_URL"]
    burst += _burst(after, users, 1)
    after.wait_for(burst, seconds=30.0)
    assert_books(after, *users)
    assert worker.stop() == 0


def _burst(project: Project, users: list[User], each: int) -> list[str]:
    rows = [
        {"user_id": user.id, "trader_id": user.trader_id, "symbol": SYMBOLS[turn % len(SYMBOLS)]}
        for turn in range(each)
        for user in users
    ]
    return project.signals(rows)


def _live_for(worker: Worker, seconds: float) -> None:
    """Let a worker live for so long, and no longer."""
    with suppress(subprocess.TimeoutExpired):
        worker.process.wait(seconds)


def _registrations(worker: Worker) -> list[str]:
    return [one["event"] for one in worker.events() if one["event"].startswith("registered as worker")]
