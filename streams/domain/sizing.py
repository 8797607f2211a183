"""How much to buy, at which price at worst, and what that can cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.domain.errors import Refused
from streams.domain.market import MarketRules, Quote
from streams.domain.money import ZERO, exact, floor_to, percent_of, raised_by, text
from streams.domain.risk import Protection, check_protection
from streams.domain.signal import Signal

UNBOUNDED_RESERVE_PERCENT = Decimal(5)  # reserved above the ask where an entry has no slippage bound


@dataclass(frozen=True, slots=True)
class Funds:
    """What an entry may spend from, and the fee that the venue takes of a value (0.001 is 0.1 %).

    `at_venue`: the balance is the venue's own, so it is judged here; one that is in rows is judged at admission.
    """

    balance: Decimal
    fee_rate: Decimal
    at_venue: bool = False


@dataclass(frozen=True, slots=True)
class Sized:
    """An entry order in full: what goes to the venue and what is reserved for it, all in exact amounts."""

    type: str
    time_in_force: str | None
    quantity: Decimal
    price: Decimal | None
    worst_value: Decimal
    fee_reserve: Decimal
    stop_loss_price: Decimal | None
    take_profit_price: Decimal | None
    max_loss_usdt: Decimal | None
    protection: Protection


@exact
def size_entry(
    signal: Signal, rules: MarketRules, quote: Quote, funds: Funds, default_slippage_percent: Decimal
) -> Sized:
    """Turn a signal into its entry order.

    The worst price decides the quantity, so that the value never exceeds what the trader allows; the result
    passes the venue's filters. Raises Refused with `invalid_stop`, `stop_loss_required`, `stop_too_wide`,
    `below_min_notional`, `position_too_small`, `position_too_large`, `price_deviation` or
    `insufficient_balance`.
    """
    order_type, time_in_force, price, worst = _terms(signal, rules, quote, default_slippage_percent)
    expected = min(quote.ask, worst)
    protection = Protection.of(signal)
    stop, target = protection.prices(expected, rules)
    limits = signal.brief.limits.effective()
    check_protection(stop, target, expected, limits)
    quantity = floor_to(_budget(signal, worst, stop, funds) / worst, rules.step)
    _check_filters(quantity, price, worst, order_type, rules, quote)
    if limits.min_position_size_usdt is not None and quantity * expected < limits.min_position_size_usdt:
        raise Refused(
            "position_too_small",
            f"The position would be worth {text(quantity * expected)} USDT, below the limit of "
            f"{text(limits.min_position_size_usdt)} USDT.",
            text(quantity * expected),
            limits.min_position_size_usdt,
        )
    worst_value = quantity * worst
    if funds.at_venue and worst_value > funds.balance:
        raise Refused(
            "insufficient_balance",
            f"The entry may cost {text(worst_value)} USDT; the exchange account has {text(funds.balance)} USDT free.",
            text(worst_value),
            text(funds.balance),
        )
    fee_reserve = worst_value * funds.fee_rate
    loss = None if stop is None else quantity * (worst - stop) + fee_reserve + quantity * stop * funds.fee_rate
    return Sized(order_type, time_in_force, quantity, price, worst_value, fee_reserve, stop, target, loss, protection)


def _terms(
    signal: Signal, rules: MarketRules, quote: Quote, default_slippage_percent: Decimal
) -> tuple[str, str | None, Decimal | None, Decimal]:
    """Order type, time in force, price, and the worst price that it can fill at."""
    if signal.limit_price is not None:
        price = floor_to(signal.limit_price, rules.tick)
        if price <= ZERO:
            raise Refused(
                "invalid_signal",
                f"The limit price {text(signal.limit_price)} is below the exchange's tick of {text(rules.tick)}.",
                signal.limit_price,
                rules.tick,
            )
        return "limit", "GTC", price, price
    bound = signal.config.max_slippage_percent
    bound = default_slippage_percent if bound is None else bound
    if bound == ZERO:
        return "market", None, None, raised_by(quote.ask, UNBOUNDED_RESERVE_PERCENT)
    price = floor_to(raised_by(quote.ask, bound), rules.tick)
    return "limit", "IOC", price, price


def _budget(signal: Signal, worst: Decimal, stop: Decimal | None, funds: Funds) -> Decimal:
    """The quote amount that the entry may be worth at its worst price, its fee not included."""
    size = signal.config.position_size
    affordable = funds.balance / (1 + funds.fee_rate)
    if size.type == "fixed":
        return size.value
    if affordable <= ZERO:
        raise Refused("insufficient_balance", "No free balance is left to size the position from.", funds.balance)
    if size.type == "percent":
        return percent_of(affordable, size.value)
    if stop is None:
        raise Refused("stop_loss_required", "A size by risk needs a stop; neither signal nor trader gives one.")
    return min(percent_of(funds.balance, size.value) / (worst - stop) * worst, affordable)


def _check_filters(
    quantity: Decimal, price: Decimal | None, worst: Decimal, order_type: str, rules: MarketRules, quote: Quote
) -> None:
    value = quantity * min(worst, quote.ask)
    if value < rules.min_notional:
        raise Refused(
            "below_min_notional",
            f"An order of {text(value)} USDT is below the exchange's minimum of {text(rules.min_notional)} USDT "
            f"for {rules.symbol}.",
            text(value),
            rules.min_notional,
        )
    if quantity < rules.min_quantity or quantity <= ZERO:
        raise Refused(
            "position_too_small",
            f"A quantity of {text(quantity)} {rules.base} is below the exchange's minimum of "
            f"{text(rules.min_quantity)}.",
            text(quantity),
            rules.min_quantity,
        )
    maxima = [rules.max_quantity]
    if order_type == "market":
        maxima.append(rules.market_max_quantity)
    most = min((maximum for maximum in maxima if maximum > ZERO), default=None)
    if most is not None and quantity > most:
        raise Refused(
            "position_too_large",
            f"A quantity of {text(quantity)} {rules.base} is above the exchange's maximum of {text(most)}.",
            text(quantity),
            most,
        )
    if price is not None and rules.bid_multiplier_up > ZERO:
        lowest, highest = quote.bid * rules.bid_multiplier_down, quote.ask * rules.bid_multiplier_up
        if not lowest <= price <= highest:
            raise Refused(
                "price_deviation",
                f"The exchange takes buy orders for {rules.symbol} between {text(lowest)} and {text(highest)} now; "
                f"{text(price)} is outside.",
                price,
                highest,
            )
