"""Each limit that needs the market, for the account and for a trader: at it, one step under it and one over it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from streams.domain.errors import Refused
from streams.domain.risk import check_market
from streams.domain.signal import Limits
from streams.domain.sizing import Funds, Sized, size_entry
from tests.domain import specimens

SCOPES = ("account", "trader")
LOOSE: dict[str, str | bool] = {
    "min_position_size_usdt": "0.00000001",
    "max_price_deviation_percent": "99.99999999",
    "max_stop_loss_percent": "99.99999999",
    "require_stop_loss": False,
}
# Of an entry worth 100 USDT at 100, with a stop at 90 and a reference price of 80.
AT = {
    "min_position_size_usdt": ("100", "position_too_small"),
    "max_price_deviation_percent": ("25", "price_deviation"),
    "max_stop_loss_percent": ("10", "stop_too_wide"),
}
UNIT = Decimal("0.00000001")


def tightened(limit: str, units: int) -> str:
    """The limit so many of its smallest units tighter than what the entry asks for."""
    most = Decimal(AT[limit][0])
    return format(most + units * UNIT if limit.startswith("min_") else most - units * UNIT, "f")


def enter(
    limits: Mapping[str, object],
    *,
    value: str = "100",
    ask: str = "100",
    stop: str | None = "90",
    reference: str | None = "80",
    slippage: str | None = None,
) -> Sized | str:
    """An entry as it is prepared, or the code of its refusal."""
    terms: dict[str, str] = {} if slippage else {"order_type": "limit", "limit_price": "100"}
    config = specimens.sized_by("fixed", value)
    signal = specimens.signal(risk_config=config, limits=limits, price=reference, stop_loss=stop, **terms)
    quote = specimens.quote("99", ask)
    funds = Funds(Decimal(10000), Decimal("0.001"))
    try:
        check_market(signal, specimens.RULES, quote)
        return size_entry(signal, specimens.RULES, quote, funds, Decimal(slippage or 0))
    except Refused as refusal:
        specimens.assert_sound(refusal)
        return refusal.code


def test_every_limit_that_needs_the_market_is_tried_here() -> None:
    assert set(LOOSE) == set(Limits.model_fields) == {*AT, "require_stop_loss"}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("limit", AT)
@pytest.mark.parametrize("units", [-1, 0, 1])
def test_an_entry_at_its_limit_passes_and_one_unit_beyond_does_not(limit: str, scope: str, units: int) -> None:
    outcome = enter({scope: {limit: tightened(limit, units)}})
    assert outcome == AT[limit][1] if units > 0 else isinstance(outcome, Sized)


@pytest.mark.parametrize("tighter", SCOPES)
@pytest.mark.parametrize("limit", AT)
@pytest.mark.parametrize("units", [0, 1])
def test_of_two_limits_the_tighter_holds(limit: str, tighter: str, units: int) -> None:
    looser = "trader" if tighter == "account" else "account"
    for other in (LOOSE[limit], tightened(limit, -1)):
        outcome = enter({tighter: {limit: tightened(limit, units)}, looser: {limit: other}})
        assert outcome == AT[limit][1] if units > 0 else isinstance(outcome, Sized)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("value", "fits"), [("50.1", True), ("50", True), ("49.99999999", False), ("49.9", False), ("50.09999999", True)]
)
def test_the_smallest_position_is_held_against_what_is_bought(scope: str, value: str, fits: bool) -> None:
    outcome = enter({scope: {"min_position_size_usdt": "50"}}, value=value)
    assert isinstance(outcome, Sized) if fits else outcome == "position_too_small"


def test_the_smallest_position_is_held_against_the_price_expected_and_not_the_worst() -> None:
    limits: dict[str, object] = {"account": {"min_position_size_usdt": "99.5"}}
    assert isinstance(enter(limits, slippage="0.5"), Sized)  # 0.995 at 100; at worst it costs 99.9975
    assert enter({"account": {"min_position_size_usdt": "99.50000001"}}, slippage="0.5") == "position_too_small"


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("ask", "passes"),
    [("119.99", True), ("120", True), ("120.01", False), ("80.01", True), ("80", True), ("79.99", False)],
)
def test_a_market_one_tick_beyond_the_deviation_is_refused_on_either_side(scope: str, ask: str, passes: bool) -> None:
    signal = specimens.signal(price="100", limits={scope: {"max_price_deviation_percent": "20"}})
    quote = specimens.quote("70", ask)
    if passes:
        check_market(signal, specimens.RULES, quote)
    else:
        with pytest.raises(Refused) as refusal:
            check_market(signal, specimens.RULES, quote)
        specimens.assert_sound(refusal.value, "price_deviation")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("ask", "passes"), [("99.99", False), ("100", True), ("100.01", False)])
def test_a_deviation_of_nothing_is_a_limit_too(scope: str, ask: str, passes: bool) -> None:
    outcome = enter({scope: {"max_price_deviation_percent": "0"}}, ask=ask, reference="100")
    assert isinstance(outcome, Sized) if passes else outcome == "price_deviation"


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("stop", "passes"), [("90.01", True), ("90", True), ("89.99", False), ("89.99999999", True), ("89.98999999", False)]
)
def test_a_stop_one_tick_further_than_the_limit_is_refused(scope: str, stop: str, passes: bool) -> None:
    outcome = enter({scope: {"max_stop_loss_percent": "10"}}, stop=stop)
    assert isinstance(outcome, Sized) if passes else outcome == "stop_too_wide"


@pytest.mark.parametrize("account", [None, False, True])
@pytest.mark.parametrize("trader", [None, False, True])
@pytest.mark.parametrize("stop", [None, "99.99"])
def test_a_stop_is_required_by_either(account: bool | None, trader: bool | None, stop: str | None) -> None:
    limits = {"account": {"require_stop_loss": account}, "trader": {"require_stop_loss": trader}}
    outcome = enter(limits, stop=stop)
    assert outcome == "stop_loss_required" if stop is None and (account or trader) else isinstance(outcome, Sized)


@pytest.mark.parametrize("limit", LOOSE)
def test_no_limit_is_none(limit: str) -> None:
    for limits in ({}, {"account": None, "trader": None}, {scope: {limit: None} for scope in SCOPES}):
        assert isinstance(enter(limits, stop=None, value="5", reference="0.01"), Sized)
