"""A position's life as one table, and the position as later consumers take it over."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from streams.domain.account import Account
from streams.domain.money import ZERO

MOVES: dict[str, frozenset[str]] = {
    "created": frozenset({"submitting", "failed"}),
    "submitting": frozenset({"open", "failed"}),
    "open": frozenset({"monitoring", "closing"}),
    "monitoring": frozenset({"closing"}),
    "closing": frozenset({"closed", "monitoring"}),
    "closed": frozenset(),
    "failed": frozenset(),
}
OPEN = frozenset({"open", "monitoring", "closing"})


class Position(BaseModel):
    """A position's row; prices per base unit in quote, quantities in base units, values in quote."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    user_id: UUID
    trader_id: UUID
    signal_id: UUID
    symbol: str
    side: str
    status: str
    mode: str
    entry_price: Decimal | None = None
    entry_quantity: Decimal | None = None
    entry_value: Decimal | None = None
    entry_time: datetime | None = None
    exit_quantity: Decimal | None = None
    exit_value: Decimal | None = None
    exit_reason: str | None = None
    stop_loss_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    trailing_stop_percent: Decimal | None = None
    trailing_stop_price: Decimal | None = None
    max_hold_minutes: Decimal | None = None
    realized_pnl: Decimal | None = None
    failure_code: str | None = None

    @property
    def account(self) -> Account:
        """Whose position it is, in which mode."""
        return Account(self.user_id, self.mode)

    @property
    def remaining(self) -> Decimal:
        """What is held and not sold yet, in base units."""
        return (self.entry_quantity or ZERO) - (self.exit_quantity or ZERO)

    @property
    def is_open(self) -> bool:
        """Open anywhere means open, monitoring or closing."""
        return self.status in OPEN
