"""The next step for a position, from its rows and the price: what is one step, and what takes two."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.exits import THROUGH_SECONDS, next_step, remember, wanted_stop
from streams.domain.held import Held, Memory
from streams.domain.lines import lines_of
from streams.domain.market import Quote
from streams.domain.order import Order
from streams.domain.step import Cancel, Protect, Sell, Step, Wait
from tests.domain import specimens
from tests.domain.specimens import NOON, RULES

AT = 1000.0
TRAILED = Memory(peak=Decimal(103), trailed=True)


def guard(purpose: str, price: str, **changes: Any) -> Order:
    """A protective order that rests."""
    terms = {"purpose": purpose, "type": purpose, "side": "sell", "stop_price": price, "status": "submitted"}
    return specimens.order(client_order_id=f"fs-{purpose}", list_client_order_id="fs-list", **terms | changes)


def held(*guards: Order, **changes: Any) -> Held:
    """One BTC bought at 100, with a stop at 98, a target at 104 and a trailing stop of 2 %."""
    terms = {"entry_price": "100", "entry_quantity": "1", "entry_time": NOON, "stop_loss_price": "98"}
    terms |= {"take_profit_price": "104", "trailing_stop_percent": "2", "status": "monitoring"}
    entry = specimens.order(status="filled", filled_quantity="1")
    return Held(specimens.position(**terms | changes), entry, guards, attempts=len(guards))


def step(of: Held, memory: Memory, quote: Quote | None = None) -> Step:
    return next_step(of, RULES, quote, memory, NOON + timedelta(minutes=5), AT)


RESTING = (guard("stop_loss", "98"), guard("take_profit", "104"))


def test_an_exit_by_the_trailing_stop_takes_the_place_of_what_rests_in_one_step() -> None:
    assert step(held(*RESTING), TRAILED, specimens.quote("100.5", "100.6", AT)) == Sell(
        Decimal(1), "trailing_stop", instead_of=RESTING
    )


def test_what_was_executed_in_part_is_ended_before_anything_is_sold() -> None:
    partly = (guard("stop_loss", "98", status="partially_filled", filled_quantity="0.4"), RESTING[1])
    assert step(held(*partly), TRAILED, specimens.quote("100.5", "100.6", AT)) == Cancel(partly)


def test_an_exit_that_hurries_less_ends_first_what_rests() -> None:
    assert step(held(*RESTING, max_hold_minutes="1"), Memory(), specimens.quote()) == Cancel(RESTING)


def test_a_stop_that_follows_a_rise_is_moved_in_one_step_and_without_hurry() -> None:
    moved = step(held(*RESTING), Memory(peak=Decimal(103)), specimens.quote("103", "103.1", AT))
    assert moved == Protect(Decimal(1), Decimal("100.94"), Decimal(104), Decimal("100.94"), RESTING)
    assert isinstance(moved, Protect)
    assert moved.is_move


def test_a_stop_that_was_asked_for_does_not_wait_for_its_turn() -> None:
    moved = step(held(*RESTING, stop_loss_price="99.5"), Memory(), specimens.quote())
    assert moved == Protect(Decimal(1), Decimal("99.5"), Decimal(104), instead_of=RESTING)
    assert isinstance(moved, Protect)
    assert not moved.is_move


def test_no_moment_in_the_past_is_waited_for_while_prices_fail_to_come() -> None:
    through = replace(Memory(), through_since=AT - 10 * THROUGH_SECONDS)
    assert step(held(*RESTING), through) == Wait(None)


PRICES = st.decimals("97", "105", places=2)


@given(
    bids=st.lists(PRICES, min_size=1, max_size=3),
    peak=st.decimals("100", "105", places=2),
    trail=st.sampled_from(["0.5", "2", None]),
    stop=st.sampled_from(["98", None]),
    target=st.sampled_from(["104", None]),
)
def test_between_the_lines_nothing_is_decided(
    bids: list[Decimal], peak: Decimal, trail: str | None, stop: str | None, target: str | None
) -> None:
    terms = {"trailing_stop_percent": trail, "stop_loss_price": stop, "take_profit_price": target}
    bare = held(**terms)
    wanted = {"stop_loss": wanted_stop(bare.position, RULES, peak), "take_profit": bare.position.take_profit_price}
    of = held(*(guard(purpose, str(price)) for purpose, price in wanted.items() if price is not None), **terms)
    lines = lines_of(of, RULES, peak)
    memory = remember(Memory(peak=peak), of, RULES, bids, AT)
    low, high = min(bids), max(bids)
    if lines.crossed(low, high) or memory.trailed or lines_of(of, RULES, memory.peak).move_is_due:
        return
    assert step(of, memory, specimens.quote(str(bids[-1]), "200", AT)) == Wait(None)
    if high <= lines.peak:
        assert lines_of(of, RULES, memory.peak) == lines
