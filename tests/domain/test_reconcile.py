"""What is done with an order that was left unfinished."""

from __future__ import annotations

import pytest

from streams.domain.order import MOVES
from streams.domain.reconcile import Next, never_placed, next_move
from tests.domain import specimens


@pytest.mark.parametrize(
    ("status", "fresh", "stale"),
    [
        ("submitting", Next.LOOK, Next.GIVE_UP),
        ("unknown", Next.LOOK, Next.GIVE_UP),
        ("submitted", Next.FOLLOW, Next.FOLLOW),
        ("partially_filled", Next.FOLLOW, Next.FOLLOW),
        ("filled", Next.LEAVE, Next.LEAVE),
        ("cancelled", Next.LEAVE, Next.LEAVE),
        ("expired", Next.LEAVE, Next.LEAVE),
        ("failed", Next.LEAVE, Next.LEAVE),
    ],
)
def test_an_unfinished_order_has_one_next_move(status: str, fresh: Next, stale: Next) -> None:
    order = specimens.order(status=status)
    assert next_move(order, expired=False) is fresh
    assert next_move(order, expired=True) is stale


@pytest.mark.parametrize("status", sorted(MOVES))
def test_every_state_has_a_next_move(status: str) -> None:
    assert isinstance(next_move(specimens.order(status=status), expired=True), Next)


def test_an_entry_given_up_fails_in_a_move_that_the_table_has() -> None:
    report = never_placed()
    assert (report.status, report.failure_code) == ("failed", "entry_not_accepted")
    assert report.failure_reason
    assert report.failure_reason.endswith(".")
    for status in ("submitting", "unknown"):
        assert report.status in MOVES[status]
