"""A sound specimen of each value; a test changes what it is about."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from streams.domain.account import Account
from streams.domain.errors import Refused
from streams.domain.market import Level, MarketRules, Quote
from streams.domain.order import Fill, Order
from streams.domain.position import Position
from streams.domain.signal import Brief, Signal, validate

ANNA = UUID(int=0xA)
BEN = UUID(int=0xB)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

REFUSAL_CODES = frozenset(
    {
        "invalid_signal",
        "invalid_stop",
        "invalid_risk_config",
        "trader_disabled",
        "trader_not_owned",
        "mode_not_allowed",
        "unsupported_quote",
        "unknown_symbol",
        "short_not_supported",
        "signal_expired",
        "trading_paused",
        "duplicate_position",
        "max_open_positions",
        "exposure_limit",
        "position_too_large",
        "position_too_small",
        "below_min_notional",
        "daily_loss_limit",
        "drawdown_limit",
        "order_interval",
        "stop_loss_required",
        "stop_too_wide",
        "price_deviation",
        "spread_too_wide",
        "insufficient_balance",
        "keys_missing",
        "keys_rejected",
        "internal_error",
    }
)

RULES = MarketRules(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    trading=True,
    tick=Decimal("0.01"),
    step=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    max_quantity=Decimal(9000),
    market_max_quantity=Decimal(100),
    min_notional=Decimal(5),
)


def config(**settings: Any) -> str:
    """A risk_config as the row's text; a size of 100 USDT unless told otherwise."""
    return json.dumps({"position_size": {"type": "fixed", "value": "100"}} | settings)


def sized_by(kind: str, value: str, **settings: Any) -> str:
    """A risk_config with this size."""
    return config(position_size={"type": kind, "value": value}, **settings)


def brief(number: int = 1, **changes: Any) -> Brief:
    """A ready signal for BTC/USDT at market, of a paper trader."""
    return Brief.model_validate(
        {
            "id": UUID(int=number),
            "seq": number,
            "user_id": ANNA,
            "trader_id": UUID(int=0x10A),
            "symbol": "BTC/USDT",
            "side": "long",
            "order_type": "market",
            "ready_at": NOON.isoformat(),
            "claimed_at": NOON.isoformat(),
            "mode": "paper",
            "trader_version": "1",
            "risk_config": config(),
            "paper": {"current": "10000", "available": "10000"},
        }
        | changes
    )


def signal(**changes: Any) -> Signal:
    """A sound signal."""
    return validate(brief(**changes))


def rules(**changes: Any) -> MarketRules:
    """The filters of BTC/USDT."""
    return replace(RULES, **changes)


def quote(bid: str = "99.99", ask: str = "100", seen_at: float = 0.0) -> Quote:
    """The best prices of BTC/USDT."""
    return Quote("BTC/USDT", Decimal(bid), Decimal(ask), seen_at)


def levels(*offers: tuple[str, str]) -> tuple[Level, ...]:
    """One side of a book, from (price, quantity)."""
    return tuple(Level(Decimal(price), Decimal(quantity)) for price, quantity in offers)


def order(**changes: Any) -> Order:
    """An entry of one BTC at 100 that waits for its venue's answer."""
    return Order.model_validate(
        {
            "id": UUID(int=0xD),
            "position_id": UUID(int=0xE),
            "user_id": ANNA,
            "mode": "paper",
            "purpose": "entry",
            "client_order_id": "fsentry",
            "symbol": "BTC/USDT",
            "side": "buy",
            "type": "limit",
            "time_in_force": "GTC",
            "quantity": "1",
            "price": "100",
            "status": "submitting",
            "reserved": "100.1",
            "signed_at_ms": 0,
            "recv_window_ms": 5000,
        }
        | changes
    )


def position(**changes: Any) -> Position:
    """A position whose entry waits for its venue's answer."""
    return Position.model_validate(
        {
            "id": UUID(int=0xE),
            "user_id": ANNA,
            "trader_id": UUID(int=0x10A),
            "signal_id": UUID(int=1),
            "symbol": "BTC/USDT",
            "side": "long",
            "status": "submitting",
            "mode": "paper",
        }
        | changes
    )


def fill(price: str, quantity: str, number: int = 1) -> Fill:
    """One execution with a fee of 0.1 % in USDT."""
    value = Decimal(price) * Decimal(quantity)
    fee = value / 1000
    return Fill(f"fill-{number}", Decimal(price), Decimal(quantity), value, fee, "USDT", fee, NOON)


def account(user_id: UUID = ANNA, mode: str = "paper") -> Account:
    """Anna's paper account."""
    return Account(user_id, mode)


def assert_sound(refusal: Refused, code: str | None = None) -> None:
    """A refusal has a code of the closed list (this one, where it is given) and one readable sentence."""
    assert refusal.code in ({code} if code else REFUSAL_CODES)
    assert refusal.reason.endswith(".")
    assert "\n" not in refusal.reason
    assert 10 < len(refusal.reason) < 300
