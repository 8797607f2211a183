"""An order's life, its id at the venue, and what a report makes of it."""

from __future__ import annotations

import re
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.order import ENDED, MOVES, OrderReport, client_order_id
from tests.domain import specimens
from tests.domain.moves import ORDER_MOVES, read

PURPOSES = ("entry", "exit", "stop_loss", "take_profit")
ids = st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))


def test_the_moves_are_those_promised() -> None:
    assert read(ORDER_MOVES) == MOVES


def test_every_state_reached_has_moves_of_its_own() -> None:
    assert set().union(*MOVES.values()) <= set(MOVES)
    assert set(MOVES) >= ENDED


def test_an_ended_order_moves_only_by_a_late_fill() -> None:
    assert {to for state in ENDED for to in MOVES[state]} <= {"partially_filled", "filled"}


@given(ids, st.sampled_from(PURPOSES), st.integers(1, 999))
def test_a_client_order_id_is_one_that_the_venue_takes(position: UUID, purpose: str, attempt: int) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9-_]{30,36}", client_order_id(position, purpose, attempt))


@given(st.sets(st.tuples(ids, st.sampled_from(PURPOSES), st.integers(1, 99)), min_size=2, max_size=20))
def test_no_two_attempts_share_a_client_order_id(attempts: set[tuple[UUID, str, int]]) -> None:
    assert len({client_order_id(*attempt) for attempt in attempts}) == len(attempts)


def test_a_client_order_id_is_the_same_each_time_it_is_made() -> None:
    position = UUID("6f1c6a3e-0d4b-4a55-9a4e-2f1f0c9b7d11")
    assert client_order_id(position, "entry") == client_order_id(position, "entry", 1)


def test_an_unknown_purpose_has_no_id() -> None:
    with pytest.raises(KeyError):
        client_order_id(UUID(int=1), "gift")


def test_fills_move_an_order_on() -> None:
    order = specimens.order(quantity="3", reserved="301")
    first = order.after(OrderReport("partially_filled", fills=(specimens.fill("100", "1", 1),)))
    assert (first.status, first.filled_quantity, first.remaining, first.fills) == ("partially_filled", 1, 2, 1)
    assert (first.total_value, first.reserved) == (100, Decimal("200.9"))
    rest = (specimens.fill("99", "1.5", 2), specimens.fill("98", "0.5", 3))
    last = first.after(OrderReport("filled", fills=rest))
    assert (last.status, last.filled_quantity, last.remaining, last.fills) == ("filled", 3, 0, 3)
    assert last.total_value == Decimal("297.5")
    assert order.filled_quantity == 0


def test_a_report_without_fills_moves_the_state_alone() -> None:
    order = specimens.order()
    assert order.after(OrderReport("submitted")) == order.model_copy(update={"status": "submitted"})


fills = st.lists(
    st.tuples(
        st.decimals(min_value="0.01", max_value=10**6, places=2), st.decimals(min_value="0.001", max_value=10, places=8)
    ),
    max_size=6,
)


@given(fills, st.integers(0, 6))
def test_fills_count_the_same_however_they_are_reported(taken: list[tuple[Decimal, Decimal]], cut: int) -> None:
    all_fills = tuple(
        specimens.fill(str(price), str(quantity), number) for number, (price, quantity) in enumerate(taken, start=1)
    )
    order = specimens.order(quantity="100", reserved="1e9")
    at_once = order.after(OrderReport("partially_filled", fills=all_fills))
    in_two = order.after(OrderReport("partially_filled", fills=all_fills[:cut])).after(
        OrderReport("partially_filled", fills=all_fills[cut:])
    )
    assert at_once == in_two
    assert at_once.filled_quantity + at_once.remaining == order.quantity


def test_what_is_reserved_never_falls_below_nothing() -> None:
    order = specimens.order(reserved="1")
    assert order.after(OrderReport("filled", fills=(specimens.fill("100", "1"),))).reserved == 0


@pytest.mark.parametrize("status", sorted(MOVES))
def test_a_report_says_whether_more_is_to_come(status: str) -> None:
    assert OrderReport(status).ended == (status in ("filled", "cancelled", "expired", "failed"))
