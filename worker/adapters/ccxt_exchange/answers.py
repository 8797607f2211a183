"""Reading Binance's answers: amounts are its own text, and whatever is none is said to be none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from streams.domain.errors import Transient
from streams.domain.market import Level, MarketRules, Quote
from streams.domain.money import ZERO

BROKEN_ANSWERS = (TypeError, LookupError, ValueError, ArithmeticError)
"""What reading an answer raises that is none: an error page, a field that is missing, a price that is no number."""

STATUSES = {
    "NEW": "submitted",
    "PENDING_NEW": "submitted",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "PENDING_CANCEL": "submitted",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",
    "REJECTED": "failed",
}
"""Our word for each state of an order of Binance's."""


def rules_of(info: Any) -> MarketRules:
    """Read one symbol of Binance's exchangeInfo."""
    filters: dict[str, Any] = {one["filterType"]: one for one in info.get("filters", [])}
    lot = filters.get("LOT_SIZE", {})
    notional: Any = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
    percent = filters.get("PERCENT_PRICE_BY_SIDE", {})
    return MarketRules(
        symbol=f"{info['baseAsset']}/{info['quoteAsset']}",
        base=info["baseAsset"],
        quote=info["quoteAsset"],
        trading=info.get("status") == "TRADING",
        tick=Decimal(filters.get("PRICE_FILTER", {}).get("tickSize", "0")),
        step=Decimal(lot.get("stepSize", "0")),
        min_quantity=Decimal(lot.get("minQty", "0")),
        max_quantity=Decimal(lot.get("maxQty", "0")),
        market_max_quantity=Decimal(filters.get("MARKET_LOT_SIZE", {}).get("maxQty", "0")),
        min_notional=Decimal(notional.get("minNotional", "0")),
        bid_multiplier_up=Decimal(percent.get("bidMultiplierUp", "0")),
        bid_multiplier_down=Decimal(percent.get("bidMultiplierDown", "0")),
    )


def amount_of(written: Any) -> Decimal:
    """Read a price or quantity, which Binance writes as text. Raises one of BROKEN_ANSWERS for what is none."""
    if not isinstance(written, str):
        raise TypeError(f"an amount is text, was {written!r}")
    amount = Decimal(written)
    if not amount.is_finite() or amount < ZERO:
        raise ValueError(f"an amount is a number from zero up, was {written!r}")
    return amount


def levels_of(raw: Any) -> tuple[Level, ...]:
    """Read one side of a book."""
    return tuple(Level(amount_of(price), amount_of(quantity)) for price, quantity, *_ in raw)


def quote_of(symbol: str, bid: Any, ask: Any, seen_at: float) -> Quote:
    """Read best prices. Raises Transient where a side is empty, one of BROKEN_ANSWERS for what is no price."""
    best_bid, best_ask = amount_of(bid), amount_of(ask)
    if best_bid <= ZERO or best_ask <= ZERO:
        raise Transient(f"{symbol} has no bid or no ask now")
    return Quote(symbol, best_bid, best_ask, seen_at)
