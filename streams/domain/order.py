"""An order's life as one table, what a venue reports of it, and the id it is known by."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from streams.domain.account import Account
from streams.domain.money import ZERO, exact

MOVES: dict[str, frozenset[str]] = {
    "created": frozenset({"submitting", "cancelled"}),
    "submitting": frozenset({"submitted", "partially_filled", "filled", "cancelled", "expired", "failed", "unknown"}),
    "unknown": frozenset({"submitted", "partially_filled", "filled", "cancelled", "expired", "failed"}),
    "submitted": frozenset({"partially_filled", "filled", "cancelled", "expired", "failed"}),
    "partially_filled": frozenset({"filled", "cancelled", "expired"}),
    "cancelled": frozenset({"partially_filled", "filled"}),  # a late fill: it happens
    "expired": frozenset({"partially_filled", "filled"}),  # likewise
    "filled": frozenset(),
    "failed": frozenset(),
}
ENDED = frozenset({"filled", "cancelled", "expired", "failed"})


def client_order_id(position_id: UUID, purpose: str, attempt: int = 1) -> str:
    """The id an order is sent and looked up under: from position, purpose and attempt, 30 to 36 characters.

    Binance spot takes `^[a-zA-Z0-9-_]{1,36}$`; a reused id is no idempotency key there, so each attempt has
    its own. `list` is the purpose of an order list, which has an id beside those of its legs.
    """
    packed = base64.b32encode(position_id.bytes).decode().rstrip("=").lower()
    letter = {"entry": "e", "exit": "x", "stop_loss": "s", "take_profit": "t", "list": "l"}[purpose]
    return f"fs{packed}-{letter}{attempt}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a signed request states of its time: the venue's clock in Unix milliseconds, and how long it is good for."""

    signed_at_ms: int
    recv_window_ms: int


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution: price per base unit, value in quote, the fee in its asset and in USDT."""

    exchange_trade_id: str
    price: Decimal
    quantity: Decimal
    value: Decimal
    fee: Decimal
    fee_asset: str
    fee_usdt: Decimal
    executed_at: datetime


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What is known of an order after asking the venue; fills are those not known before, or all where `tells_all`.

    `known_fills`: how many of the order's fills were known to whoever made new ones up, on paper; where the row
    knows others, the report is news of another order and is not booked. `final`: whether an end without a fill is the
    end; after a cancel a late fill may still be told.
    """

    status: str
    exchange_order_id: str | None = None
    fills: tuple[Fill, ...] = ()
    failure_code: str | None = None
    failure_reason: str | None = None
    raw_response: str | None = None
    known_fills: int = 0
    tells_all: bool = False
    final: bool = True
    order_list_id: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the venue has ended the order; late fills aside, nothing more is to be expected."""
        return self.status in ENDED


class Order(BaseModel):
    """An order's row, as far as the streams act on it; amounts in base and quote units.

    `credential_version`: of the keys that were current at its admission; it is signed with no older ones.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    position_id: UUID
    user_id: UUID
    mode: str
    purpose: str
    client_order_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str | None = None
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    list_client_order_id: str | None = None
    status: str
    filled_quantity: Decimal = ZERO
    total_value: Decimal = ZERO
    fills: int = 0
    reserved: Decimal = ZERO
    signed_at_ms: int
    recv_window_ms: int
    credential_version: int | None = None
    submitted_at: datetime | None = None
    acknowledged_ms: int | None = None
    created_at: datetime | None = None

    @property
    def account(self) -> Account:
        """Whose order it is, in which mode."""
        return Account(self.user_id, self.mode)

    @property
    def remaining(self) -> Decimal:
        """The quantity not filled yet."""
        return self.quantity - self.filled_quantity

    @exact
    def after(self, report: OrderReport) -> Order:
        """The order as its row stands once a report has been booked that tells new fills, or all there are."""
        quantity = sum((fill.quantity for fill in report.fills), ZERO)
        value = sum((fill.value for fill in report.fills), ZERO)
        if report.tells_all:
            filled = {"filled_quantity": quantity, "total_value": value, "fills": len(report.fills)}
            return self.model_copy(
                update={"status": report.status, **filled} if report.fills else {"status": report.status}
            )
        spent = sum((fill.value + fill.fee_usdt for fill in report.fills), ZERO)
        return self.model_copy(
            update={
                "status": report.status,
                "filled_quantity": self.filled_quantity + quantity,
                "total_value": self.total_value + value,
                "fills": self.fills + len(report.fills),
                "reserved": max(self.reserved - spent, ZERO),
            }
        )
