"""A worker that dies or sleeps around its request to the exchange: one order or none, and a row that tells which."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, Worker, wait_until
from tests.end_to_end.test_testnet import SHORT, at_venue, enter, settled, testnet

__all__ = ["testnet"]

HANG = {"method": "POST", "path": "/api/v3/order", "kind": "hang", "seconds": 30, "times": 1}
SETTINGS = {**SHORT, "LEASE_SECONDS": "3"}


@pytest.fixture(autouse=True)
def no_faults_left(testnet: Project) -> Iterator[None]:
    yield
    testnet.venue("DELETE", "faults")
    testnet.request("DELETE", "/_control/rest").raise_for_status()


def held_before_the_request(project: Project) -> str:
    """A signal whose admission is committed, and whose worker hears no answer of it: nothing was sent yet."""
    project.control("rest", {"path": "rpc/admit_signal", "times": None, "after_commit": True})
    entered = enter(project, "ETH/USDT")
    wait_until("it is admitted", lambda: project.rows("select from positions where signal_id = %s", entered))
    return entered


def held_in_the_request(project: Project, executed: bool) -> str:
    """A signal whose order has reached the exchange, and gets no answer."""
    before = posted(project)
    project.venue("POST", "faults", {**HANG, "execute": executed})
    entered = enter(project, "ETH/USDT")
    wait_until("the order reaches the exchange", lambda: posted(project) > before)
    return entered


def posted(project: Project) -> int:
    """How many orders were ever sent to the exchange."""
    counts = project.venue("GET", "requests").json()["requests"]
    return sum(counts.get("POST /api/v3/order", {}).values())


MOMENTS: dict[str, tuple[Callable[[Project], str], bool]] = {
    "before the request": (held_before_the_request, False),
    "in a request carried out": (lambda project: held_in_the_request(project, True), True),
    "in a request not carried out": (lambda project: held_in_the_request(project, False), False),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_workers_entry_is_settled_and_never_sent_again(
    testnet: Project, start_worker: StartWorker, moment: str
) -> None:
    hold, placed = MOMENTS[moment]
    first = start_worker(**SETTINGS)
    entered = hold(testnet)
    first.kill()
    start_worker(**SETTINGS)
    assert_settled(testnet, entered, placed)


@pytest.mark.parametrize(
    "moment",
    [moment if moment == "before the request" else pytest.param(moment, marks=pytest.mark.bench) for moment in MOMENTS],
)
def test_a_worker_that_slept_past_its_lease_places_nothing_when_it_wakes(
    testnet: Project, start_worker: StartWorker, moment: str
) -> None:
    hold, placed = MOMENTS[moment]
    sleeper = start_worker(**SETTINGS)
    entered = hold(testnet)
    sleeper.process.send_signal(signals.SIGSTOP)
    start_worker(**SETTINGS)
    assert_settled(testnet, entered, placed)
    sent = posted(testnet)
    sleeper.process.send_signal(signals.SIGCONT)
    wait_until("the sleeper registers anew", lambda: registrations(sleeper) == 2)
    assert_settled(testnet, entered, placed)
    assert posted(testnet) == sent


def registrations(worker: Worker) -> int:
    return sum("registered as worker" in one["event"] for one in worker.events())


def assert_settled(project: Project, entered: str, placed: bool) -> None:
    """One order and an open position, or no order and a failed one."""
    order = settled(project, entered)
    there = at_venue(project, order["client_order_id"])
    if placed:
        (one,) = there
        assert (order["position_status"], order["filled_quantity"]) == ("open", Decimal(one["executedQty"]))
    else:
        assert there == []
        assert (order["position_status"], order["failure_code"]) == ("failed", "entry_not_accepted")
