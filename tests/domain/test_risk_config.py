"""A trader's settings: read exactly, or refused with a sentence that names what is wrong."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.errors import Refused
from streams.domain.risk_config import RiskConfig
from tests.domain import specimens

SIZE = '"position_size": {"type": "fixed", "value": "25"}'


def test_all_settings_are_read_exactly() -> None:
    config = RiskConfig.read(
        '{"position_size": {"type": "risk", "value": 1.1}, "stop_loss_percent": "0.1", "take_profit_percent": 3,'
        ' "trailing_stop_percent": 2.5, "max_slippage_percent": 0, "max_spread_percent": "0.05",'
        ' "max_hold_minutes": 60}'
    )
    assert config.position_size.type == "risk"
    assert config.position_size.value == Decimal("1.1")
    assert config.stop_loss_percent == Decimal("0.1")
    assert config.take_profit_percent == Decimal(3)
    assert config.trailing_stop_percent == Decimal("2.5")
    assert config.max_slippage_percent == Decimal(0)
    assert config.max_spread_percent == Decimal("0.05")
    assert config.max_hold_minutes == Decimal(60)


@pytest.mark.parametrize("kind", ["percent", "risk"])
def test_the_whole_balance_is_the_most(kind: str) -> None:
    assert RiskConfig.read(specimens.sized_by(kind, "100")).position_size.value == 100
    with pytest.raises(Refused, match="more than the whole balance"):
        RiskConfig.read(specimens.sized_by(kind, "100.01"))
    assert RiskConfig.read(specimens.sized_by("fixed", "100.01")).position_size.value == Decimal("100.01")


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (None, "object"),
        ("", "object"),
        ("null", "object"),
        ("[]", "object"),
        ('"percent"', "object"),
        ("7", "object"),
        ("{", "not JSON"),
        ("{'position_size': 1}", "not JSON"),
        pytest.param("[" * 3000 + "]" * 3000, "not JSON", id="too deep"),
        ("{}", "position_size"),
        ('{"position_size": null}', "position_size"),
        ('{"position_size": 5}', "position_size"),
        ('{"position_size": []}', "position_size"),
        ('{"position_size": {}}', "position_size.type"),
        ('{"position_size": {"type": "fixed"}}', "position_size.value"),
        ('{"position_size": {"type": "all", "value": 1}}', "position_size.type"),
        ('{"position_size": {"type": "Percent", "value": 1}}', "position_size.type"),
        ('{"position_size": {"type": "fixed", "value": 1, "max": 2}}', "position_size.max"),
        ("{" + SIZE + ', "stop_los_percent": 1}', "stop_los_percent"),
    ],
)
def test_a_malformed_config_is_refused_by_name(written: str | None, names: str) -> None:
    with pytest.raises(Refused) as refusal:
        RiskConfig.read(written)
    assert refusal.value.code == "invalid_risk_config"
    assert names in refusal.value.reason
    specimens.assert_sound(refusal.value)


@pytest.mark.parametrize(
    "value",
    [
        *("0", "-1", "true", "false", "null", "[]", "{}", '"ten"', '""'),
        *('"NaN"', "NaN", "Infinity", '"-Infinity"'),
        *("1e999999", '"1e999999"', "1e-999999"),
        pytest.param("9" * 5000, id="thousands of digits"),
        pytest.param("-" + "9" * 5000, id="thousands of digits below zero"),
    ],
)
def test_what_is_no_amount_is_no_size(value: str) -> None:
    with pytest.raises(Refused) as refusal:
        RiskConfig.read('{"position_size": {"type": "fixed", "value": ' + value + "}}")
    assert refusal.value.code == "invalid_risk_config"
    assert "position_size.value" in refusal.value.reason
    specimens.assert_sound(refusal.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("stop_loss_percent", "0"),
        ("stop_loss_percent", "100"),
        ("stop_loss_percent", "-5"),
        ("stop_loss_percent", "true"),
        ("take_profit_percent", "0"),
        ("take_profit_percent", "10001"),
        ("trailing_stop_percent", "100"),
        ("trailing_stop_percent", "NaN"),
        ("max_slippage_percent", "-0.1"),
        ("max_slippage_percent", "100"),
        ("max_spread_percent", "0"),
        ("max_spread_percent", "100.1"),
        ("max_hold_minutes", "0"),
        ("max_hold_minutes", '"soon"'),
        ("max_hold_minutes", "1e999999"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(setting: str, value: str) -> None:
    with pytest.raises(Refused, match=setting) as refusal:
        RiskConfig.read("{" + SIZE + f', "{setting}": {value}' + "}")
    assert refusal.value.code == "invalid_risk_config"
    specimens.assert_sound(refusal.value)


@given(st.decimals(min_value="0.00000001", max_value=10**9, places=8))
def test_a_size_is_the_same_as_number_and_as_text(value: Decimal) -> None:
    written = format(value, "f")
    as_number = RiskConfig.read('{"position_size": {"type": "fixed", "value": ' + written + "}}")
    assert as_number.position_size.value == value
    assert RiskConfig.read(specimens.sized_by("fixed", written)) == as_number


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["position_size", "type", "value", "stop_loss_percent", "x"]), inner, max_size=4
        )
    ),
)


@given(documents)
def test_any_document_is_read_or_refused(document: object) -> None:
    try:
        RiskConfig.read(json.dumps(document))
    except Refused as refusal:
        specimens.assert_sound(refusal, "invalid_risk_config")
