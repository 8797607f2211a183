"""Exact amounts: rounding to steps, averages, and amounts as text."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.money import average, ceil_to, floor_to, percent_of, raised_by, text

amounts = st.decimals(min_value=0, max_value=10**12, places=18)
steps = st.tuples(st.sampled_from([1, 2, 5]), st.integers(0, 12)).map(lambda one: Decimal(one[0]).scaleb(-one[1]))


@given(amounts, steps)
def test_rounding_down_gives_the_largest_multiple_within(amount: Decimal, step: Decimal) -> None:
    rounded = floor_to(amount, step)
    with localcontext(prec=80):
        assert rounded % step == 0
        assert amount - step < rounded <= amount
    assert floor_to(rounded, step) == rounded


@given(amounts, steps)
def test_rounding_up_gives_the_smallest_multiple_beyond(amount: Decimal, step: Decimal) -> None:
    rounded = ceil_to(amount, step)
    with localcontext(prec=80):
        assert rounded % step == 0
        assert amount <= rounded < amount + step
    assert ceil_to(rounded, step) == rounded


@given(amounts)
def test_a_step_of_zero_leaves_the_amount_alone(amount: Decimal) -> None:
    assert floor_to(amount, Decimal(0)) == ceil_to(amount, Decimal(0)) == amount


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
def test_text_is_plain_digits_of_the_same_amount(amount: Decimal) -> None:
    written = text(amount)
    assert Decimal(written) == amount
    assert set(written) <= set("-.0123456789")
    assert "." not in written or not written.endswith(("0", "."))


@pytest.mark.parametrize(
    ("amount", "written"),
    [("1E+3", "1000"), ("1E-8", "0.00000001"), ("0.10", "0.1"), ("100", "100"), ("-0.00", "0"), ("0E+5", "0")],
)
def test_text_has_neither_exponent_nor_trailing_zeros(amount: str, written: str) -> None:
    assert text(Decimal(amount)) == written


@pytest.mark.parametrize(
    ("value", "quantity", "expected"),
    [
        ("1", "3", "0.333333333333333333"),
        ("2", "3", "0.666666666666666667"),
        ("0.0000000000000000005", "1", "0.000000000000000000"),
        ("0.0000000000000000015", "1", "0.000000000000000002"),
        ("-0.0000000000000000025", "1", "-0.000000000000000002"),
    ],
)
def test_an_average_is_rounded_half_even_to_18_places(value: str, quantity: str, expected: str) -> None:
    assert average(Decimal(value), Decimal(quantity)) == Decimal(expected)


@given(amounts, st.decimals(min_value="0.00000001", max_value=10**9, places=8))
def test_an_average_is_off_by_half_its_last_place_at_most(value: Decimal, quantity: Decimal) -> None:
    with localcontext(prec=80):
        assert abs(average(value, quantity) * quantity - value) <= Decimal("0.5e-18") * quantity + Decimal("1e-40")


@given(amounts, st.decimals(min_value=0, max_value=100, places=6))
def test_percentages_are_exact_and_undo_each_other(amount: Decimal, percent: Decimal) -> None:
    with localcontext(prec=80):
        assert percent_of(amount, percent) * 100 == amount * percent
        assert raised_by(amount, percent) - amount == percent_of(amount, percent)
        assert raised_by(amount, percent) + raised_by(amount, -percent) == 2 * amount


def test_the_callers_decimal_context_changes_nothing() -> None:
    with localcontext(prec=3):
        assert floor_to(Decimal("123456.789"), Decimal("0.01")) == Decimal("123456.78")
        assert average(Decimal(2), Decimal(3)) == Decimal("0.666666666666666667")
        assert percent_of(Decimal("123456.789"), Decimal("0.1")) == Decimal("123.456789")
