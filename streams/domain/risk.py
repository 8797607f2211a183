"""The rules that need the market: what can be decided from rows alone is decided in SQL, at admission."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.domain.errors import Refused
from streams.domain.market import MarketRules, Quote
from streams.domain.money import HUNDRED, ceil_to, exact, raised_by, text
from streams.domain.signal import Limits, Signal


@exact
def check_market(signal: Signal, rules: MarketRules, quote: Quote) -> None:
    """Refuse what the market speaks against: too wide a spread, a price far from the signal's.

    Raises Refused with `spread_too_wide` or `price_deviation`.
    """
    spread_bound = signal.config.max_spread_percent
    if spread_bound is not None:
        spread = (quote.ask - quote.bid) / quote.ask * HUNDRED
        if spread > spread_bound:
            raise Refused(
                "spread_too_wide",
                f"The spread of {rules.symbol} is {_shown(spread)} %, above the trader's {text(spread_bound)} %.",
                _shown(spread),
                spread_bound,
            )
    deviation_bound = signal.brief.limits.effective().max_price_deviation_percent
    if deviation_bound is not None and signal.reference_price is not None:
        deviation = abs(quote.ask - signal.reference_price) / signal.reference_price * HUNDRED
        if deviation > deviation_bound:
            raise Refused(
                "price_deviation",
                f"{rules.symbol} is at {text(quote.ask)}, {_shown(deviation)} % from the signal's price "
                f"{text(signal.reference_price)}; at most {text(deviation_bound)} % is allowed.",
                _shown(deviation),
                deviation_bound,
            )


@dataclass(frozen=True, slots=True)
class Protection:
    """Stop and target as admitted: prices that the signal named, or percentages that follow the entry price.

    With them go how far below its peak the price may fall, and for how many minutes the position may be held.
    """

    stop_price: Decimal | None = None
    stop_percent: Decimal | None = None
    target_price: Decimal | None = None
    target_percent: Decimal | None = None
    trailing_percent: Decimal | None = None
    max_hold_minutes: Decimal | None = None

    @classmethod
    def of(cls, signal: Signal) -> Protection:
        """The signal's own prices, else the trader's percentages."""
        config = signal.config
        return cls(
            stop_price=signal.stop_loss,
            stop_percent=config.stop_loss_percent if signal.stop_loss is None else None,
            target_price=signal.take_profit,
            target_percent=config.take_profit_percent if signal.take_profit is None else None,
            trailing_percent=config.trailing_stop_percent,
            max_hold_minutes=config.max_hold_minutes,
        )

    @exact
    def prices(self, entry_price: Decimal, rules: MarketRules) -> tuple[Decimal | None, Decimal | None]:
        """Stop and target for an entry at this price, brought to the tick in the holder's favour.

        A stop never loses more, a target never earns less.
        """
        stop, target = self.stop_price, self.target_price
        if self.stop_percent is not None:
            stop = raised_by(entry_price, -self.stop_percent)
        if self.target_percent is not None:
            target = raised_by(entry_price, self.target_percent)
        return (
            None if stop is None else ceil_to(stop, rules.tick),
            None if target is None else ceil_to(target, rules.tick),
        )


@exact
def check_protection(stop: Decimal | None, target: Decimal | None, entry_price: Decimal, limits: Limits) -> None:
    """Refuse a stop or target on the wrong side of the entry, a missing stop, one too far away.

    Raises Refused with `invalid_stop`, `stop_loss_required` or `stop_too_wide`.
    """
    if stop is None and limits.require_stop_loss:
        raise Refused("stop_loss_required", "The limits require a stop; neither signal nor trader gives one.")
    if stop is not None and stop >= entry_price:
        raise Refused(
            "invalid_stop",
            f"The stop {text(stop)} of a long must be below its entry price {text(entry_price)}.",
            stop,
            entry_price,
        )
    if target is not None and target <= entry_price:
        raise Refused(
            "invalid_stop",
            f"The target {text(target)} of a long must be above its entry price {text(entry_price)}.",
            target,
            entry_price,
        )
    widest = limits.max_stop_loss_percent
    if stop is not None and widest is not None:
        distance = (entry_price - stop) / entry_price * HUNDRED
        if distance > widest:
            raise Refused(
                "stop_too_wide",
                f"The stop is {_shown(distance)} % away, above the limit of {text(widest)} %.",
                _shown(distance),
                widest,
            )


def _shown(percent: Decimal) -> str:
    return text(percent.quantize(Decimal("0.0001")))
