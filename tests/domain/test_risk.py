"""Rules that need the market: each lets through what is at its bound and refuses one step beyond."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.errors import Refused
from streams.domain.risk import Protection, check_market, check_protection
from streams.domain.signal import Limits
from tests.domain import specimens


def test_a_spread_at_the_traders_bound_passes_and_a_wider_one_does_not() -> None:
    signal = specimens.signal(risk_config=specimens.config(max_spread_percent="0.5"))
    check_market(signal, specimens.RULES, specimens.quote("99.50", "100"))
    with pytest.raises(Refused) as refusal:
        check_market(signal, specimens.RULES, specimens.quote("99.49", "100"))
    assert (refusal.value.code, refusal.value.rule_value, refusal.value.limit_value) == (
        "spread_too_wide",
        "0.51",
        "0.5",
    )
    specimens.assert_sound(refusal.value)


def test_without_a_bound_any_spread_passes() -> None:
    check_market(specimens.signal(), specimens.RULES, specimens.quote("1", "100"))


@pytest.mark.parametrize("reference", ["90.91", "111.11"])
def test_a_price_within_the_allowed_deviation_passes(reference: str) -> None:
    limits = {"account": {"max_price_deviation_percent": "10"}}
    check_market(specimens.signal(price=reference, limits=limits), specimens.RULES, specimens.quote())


@pytest.mark.parametrize("reference", ["90.90", "111.12", "0.000000000000000001", "1000000000000000"])
def test_a_price_further_from_the_signals_is_refused(reference: str) -> None:
    limits = {"account": {"max_price_deviation_percent": "20"}, "trader": {"max_price_deviation_percent": "10"}}
    with pytest.raises(Refused) as refusal:
        check_market(specimens.signal(price=reference, limits=limits), specimens.RULES, specimens.quote())
    assert refusal.value.code == "price_deviation"
    specimens.assert_sound(refusal.value)


def test_a_signal_without_a_price_deviates_from_nothing() -> None:
    limits = {"account": {"max_price_deviation_percent": "0"}}
    check_market(specimens.signal(limits=limits), specimens.RULES, specimens.quote())


def test_the_signals_own_stop_and_target_go_before_the_traders() -> None:
    settings = specimens.config(stop_loss_percent="5", take_profit_percent="10")
    own = specimens.signal(stop_loss="91", take_profit="140", risk_config=settings)
    assert Protection.of(own).prices(Decimal(100), specimens.RULES) == (91, 140)
    traders = specimens.signal(risk_config=settings)
    assert Protection.of(traders).prices(Decimal(100), specimens.RULES) == (95, 110)
    assert Protection.of(specimens.signal()).prices(Decimal(100), specimens.RULES) == (None, None)


prices = st.decimals(min_value="0.01", max_value=10**6, places=8)
percents = st.decimals(min_value="0.01", max_value="99.99", places=2)


@given(prices, percents, percents)
def test_stop_and_target_lie_on_the_tick_in_the_holders_favour(
    entry: Decimal, stop_percent: Decimal, target_percent: Decimal
) -> None:
    settings = specimens.config(stop_loss_percent=str(stop_percent), take_profit_percent=str(target_percent))
    stop, target = Protection.of(specimens.signal(risk_config=settings)).prices(entry, specimens.RULES)
    assert stop is not None
    assert target is not None
    tick = specimens.RULES.tick
    assert stop % tick == target % tick == 0
    assert 0 <= stop - entry * (100 - stop_percent) / 100 < tick
    assert 0 <= target - entry * (100 + target_percent) / 100 < tick


@pytest.mark.parametrize(
    ("stop", "target", "code"),
    [
        ("99.99", "100.01", None),
        (None, None, None),
        ("100", None, "invalid_stop"),
        ("100.01", None, "invalid_stop"),
        (None, "100", "invalid_stop"),
        (None, "99.99", "invalid_stop"),
    ],
)
def test_stop_and_target_must_lie_on_their_sides_of_the_entry(
    stop: str | None, target: str | None, code: str | None
) -> None:
    assert _refused(stop, target, Limits()) == code


def test_a_required_stop_must_be_there() -> None:
    assert _refused(None, "120", Limits(require_stop_loss=True)) == "stop_loss_required"
    assert _refused("90", "120", Limits(require_stop_loss=True)) is None
    assert _refused(None, "120", Limits(require_stop_loss=False)) is None


def test_a_stop_may_be_as_far_as_the_limit_and_no_further() -> None:
    assert _refused("90", None, Limits(max_stop_loss_percent=Decimal(10))) is None
    assert _refused("89.99", None, Limits(max_stop_loss_percent=Decimal(10))) == "stop_too_wide"
    assert _refused(None, None, Limits(max_stop_loss_percent=Decimal(10))) is None


def _refused(stop: str | None, target: str | None, limits: Limits) -> str | None:
    try:
        check_protection(
            None if stop is None else Decimal(stop), None if target is None else Decimal(target), Decimal(100), limits
        )
    except Refused as refusal:
        specimens.assert_sound(refusal)
        return refusal.code
    return None
