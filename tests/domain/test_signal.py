"""A signal's own values: sound ones pass unchanged, every other is refused with its code."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.account import Account
from streams.domain.errors import Refused
from streams.domain.signal import LimitRows, Limits, validate
from tests.domain import specimens


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": None}, "unknown_symbol"),
        ({"symbol": ""}, "unknown_symbol"),
        ({"symbol": "BTCUSDT"}, "unknown_symbol"),
        ({"symbol": "btc/usdt"}, "unknown_symbol"),
        ({"symbol": "BTC/USDT:USDT"}, "unknown_symbol"),
        ({"symbol": "BTC/USDT\n"}, "unknown_symbol"),
        ({"symbol": "B" * 10_000}, "unknown_symbol"),
        ({"symbol": "ETH/BTC"}, "unsupported_quote"),
        ({"symbol": "BTC/USDC"}, "unsupported_quote"),
        ({"side": "short"}, "short_not_supported"),
        ({"side": "up"}, "invalid_signal"),
        ({"side": "x" * 10_000}, "invalid_signal"),
        ({"side": None}, "invalid_signal"),
        ({"order_type": "stop"}, "invalid_signal"),
        ({"order_type": None}, "invalid_signal"),
        ({"order_type": "limit"}, "invalid_signal"),
        ({"price": "-1"}, "invalid_signal"),
        ({"price": "0"}, "invalid_signal"),
        ({"price": "NaN"}, "invalid_signal"),
        ({"price": "Infinity"}, "invalid_signal"),
        ({"price": "a lot"}, "invalid_signal"),
        ({"price": ""}, "invalid_signal"),
        ({"price": "9" * 10_000}, "invalid_signal"),
        ({"price": "0." + "0" * 10_000 + "1"}, "invalid_signal"),
        ({"price": "-" + "9" * 10_000}, "invalid_signal"),
        ({"order_type": "limit", "limit_price": "-0.01"}, "invalid_signal"),
        ({"limit_price": "-5"}, "invalid_signal"),
        ({"stop_loss": "-5"}, "invalid_signal"),
        ({"take_profit": "0"}, "invalid_signal"),
        ({"stop_loss": "110", "take_profit": "105"}, "invalid_stop"),
        ({"stop_loss": "105", "take_profit": "105"}, "invalid_stop"),
        ({"risk_config": None}, "invalid_risk_config"),
        ({"risk_config": "{}"}, "invalid_risk_config"),
    ],
)
def test_an_unsound_signal_is_refused_in_a_sentence(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        validate(specimens.brief(**changes))
    assert refusal.value.code == code
    specimens.assert_sound(refusal.value)


def test_a_sound_market_signal_keeps_its_values() -> None:
    signal = validate(specimens.brief(price="100.5", stop_loss="95", take_profit="120", limit_price="99"))
    assert (signal.symbol, signal.reference_price) == ("BTC/USDT", Decimal("100.5"))
    assert (signal.stop_loss, signal.take_profit) == (Decimal(95), Decimal(120))
    assert not signal.is_limit
    assert signal.limit_price is None


def test_a_limit_signal_waits_at_its_own_price() -> None:
    signal = validate(specimens.brief(order_type="limit", limit_price="0.00000001"))
    assert signal.is_limit
    assert signal.limit_price == Decimal("0.00000001")


words = st.none() | st.text(max_size=12) | st.sampled_from(["long", "market", "limit", "BTC/USDT", "100", "1e9", "-1"])


@given(st.dictionaries(st.sampled_from(["symbol", "side", "order_type", "price", "limit_price", "stop_loss"]), words))
def test_whatever_a_producer_writes_is_sound_or_refused(changes: dict[str, Any]) -> None:
    try:
        signal = validate(specimens.brief(**changes))
    except Refused as refusal:
        specimens.assert_sound(refusal)
    else:
        prices = (signal.reference_price, signal.limit_price, signal.stop_loss, signal.take_profit)
        assert all(price is None or (price.is_finite() and price > 0) for price in prices)


bounds = st.none() | st.decimals(min_value=0, max_value=1000, places=2)
limits = st.builds(
    Limits,
    min_position_size_usdt=bounds,
    max_price_deviation_percent=bounds,
    require_stop_loss=st.none() | st.booleans(),
    max_stop_loss_percent=bounds,
)


@given(st.none() | limits, st.none() | limits)
def test_of_two_limits_the_tighter_holds(of_account: Limits | None, of_trader: Limits | None) -> None:
    effective = LimitRows(account=of_account, trader=of_trader).effective()
    for one in (of_account, of_trader):
        if one is None:
            continue
        if one.min_position_size_usdt is not None:
            assert effective.min_position_size_usdt is not None
            assert effective.min_position_size_usdt >= one.min_position_size_usdt
        for mine, theirs in (
            (effective.max_price_deviation_percent, one.max_price_deviation_percent),
            (effective.max_stop_loss_percent, one.max_stop_loss_percent),
        ):
            assert theirs is None or (mine is not None and mine <= theirs)
        assert effective.require_stop_loss or not one.require_stop_loss
    assert LimitRows(account=of_trader, trader=of_account).effective() == effective


def test_limits_of_two_rows_come_from_text_as_the_database_writes_them() -> None:
    brief = specimens.brief(limits={"account": {"min_position_size_usdt": "10.50"}, "trader": None})
    assert brief.limits.effective().min_position_size_usdt == Decimal("10.50")


def test_a_brief_names_its_account() -> None:
    brief = specimens.brief(user_id=specimens.BEN, mode="testnet")
    assert brief.account == Account(specimens.BEN, "testnet")
