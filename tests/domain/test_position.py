"""A position's life."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.account import Account
from streams.domain.position import MOVES, OPEN
from tests.domain import specimens
from tests.domain.moves import POSITION_MOVES, read


def test_the_moves_are_those_promised() -> None:
    assert read(POSITION_MOVES) == MOVES


def test_every_state_reached_has_moves_of_its_own() -> None:
    assert set().union(*MOVES.values()) <= set(MOVES)


@given(st.data())
def test_a_position_that_held_coins_never_fails(data: st.DataObject) -> None:
    state, held = "created", False
    while MOVES[state]:
        state = data.draw(st.sampled_from(sorted(MOVES[state])))
        held = held or state in OPEN
        assert not (held and state == "failed")
        if state == "closing" and data.draw(st.booleans()):
            break


@pytest.mark.parametrize("status", sorted(MOVES))
def test_open_means_open_monitoring_or_closing(status: str) -> None:
    assert specimens.position(status=status).is_open == (status in ("open", "monitoring", "closing"))


def test_a_position_names_its_account() -> None:
    assert specimens.position(mode="live").account == Account(specimens.ANNA, "live")


def test_columns_added_later_do_not_matter() -> None:
    assert specimens.position(dust_quantity="0.1") == specimens.position()
