"""A symbol as the venue lists it: its filters, and what its market is like."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.venue.fixed_point import E8, ONE, text

__all__ = [
    "DEFAULT_SELF_TRADE_PREVENTION",
    "MAX_ALGO_ORDERS",
    "MAX_ORDERS",
    "MAX_ORDER_LISTS",
    "MULTIPLIER_DOWN",
    "MULTIPLIER_UP",
    "ORDER_TYPES",
    "SELF_TRADE_PREVENTIONS",
    "TRAILING_DELTAS",
    "Instrument",
]

ORDER_TYPES = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
DEFAULT_SELF_TRADE_PREVENTION = "EXPIRE_MAKER"
SELF_TRADE_PREVENTIONS = ("NONE", "EXPIRE_TAKER", DEFAULT_SELF_TRADE_PREVENTION, "EXPIRE_BOTH", "DECREMENT")
MULTIPLIER_UP = "5"
MULTIPLIER_DOWN = "0.2"
TRAILING_DELTAS = (10, 2000)
MAX_ORDERS = 200
MAX_ALGO_ORDERS = 5
MAX_ORDER_LISTS = 20
_LARGEST_NOTIONAL = 9_000_000 * ONE
_BEYOND_LARGEST_NOTIONAL = 200  # a LOT_SIZE maximum binds long after NOTIONAL does


@dataclass(frozen=True, slots=True)
class Instrument:
    """Everything fixed about one symbol. Amounts in 1e-8.

    `reference` is the price its market keeps coming back to, `volatility` its daily standard deviation in parts
    per million, `liquidity` the quote value resting at the best price, `pace_ms` how often the market moves.
    """

    base: str
    quote: str
    tick: E8
    step: E8
    reference: E8
    min_notional: E8
    volatility: int
    liquidity: E8
    pace_ms: int
    status: Literal["TRADING", "HALT", "BREAK"] = "TRADING"

    @property
    def symbol(self) -> str:
        return self.base + self.quote

    @property
    def trading(self) -> bool:
        return self.status == "TRADING"

    def key(self, seed: int) -> int:
        """A 64-bit number that all chance of this symbol is drawn from."""
        digest = hashlib.blake2b(f"{seed}:{self.symbol}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")

    @property
    def max_price(self) -> E8:
        return self.tick * 10_000_000_000 if self.tick < 100 else self.tick * 100_000_000

    @property
    def max_notional(self) -> E8:
        return _LARGEST_NOTIONAL

    @property
    def max_quantity(self) -> E8:
        return self._whole_steps(_LARGEST_NOTIONAL * _BEYOND_LARGEST_NOTIONAL)

    @property
    def market_max_quantity(self) -> E8:
        return self._whole_steps(self.liquidity * 250)

    def _whole_steps(self, value: E8) -> E8:
        quantity = value * ONE // self.reference
        return max(self.step, min(quantity - quantity % self.step, 9_000_000_000 * ONE))

    def filters(self) -> list[dict[str, Any]]:
        """The symbol's filters in the shape and order of exchangeInfo."""
        return [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": text(self.tick),
                "maxPrice": text(self.max_price),
                "tickSize": text(self.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": text(self.step),
                "maxQty": text(self.max_quantity),
                "stepSize": text(self.step),
            },
            {"filterType": "ICEBERG_PARTS", "limit": 100},
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": text(0),
                "maxQty": text(self.market_max_quantity),
                "stepSize": text(0),
            },
            {
                "filterType": "TRAILING_DELTA",
                "minTrailingAboveDelta": TRAILING_DELTAS[0],
                "maxTrailingAboveDelta": TRAILING_DELTAS[1],
                "minTrailingBelowDelta": TRAILING_DELTAS[0],
                "maxTrailingBelowDelta": TRAILING_DELTAS[1],
            },
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": MULTIPLIER_UP,
                "bidMultiplierDown": MULTIPLIER_DOWN,
                "askMultiplierUp": MULTIPLIER_UP,
                "askMultiplierDown": MULTIPLIER_DOWN,
                "avgPriceMins": 5,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": text(self.min_notional),
                "applyMinToMarket": True,
                "maxNotional": text(self.max_notional),
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_ORDERS},
            {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": MAX_ORDER_LISTS},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": MAX_ALGO_ORDERS},
        ]

    def description(self, *, permission_sets: bool = True) -> dict[str, Any]:
        """The symbol's entry in exchangeInfo."""
        return {
            "symbol": self.symbol,
            "status": self.status,
            "baseAsset": self.base,
            "baseAssetPrecision": 8,
            "quoteAsset": self.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": list(ORDER_TYPES),
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "opoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "amendAllowed": True,
            "pegInstructionsAllowed": True,
            "isSpotTradingAllowed": self.trading,
            "isMarginTradingAllowed": False,
            "filters": self.filters(),
            "permissions": [],
            "permissionSets": [["SPOT"]] if permission_sets else [],
            "defaultSelfTradePreventionMode": DEFAULT_SELF_TRADE_PREVENTION,
            "allowedSelfTradePreventionModes": list(SELF_TRADE_PREVENTIONS),
        }
