"""An entry that the exchange fills in parts over as long as it is given: each part is on its row as it comes."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.history import assert_no_row_lied, keep_history, moments, states
from tests.end_to_end.product import Project, wait_until
from tests.end_to_end.testnet import MARGIN_SECONDS, SHORT, entry, join_testnet, settled
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

PARTS, SECONDS = 10, 10


@pytest.mark.bench
def test_parts_are_booked_as_they_come_for_ten_seconds(project: Project, start_worker: StartWorker) -> None:
    keep_history(project)
    start_worker(**SHORT)
    user = join_testnet(project)
    plan = {"symbol": "ADA/USDT", "mode": "partial", "parts": PARTS, "seconds": SECONDS}
    project.venue("POST", "fills", plan)
    signal = project.signal(user, "ADA/USDT")
    settled(project, signal, "open")
    wait_until("all is filled", lambda: entry(project, signal)["status"] == "filled", 2 * SECONDS)
    said = moments(project, "orders", entry(project, signal)["id"])
    assert states(said) == ["created", "submitting", "partially_filled", "filled"]
    assert len({moment.quantity for moment in said}) == PARTS + 1  # none of it, and each part by itself
    assert_ledger_equals_rows(project, user)
    assert_no_row_lied(project, user, margin_seconds=MARGIN_SECONDS)
