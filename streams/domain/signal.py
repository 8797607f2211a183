"""A signal as the database hands it over, and as it is once its values have been found sound."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from streams.domain.account import Account
from streams.domain.errors import Refused
from streams.domain.money import AVERAGE_PLACES, EXACT, LARGEST, SMALLEST, text
from streams.domain.risk_config import RiskConfig

Mode = Literal["paper", "testnet", "live"]
QUOTE_CURRENCY = "USDT"
SHOWN_LENGTH = 60
SYMBOL = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}")


class PaperFunds(BaseModel):
    """A paper balance in USDT: all of it, and what no working order has reserved."""

    model_config = ConfigDict(frozen=True)

    current: Decimal
    available: Decimal


class Limits(BaseModel):
    """The rules of `risk_limits` that need the market to decide; the rest is decided in SQL."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    min_position_size_usdt: Decimal | None = None
    max_price_deviation_percent: Decimal | None = None
    require_stop_loss: bool | None = None
    max_stop_loss_percent: Decimal | None = None

    def tighter(self, other: Limits) -> Limits:
        """Both rules at once: the stricter of each."""
        return Limits(
            min_position_size_usdt=_most(self.min_position_size_usdt, other.min_position_size_usdt),
            max_price_deviation_percent=_least(self.max_price_deviation_percent, other.max_price_deviation_percent),
            require_stop_loss=bool(self.require_stop_loss) or bool(other.require_stop_loss),
            max_stop_loss_percent=_least(self.max_stop_loss_percent, other.max_stop_loss_percent),
        )


class LimitRows(BaseModel):
    """The limits of the whole account and those of one trader."""

    model_config = ConfigDict(frozen=True)

    account: Limits | None = None
    trader: Limits | None = None

    def effective(self) -> Limits:
        """The limits that hold: of two, the tighter."""
        return (self.account or Limits()).tighter(self.trader or Limits())


class Brief(BaseModel):
    """All that is needed to prepare one ready signal, read in one call; values unchecked, money as text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    seq: int
    user_id: UUID
    trader_id: UUID
    symbol: str | None = None
    side: str | None = None
    order_type: str | None = None
    price: str | None = None
    limit_price: str | None = None
    stop_loss: str | None = None
    take_profit: str | None = None
    ready_at: str
    claimed_at: str
    mode: str
    trader_version: str
    risk_config: str | None = None
    limits: LimitRows = LimitRows()
    paper: PaperFunds | None = None
    equity: str | None = None

    @property
    def account(self) -> Account:
        """Whose turn this signal takes."""
        return Account(self.user_id, self.mode)


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal whose own values are sound: a long in a USDT market, at market or at a limit."""

    brief: Brief
    symbol: str
    reference_price: Decimal | None
    limit_price: Decimal | None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    config: RiskConfig

    @property
    def is_limit(self) -> bool:
        """Whether it waits at a price of its own."""
        return self.limit_price is not None


def validate(brief: Brief) -> Signal:
    """Check all that a signal says by itself, without market or balance.

    Raises Refused with `invalid_signal`, `invalid_stop`, `unknown_symbol`, `unsupported_quote`,
    `short_not_supported` or `invalid_risk_config`.
    """
    symbol = _symbol(brief.symbol)
    if brief.side == "short":
        raise Refused("short_not_supported", "Short positions are not supported; only long signals are traded.")
    if brief.side != "long":
        raise Refused("invalid_signal", f"The side must be long or short, was {_shown(brief.side)}.")
    if brief.order_type not in ("market", "limit"):
        raise Refused("invalid_signal", f"The order type must be market or limit, was {_shown(brief.order_type)}.")
    reference = _price("price", brief.price)
    limit = _price("limit_price", brief.limit_price)
    if brief.order_type == "limit" and limit is None:
        raise Refused("invalid_signal", "A limit signal needs a limit_price.")
    stop = _price("stop_loss", brief.stop_loss)
    target = _price("take_profit", brief.take_profit)
    if stop is not None and target is not None and stop >= target:
        raise Refused(
            "invalid_stop",
            f"The stop {text(stop)} of a long must be below its target {text(target)}.",
            text(stop),
            text(target),
        )
    return Signal(
        brief=brief,
        symbol=symbol,
        reference_price=reference,
        limit_price=limit if brief.order_type == "limit" else None,
        stop_loss=stop,
        take_profit=target,
        config=RiskConfig.read(brief.risk_config),
    )


def _symbol(symbol: str | None) -> str:
    if symbol is None or not SYMBOL.fullmatch(symbol):
        raise Refused(
            "unknown_symbol",
            f"{_shown(symbol)} is no symbol; write base and quote with a slash, as in BTC/USDT.",
            _shown(symbol),
        )
    if symbol.split("/")[1] != QUOTE_CURRENCY:
        raise Refused(
            "unsupported_quote", f"{symbol} is not quoted in {QUOTE_CURRENCY}, the only quote currency traded.", symbol
        )
    return symbol


def _price(name: str, written: str | None) -> Decimal | None:
    if written is None:
        return None
    try:
        price = Decimal(written)
    except InvalidOperation:
        raise Refused("invalid_signal", f"{name} must be a price, was {_shown(written)}.", _shown(written)) from None
    if not price.is_finite() or not SMALLEST <= price <= LARGEST:
        raise Refused(
            "invalid_signal",
            f"{name} must be above zero and at most {text(LARGEST)}, was {_shown(written)}.",
            _shown(written),
        )
    rounded = price.quantize(AVERAGE_PLACES, context=EXACT)
    return price if price == rounded else rounded


def _shown(written: str | None) -> str:
    """What a producer wrote, short enough to quote."""
    quoted = repr(written)
    return quoted if len(quoted) <= SHOWN_LENGTH else f"{quoted[:SHOWN_LENGTH]}…"


def _least(first: Decimal | None, second: Decimal | None) -> Decimal | None:
    given = [value for value in (first, second) if value is not None]
    return min(given) if given else None


def _most(first: Decimal | None, second: Decimal | None) -> Decimal | None:
    given = [value for value in (first, second) if value is not None]
    return max(given) if given else None
