"""Paper fills: the book is walked, best price first, never past the price or the money there is."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.market import Level
from streams.domain.paper import Take, walk
from tests.domain import specimens

FEE = Decimal("0.001")
STEP = Decimal("0.001")
PLENTY = Decimal(10**12)
ASKS = specimens.levels(("100", "1"), ("101", "2"), ("102", "5"))


def taken(takes: Sequence[Take]) -> list[tuple[Decimal, Decimal]]:
    return [(take.price, take.quantity) for take in takes]


def test_the_best_offers_are_taken_first() -> None:
    assert taken(walk(ASKS, Decimal(4), None, PLENTY, FEE, STEP)) == [(100, 1), (101, 2), (102, 1)]


def test_nothing_is_taken_above_the_limit() -> None:
    assert taken(walk(ASKS, Decimal(4), Decimal(101), PLENTY, FEE, STEP)) == [(100, 1), (101, 2)]
    assert walk(ASKS, Decimal(4), Decimal("99.99"), PLENTY, FEE, STEP) == ()


def test_a_book_with_nothing_on_offer_fills_nothing() -> None:
    assert walk((), Decimal(4), None, PLENTY, FEE, STEP) == ()


def test_a_resting_order_takes_at_its_own_price_what_comes_down_to_it() -> None:
    assert taken(walk(ASKS, Decimal(4), Decimal(102), PLENTY, FEE, STEP, resting=True)) == [
        (102, 1),
        (102, 2),
        (102, 1),
    ]
    assert walk(ASKS, Decimal(4), Decimal("99.99"), PLENTY, FEE, STEP, resting=True) == ()


def test_the_money_reserved_ends_the_walk_on_a_step() -> None:
    (take,) = walk(ASKS, Decimal(1), None, Decimal(50), FEE, STEP)
    assert take.quantity == Decimal("0.499")
    assert take.value == Decimal("49.9")
    assert take.fee == Decimal("0.0499")


quantities = st.integers(1, 10**6).map(lambda steps: steps * STEP)
prices = st.decimals(min_value="0.01", max_value=10**6, places=2)
books = st.lists(st.builds(Level, prices, quantities), max_size=8).map(
    lambda asks: sorted(asks, key=lambda level: level.price)
)
budgets = st.decimals(min_value=0, max_value=10**9, places=8)


@given(books, quantities, st.none() | prices, budgets, st.sampled_from([Decimal(0), FEE]), st.booleans())
def test_no_walk_exceeds_quantity_limit_offer_or_reservation(
    asks: list[Level], quantity: Decimal, limit: Decimal | None, reserved: Decimal, fee: Decimal, resting: bool
) -> None:
    takes = walk(asks, quantity, limit, reserved, fee, STEP, resting)
    with localcontext(prec=60):
        assert sum(take.quantity for take in takes) <= quantity
        assert sum(take.value + take.fee for take in takes) <= reserved
    for take, level in zip(takes, asks, strict=False):
        assert 0 < take.quantity <= level.quantity
        assert take.quantity % STEP == 0
        assert take.value == take.price * take.quantity
        assert take.fee == take.value * fee
        assert level.price <= take.price
        assert limit is None or take.price <= limit
        assert take.price == (limit if resting and limit is not None else level.price)


@given(books, quantities)
def test_with_money_enough_all_that_is_offered_is_had(asks: list[Level], quantity: Decimal) -> None:
    takes = walk(asks, quantity, None, PLENTY * PLENTY, FEE, STEP)
    offered = sum((level.quantity for level in asks), Decimal(0))
    assert sum((take.quantity for take in takes), Decimal(0)) == min(quantity, offered)


@given(books, quantities, prices)
def test_a_walk_in_two_parts_takes_no_more_than_one(asks: list[Level], quantity: Decimal, limit: Decimal) -> None:
    at_once = sum((take.quantity for take in walk(asks, quantity, limit, PLENTY, FEE, STEP)), Decimal(0))
    half = max(quantity // 2 // STEP * STEP, STEP)
    first = sum((take.quantity for take in walk(asks, half, limit, PLENTY, FEE, STEP)), Decimal(0))
    assert first == min(half, at_once)
