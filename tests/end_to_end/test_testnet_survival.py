"""A worker that dies or sleeps around its request to the exchange: one order or none, and a row that tells which."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, Worker, wait_until
from tests.end_to_end.testnet import (
    HOLDING,
    SHORT,
    TestnetUser,
    asked,
    at_venue,
    entry,
    join_testnet,
    settled,
)
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

POST = "POST /api/v3/order"
HANG = {"method": "POST", "path": "/api/v3/order", "kind": "hang", "seconds": 30, "times": 1}
SETTINGS = {**SHORT, "LEASE_SECONDS": "3"}


@pytest.fixture(scope="module")
def user(project: Project) -> TestnetUser:
    return join_testnet(project)


@pytest.fixture(autouse=True)
def no_faults_left(project: Project) -> Iterator[None]:
    yield
    project.venue("DELETE", "faults")
    project.request("DELETE", "/_control/rest").raise_for_status()


def held_before_the_request(project: Project, user: TestnetUser) -> str:
    """A signal whose admission is committed, and whose worker hears no answer of it: nothing was sent yet."""
    project.control("rest", {"path": "rpc/admit_signal", "times": None, "after_commit": True})
    entered = project.signal(user, "ETH/USDT")
    wait_until("it is admitted", lambda: project.rows("select from positions where signal_id = %s", entered))
    return entered


def held_in_the_request(project: Project, user: TestnetUser, executed: bool) -> str:
    """A signal whose order has reached the exchange, and gets no answer."""
    before = asked(project, POST)
    project.venue("POST", "faults", {**HANG, "execute": executed})
    entered = project.signal(user, "ETH/USDT")
    wait_until("the order reaches the exchange", lambda: asked(project, POST) > before)
    return entered


def held_after_the_fill(project: Project, user: TestnetUser) -> str:
    """A signal whose order is filled, and of which nothing is written yet."""
    before = asked(project, POST)
    project.control("rest", {"path": "rpc/record_order", "status": 503, "times": None})
    entered = project.signal(user, "ETH/USDT")
    wait_until("the order reaches the exchange", lambda: asked(project, POST) > before)
    return entered


MOMENTS: dict[str, tuple[Callable[[Project, TestnetUser], str], bool]] = {
    "before the request": (held_before_the_request, False),
    "in a request carried out": (lambda project, user: held_in_the_request(project, user, True), True),
    "after the fill, before its row is written": (held_after_the_fill, True),
    "in a request not carried out": (lambda project, user: held_in_the_request(project, user, False), False),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_workers_entry_is_settled_and_never_sent_again(
    project: Project, user: TestnetUser, start_worker: StartWorker, moment: str
) -> None:
    hold, placed = MOMENTS[moment]
    first = start_worker(**SETTINGS)
    entered = hold(project, user)
    first.kill()
    project.request("DELETE", "/_control/rest").raise_for_status()
    start_worker(**SETTINGS)
    assert_settled(project, user, entered, placed)


@pytest.mark.parametrize(
    "moment",
    [moment if moment == "before the request" else pytest.param(moment, marks=pytest.mark.bench) for moment in MOMENTS],
)
def test_a_worker_that_slept_past_its_lease_places_nothing_when_it_wakes(
    project: Project, user: TestnetUser, start_worker: StartWorker, moment: str
) -> None:
    hold, placed = MOMENTS[moment]
    sleeper = start_worker(**SETTINGS)
    entered = hold(project, user)
    sleeper.process.send_signal(signals.SIGSTOP)
    project.request("DELETE", "/_control/rest").raise_for_status()
    start_worker(**SETTINGS)
    assert_settled(project, user, entered, placed)
    sent = asked(project, POST)
    sleeper.process.send_signal(signals.SIGCONT)
    wait_until("the sleeper registers anew", lambda: registrations(sleeper) == 2)
    assert_settled(project, user, entered, placed)
    assert asked(project, POST) == sent


def test_a_fill_told_after_the_worker_that_cancelled_its_order_had_died_is_booked_by_the_next(
    project: Project, user: TestnetUser, start_worker: StartWorker
) -> None:
    plan = {"symbol": "LTC/USDT", "mode": "partial", "parts": 2, "seconds": 60, "late": 1}
    project.venue("POST", "fills", plan)
    project.venue("POST", "price", {"symbol": "LTC/USDT", "price": "80.00"})
    first = start_worker(**SETTINGS, MAX_EXECUTION_TIME="1")
    entered = project.signal(user, "LTC/USDT", order_type="limit", limit_price="81.00")
    wait_until("it is cut short", lambda: entry_is(project, entered, "cancelled"))
    first.kill()
    (order,) = at_venue(project, entry(project, entered)["client_order_id"])
    assert Decimal(order["executedQty"]) < Decimal(order["origQty"])
    start_worker(**SETTINGS)
    wait_until("the late fill is booked", lambda: entry_is(project, entered, "filled"))
    assert_settled(project, user, entered, placed=True)


def entry_is(project: Project, signal: str, status: str) -> bool:
    reached = (
        "select from orders as o join positions as p on p.id = o.position_id where p.signal_id = %s and o.status = %s"
    )
    return bool(project.rows(reached, signal, status))


def registrations(worker: Worker) -> int:
    return sum("registered as worker" in one["event"] for one in worker.events())


def assert_settled(project: Project, user: TestnetUser, entered: str, placed: bool) -> None:
    """One order and an open position, or no order and a failed one."""
    order = settled(project, entered)
    there = at_venue(project, order["client_order_id"])
    if placed:
        (one,) = there
        assert order["position_status"] in HOLDING
        assert order["filled_quantity"] == Decimal(one["executedQty"])
    else:
        assert there == []
        assert (order["position_status"], order["failure_code"]) == ("failed", "entry_not_accepted")
    assert_ledger_equals_rows(project, user)
