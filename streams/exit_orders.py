"""The sells of a position as orders: one exit at market, or a stop, a target, or both as one list."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from streams.domain.held import Held
from streams.domain.order import Order, client_order_id
from streams.domain.step import Protect, Sell
from streams.ports import NewId


def exit_order(held: Held, step: Sell, new_id: NewId) -> Order:
    """A market order for what is to be sold."""
    return _order(held, new_id, "exit", "market", step.quantity)


def protective_orders(held: Held, step: Protect, new_id: NewId) -> tuple[Order, ...]:
    """Stop and target for all that can be sold; with both of them, the legs of a list, the stop first."""
    prices = (("stop_loss", step.stop), ("take_profit", step.target))
    wanted = [(purpose, price) for purpose, price in prices if price is not None]
    number = held.attempts + 1
    name = client_order_id(held.position.id, "list", number) if len(wanted) > 1 else None
    return tuple(
        _order(held, new_id, purpose, purpose, step.quantity, stop_price=price, list_client_order_id=name)
        for purpose, price in wanted
    )


def _order(held: Held, new_id: NewId, purpose: str, kind: str, quantity: Decimal, **terms: Any) -> Order:
    position = held.position
    return Order(
        id=new_id(),
        position_id=position.id,
        user_id=position.user_id,
        mode=position.mode,
        purpose=purpose,
        client_order_id=client_order_id(position.id, purpose, held.attempts + 1),
        symbol=position.symbol,
        side="sell",
        type=kind,
        quantity=quantity,
        status="created",
        signed_at_ms=0,
        recv_window_ms=0,
        **terms,
    )
