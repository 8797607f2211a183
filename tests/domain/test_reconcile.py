"""What is done with an order that was left unfinished."""

from __future__ import annotations

import pytest

from streams.domain.order import MOVES
from streams.domain.reconcile import Next, never_placed, next_move
from tests.domain import specimens


@pytest.mark.parametrize(
    ("status", "fresh", "stale"),
    [
        ("submitting", Next.PLACE_ANEW, Next.GIVE_UP),
        ("unknown", Next.PLACE_ANEW, Next.GIVE_UP),
        ("submitted", Next.FOLLOW, Next.FOLLOW),
        ("partially_filled", Next.FOLLOW, Next.FOLLOW),
        ("filled", Next.LEAVE, Next.LEAVE),
        ("cancelled", Next.LEAVE, Next.LEAVE),
        ("expired", Next.LEAVE, Next.LEAVE),
        ("failed", Next.LEAVE, Next.LEAVE),
    ],
)
def test_an_unfinished_paper_order_has_one_next_move(status: str, fresh: Next, stale: Next) -> None:
    order = specimens.order(status=status)
    assert next_move(order, expired=False) is fresh
    assert next_move(order, expired=True) is stale


@pytest.mark.parametrize("mode", ["testnet", "live"])
@pytest.mark.parametrize("status", ["submitting", "unknown"])
@pytest.mark.parametrize("expired", [False, True])
def test_what_may_have_reached_a_venue_is_followed_and_never_placed_anew(mode: str, status: str, expired: bool) -> None:
    assert next_move(specimens.order(mode=mode, status=status), expired) is Next.FOLLOW


@pytest.mark.parametrize("mode", ["paper", "testnet", "live"])
@pytest.mark.parametrize("status", sorted(MOVES))
def test_every_state_has_a_next_move(status: str, mode: str) -> None:
    assert isinstance(next_move(specimens.order(status=status, mode=mode), expired=True), Next)


@pytest.mark.parametrize(("out_of_reach", "code"), [(False, "entry_not_accepted"), (True, "venue_unavailable")])
def test_an_entry_given_up_says_why_and_fails_in_a_move_that_the_table_has(out_of_reach: bool, code: str) -> None:
    report = never_placed(out_of_reach)
    assert (report.status, report.failure_code) == ("failed", code)
    assert report.failure_reason
    assert report.failure_reason.endswith(".")
    for status in ("submitting", "unknown"):
        assert report.status in MOVES[status]
