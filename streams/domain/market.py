"""What a venue says of a market: its filters, its best prices, its book."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.domain.money import ZERO


@dataclass(frozen=True, slots=True)
class MarketRules:
    """A symbol's filters; quantities in base units, prices and notional in quote units.

    From Binance's exchangeInfo: PRICE_FILTER, LOT_SIZE, MARKET_LOT_SIZE, NOTIONAL (or MIN_NOTIONAL) and
    PERCENT_PRICE_BY_SIDE. A maximum of zero means that there is none.
    """

    symbol: str
    base: str
    quote: str
    trading: bool
    tick: Decimal
    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    min_notional: Decimal
    bid_multiplier_up: Decimal = ZERO
    bid_multiplier_down: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask of a symbol, and when they were seen (monotonic seconds)."""

    symbol: str
    bid: Decimal
    ask: Decimal
    seen_at: float


@dataclass(frozen=True, slots=True)
class Level:
    """One price of a book and the quantity on offer there."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Book:
    """A symbol's book, best price first on both sides."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
