"""How much is bought: never more than the trader allows or can pay, always what the venue takes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.domain.errors import Refused
from streams.domain.market import MarketRules, Quote
from streams.domain.sizing import Funds, Sized, size_entry
from tests.domain import specimens

FEE = Decimal("0.001")
ASK_100 = specimens.quote("99.99", "100")
AT_100: dict[str, Any] = {"order_type": "limit", "limit_price": "100"}


def sized(
    config: str,
    *,
    balance: str = "10000",
    slippage: str = "0.5",
    rules: MarketRules = specimens.RULES,
    quote: Quote = ASK_100,
    **changes: Any,
) -> Sized:
    signal = specimens.signal(risk_config=config, **changes)
    return size_entry(signal, rules, quote, Funds(Decimal(balance), FEE), Decimal(slippage))


def refused(config: str, **circumstances: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        sized(config, **circumstances)
    specimens.assert_sound(refusal.value)
    return refusal.value


@dataclass(frozen=True)
class Case:
    """One market and one trader, at random."""

    kind: str
    value: Decimal
    stop_percent: Decimal
    slippage: Decimal
    balance: Decimal
    rules: MarketRules
    quote: Quote
    limit_price: Decimal | None

    def size(self, balance: Decimal | None = None, value: Decimal | None = None) -> Sized:
        value = self.value if value is None else value
        size = specimens.sized_by(self.kind, format(value, "f"), stop_loss_percent=str(self.stop_percent))
        terms: dict[str, str] = {}
        if self.limit_price is not None:
            terms = {"order_type": "limit", "limit_price": format(self.limit_price, "f")}
        signal = specimens.signal(risk_config=size, **terms)
        funds = Funds(self.balance if balance is None else balance, FEE)
        return size_entry(signal, self.rules, self.quote, funds, self.slippage)

    def size_or_skip(self, balance: Decimal | None = None, value: Decimal | None = None) -> Sized:
        try:
            return self.size(balance, value)
        except Refused as refusal:
            specimens.assert_sound(refusal)
            assume(False)
            raise


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = ("percent", "fixed", "risk")) -> Case:
    """A market of any scale, and a trader who buys some steps of it: most are sized, some refused."""
    tick = Decimal(1).scaleb(-draw(st.integers(0, 8)))
    step = Decimal(1).scaleb(-draw(st.integers(0, 8)))
    ask = tick * draw(st.integers(100, 10**7))
    kind = draw(st.sampled_from(kinds))
    bought = draw(st.integers(1, 10**6)) * step * ask
    percent = draw(st.decimals(min_value="0.01", max_value=100, places=2))
    return Case(
        kind=kind,
        value=bought if kind == "fixed" else percent,
        stop_percent=draw(st.decimals(min_value=2, max_value=98, places=1)),
        slippage=draw(st.decimals(min_value=0, max_value=5, places=2)),
        balance=(bought * draw(st.integers(90, 1000)) / percent).quantize(Decimal("1e-8")),
        rules=specimens.rules(
            tick=tick,
            step=step,
            min_quantity=step * draw(st.integers(1, 3)),
            max_quantity=step * draw(st.integers(10**4, 10**8)),
            market_max_quantity=step * draw(st.integers(10**4, 10**8)),
            min_notional=bought * draw(st.integers(0, 99)) / 100,
        ),
        quote=Quote("BTC/USDT", ask, ask, 0.0),
        limit_price=draw(st.none() | st.integers(-50, 50).map(lambda ticks: ask + ticks * tick)),
    )


@given(cases(kinds=("percent", "risk")))
def test_a_size_from_the_balance_never_exceeds_it_fee_included(case: Case) -> None:
    entry = case.size_or_skip()
    assert entry.worst_value + entry.fee_reserve <= case.balance
    if case.kind == "percent":
        assert entry.worst_value <= case.balance * case.value / 100


@given(cases(kinds=("fixed",)))
def test_a_fixed_size_is_never_exceeded(case: Case) -> None:
    assert case.size_or_skip().worst_value <= case.value


@given(cases(kinds=("risk",)))
def test_at_the_stop_no_more_is_lost_than_was_to_be_risked(case: Case) -> None:
    entry = case.size_or_skip()
    assert entry.stop_loss_price is not None
    with localcontext(prec=60):
        lost = entry.worst_value - entry.quantity * entry.stop_loss_price
        assert lost <= case.balance * case.value / 100


@given(cases())
def test_every_order_passes_the_venues_filters(case: Case) -> None:
    entry, rules = case.size_or_skip(), case.rules
    assert entry.quantity > 0
    assert entry.quantity % rules.step == 0
    assert rules.min_quantity <= entry.quantity <= rules.max_quantity
    assert entry.quantity * min(entry.price or case.quote.ask, case.quote.ask) >= rules.min_notional
    if entry.price is None:
        assert entry.quantity <= rules.market_max_quantity
    else:
        assert entry.price > 0
        assert entry.price % rules.tick == 0


@given(cases())
def test_what_is_reserved_covers_the_worst_fill(case: Case) -> None:
    entry = case.size_or_skip()
    assert entry.fee_reserve == entry.worst_value * FEE
    if entry.price is None:
        assert entry.worst_value == entry.quantity * case.quote.ask * Decimal("1.05")
    else:
        assert entry.worst_value == entry.quantity * entry.price


@given(cases())
def test_the_bound_is_at_the_ask_or_above_and_within_the_slippage(case: Case) -> None:
    entry = case.size_or_skip()
    if case.limit_price is not None:
        assert (entry.type, entry.time_in_force, entry.price) == ("limit", "GTC", case.limit_price)
    elif case.slippage == 0:
        assert (entry.type, entry.time_in_force, entry.price) == ("market", None, None)
    else:
        assert (entry.type, entry.time_in_force) == ("limit", "IOC")
        assert entry.price is not None
        assert case.quote.ask <= entry.price <= case.quote.ask * (1 + case.slippage / 100)


@given(cases(), st.integers(1, 10))
def test_more_money_or_a_larger_size_never_buys_less(case: Case, factor: int) -> None:
    entry = case.size_or_skip()
    assert case.size_or_skip(balance=case.balance * factor).quantity >= entry.quantity
    larger = case.value * factor if case.kind == "fixed" else min(case.value * factor, Decimal(100))
    assert case.size_or_skip(value=larger).quantity >= entry.quantity


def test_a_market_entry_is_bounded_by_the_traders_slippage_before_the_default() -> None:
    assert sized(specimens.sized_by("fixed", "100")).price == Decimal("100.50")
    assert sized(specimens.sized_by("fixed", "100", max_slippage_percent="1.239")).price == Decimal("101.23")
    assert sized(specimens.sized_by("fixed", "200", max_slippage_percent="0")).price is None


def test_a_fixed_size_is_bought_at_the_worst_price() -> None:
    entry = sized(specimens.sized_by("fixed", "100"))
    assert entry.quantity == Decimal("0.995")
    assert entry.worst_value == Decimal("99.9975")
    assert entry.fee_reserve == Decimal("0.0999975")


def test_a_percent_is_of_what_the_balance_buys_after_fees() -> None:
    entry = sized(specimens.sized_by("percent", "100"), balance="1001", slippage="0.1")
    assert entry.quantity == Decimal("9.990")
    assert entry.worst_value + entry.fee_reserve <= 1001


def test_a_size_by_risk_loses_its_percentage_at_the_stop() -> None:
    entry = sized(specimens.sized_by("risk", "1"), **AT_100, stop_loss="90")
    assert entry.quantity == 10
    assert entry.stop_loss_price == 90
    assert entry.max_loss_usdt == 100 + 1 + Decimal("0.9")  # and the fees of both ways


def test_a_size_by_risk_is_cut_to_the_balance() -> None:
    entry = sized(specimens.sized_by("risk", "50"), **AT_100, stop_loss="99")
    assert entry.quantity == Decimal("99.900")


def test_without_a_stop_no_loss_is_named() -> None:
    assert sized(specimens.sized_by("fixed", "100")).max_loss_usdt is None


def test_a_size_by_risk_needs_a_stop() -> None:
    assert refused(specimens.sized_by("risk", "1")).code == "stop_loss_required"


@pytest.mark.parametrize("kind", ["percent", "risk"])
@pytest.mark.parametrize("balance", ["0", "-5"])
def test_nothing_is_sized_from_an_empty_balance(kind: str, balance: str) -> None:
    assert refused(specimens.sized_by(kind, "10"), balance=balance, stop_loss="90").code == "insufficient_balance"


def test_the_smallest_notional_passes_and_a_step_less_does_not() -> None:
    assert sized(specimens.sized_by("fixed", "5"), **AT_100).worst_value == 5
    refusal = refused(specimens.sized_by("fixed", "4.99"), **AT_100)
    assert (refusal.code, refusal.rule_value, refusal.limit_value) == ("below_min_notional", "4.9", "5")


def test_the_smallest_quantity_passes_and_a_step_less_does_not() -> None:
    small: dict[str, Any] = {"rules": specimens.rules(min_notional=Decimal(0), min_quantity=Decimal("0.010"))} | AT_100
    assert sized(specimens.sized_by("fixed", "1"), **small).quantity == Decimal("0.010")
    assert refused(specimens.sized_by("fixed", "0.999"), **small).code == "position_too_small"


def test_the_largest_quantity_passes_and_a_step_more_does_not() -> None:
    rules = specimens.rules(max_quantity=Decimal("10"), market_max_quantity=Decimal("5"))
    assert sized(specimens.sized_by("fixed", "1000"), **AT_100, rules=rules).quantity == 10
    more = refused(specimens.sized_by("fixed", "1000.1"), **AT_100, rules=rules)
    assert more.code == "position_too_large"
    assert sized(specimens.sized_by("fixed", "525"), slippage="0", rules=rules).quantity == 5
    assert refused(specimens.sized_by("fixed", "525.105"), slippage="0", rules=rules).code == "position_too_large"


def test_a_maximum_of_zero_is_none() -> None:
    rules = specimens.rules(max_quantity=Decimal(0), market_max_quantity=Decimal(0))
    assert sized(specimens.sized_by("fixed", "1000000000"), slippage="0", rules=rules).quantity > 9_000_000


def test_the_smallest_position_of_the_limits_passes_and_a_step_less_does_not() -> None:
    limits = {"account": {"min_position_size_usdt": "50"}}
    assert sized(specimens.sized_by("fixed", "50"), limits=limits, **AT_100).worst_value == 50
    assert refused(specimens.sized_by("fixed", "49.99"), limits=limits, **AT_100).code == "position_too_small"


def test_a_price_at_the_edge_of_the_venues_band_passes_and_a_tick_beyond_does_not() -> None:
    rules = specimens.rules(bid_multiplier_up=Decimal("1.2"), bid_multiplier_down=Decimal("0.8"))
    quote = specimens.quote("100", "100")
    for edge, beyond in (("120", "120.01"), ("80", "79.99")):
        config = specimens.sized_by("fixed", "200")
        sized(config, order_type="limit", limit_price=edge, rules=rules, quote=quote)
        refusal = refused(config, order_type="limit", limit_price=beyond, rules=rules, quote=quote)
        assert refusal.code == "price_deviation"


def test_a_limit_price_is_brought_down_to_the_tick() -> None:
    entry = sized(specimens.sized_by("fixed", "100"), order_type="limit", limit_price="99.999")
    assert entry.price == Decimal("99.99")


def test_a_limit_price_below_a_tick_is_no_price() -> None:
    refusal = refused(specimens.sized_by("fixed", "100"), order_type="limit", limit_price="0.009")
    assert refusal.code == "invalid_signal"


def test_stop_and_target_are_judged_by_the_price_expected() -> None:
    config = specimens.sized_by("fixed", "100")
    assert refused(config, stop_loss="100").code == "invalid_stop"
    assert refused(config, take_profit="100").code == "invalid_stop"
    assert refused(config, order_type="limit", limit_price="90", stop_loss="95").code == "invalid_stop"
    assert sized(config, stop_loss="99.99", take_profit="100.01").stop_loss_price == Decimal("99.99")


def test_the_limits_stop_rules_hold_at_sizing() -> None:
    config = specimens.sized_by("fixed", "100")
    assert refused(config, limits={"account": {"require_stop_loss": True}}).code == "stop_loss_required"
    wide = {"trader": {"max_stop_loss_percent": "2"}}
    assert refused(config, limits=wide, stop_loss="97.99").code == "stop_too_wide"
    assert sized(config, limits=wide, stop_loss="98").stop_loss_price == 98


@pytest.mark.parametrize(("balance", "fits"), [("100", True), ("99.99", False), ("100.01", True)])
def test_a_balance_at_the_venue_is_judged_before_an_order_is_sent(balance: str, fits: bool) -> None:
    signal = specimens.signal(risk_config=specimens.sized_by("fixed", "100"), **AT_100)
    funds = Funds(Decimal(balance), FEE, at_venue=True)
    if fits:
        assert size_entry(signal, specimens.RULES, ASK_100, funds, Decimal(0)).worst_value <= funds.balance
    else:
        with pytest.raises(Refused) as refusal:
            size_entry(signal, specimens.RULES, ASK_100, funds, Decimal(0))
        specimens.assert_sound(refusal.value, "insufficient_balance")


def test_a_balance_in_rows_is_left_to_admission() -> None:
    assert sized(specimens.sized_by("fixed", "100"), balance="1", **AT_100).worst_value == 100
