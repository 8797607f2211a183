"""What the user or a model asks of a position, as its row says it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from streams.domain.errors import Refused
from streams.domain.money import LARGEST, SMALLEST
from streams.domain.order import Order

EMERGENCY = "emergency stop"
"""The reasoning that an emergency stop gives for what it queues."""


class Action(BaseModel):
    """One pending request; `order` is the exit that was made for it already, whatever became of that."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    position_id: UUID
    action: str
    details: dict[str, Any] = {}
    reasoning: str | None = None
    order: Order | None = None

    @property
    def exit_reason(self) -> str:
        """The exit reason of a close that was asked for."""
        return "emergency_stop" if self.reasoning == EMERGENCY else "action"

    def amount(self, name: str) -> Decimal:
        """An amount of the details, written as text. Raises Refused with a sentence for whoever asked."""
        written = self.details.get(name)
        if not isinstance(written, str):
            raise Refused("invalid_action", f'{self.action} needs {{"{name}": "…"}} in its details, an amount as text.')
        try:
            amount = Decimal(written)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or not SMALLEST <= amount <= LARGEST:
            raise Refused("invalid_action", f"{name} must be an amount above zero, was {written[:40]}.")
        return amount
