"""Rows as the database's functions answer and take them: money as text in both directions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from streams.domain.account import Account
from streams.domain.action import Action
from streams.domain.errors import Broken
from streams.domain.held import Held
from streams.domain.money import text
from streams.domain.order import Fill, Order, OrderReport
from streams.domain.position import Position
from streams.domain.risk import Protection
from streams.ports import Attempt, ExitPlan, Heard, Mark

Row = TypeVar("Row", bound=BaseModel)


def read(kind: type[Row], row: Any) -> Row:
    """Read a row. Raises Broken where it does not have the form of its kind."""
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        raise Broken(f"a {kind.__name__} from the database cannot be read: {error}") from error


def held(row: Any) -> Held:
    """A position with all that belongs to it. Raises Broken where a part of it cannot be read."""
    sale = row.get("last_sale")
    return Held(
        read(Position, row["position"]),
        read(Order, row["entry"]),
        tuple(read(Order, order) for order in row["orders"]),
        int(row["attempts"]),
        tuple(read(Action, action) for action in row["actions"]),
        None if sale is None else read(Order, sale),
    )


def protection(position: Mapping[str, Any]) -> Protection:
    """The percentages as admitted; a price that the signal named stands in the row already."""

    def percent(name: str) -> Decimal | None:
        written = position.get(name)
        return None if written is None else Decimal(written)

    return Protection(stop_percent=percent("stop_loss_percent"), target_percent=percent("take_profit_percent"))


def accounts(rows: list[dict[str, str]] | None) -> list[Account]:
    """The accounts named in an answer."""
    return [Account(UUID(one["user_id"]), one["mode"]) for one in rows or []]


def account_rows(accounts: Sequence[Account] | None) -> list[dict[str, str]] | None:
    """Accounts as a function takes them; None: all."""
    if accounts is None:
        return None
    return [{"user_id": str(account.user_id), "mode": account.mode} for account in accounts]


def texts(ids: Sequence[UUID]) -> list[str]:
    """Ids as text."""
    return [str(one) for one in ids]


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else text(amount)


def entry_plan(attempt: Attempt) -> Mapping[str, object]:
    """What an admission is asked with."""
    sized, brief = attempt.sized, attempt.brief
    return {
        "position_id": str(attempt.position_id),
        "order_id": str(attempt.order_id),
        "client_order_id": attempt.client_order_id,
        "mode": brief.mode,
        "trader_version": brief.trader_version,
        "symbol": brief.symbol,
        "side": "long",
        "order": {
            "type": sized.type,
            "time_in_force": sized.time_in_force,
            "quantity": text(sized.quantity),
            "price": _money(sized.price),
        },
        "worst_value": text(sized.worst_value),
        "fee_reserve": text(sized.fee_reserve),
        "balance": _money(attempt.balance),
        "stop_loss_price": _money(sized.stop_loss_price),
        "stop_loss_percent": _money(sized.protection.stop_percent),
        "take_profit_price": _money(sized.take_profit_price),
        "take_profit_percent": _money(sized.protection.target_percent),
        "trailing_stop_percent": _money(sized.protection.trailing_percent),
        "max_hold_minutes": _money(sized.protection.max_hold_minutes),
        "max_loss_usdt": _money(sized.max_loss_usdt),
        "woken_at": brief.claimed_at,
        "venue_offset_ms": attempt.venue_offset_ms,
        "recv_window_ms": attempt.recv_window_ms,
    }


def mark_rows(marks: Sequence[Mark]) -> list[Mapping[str, str]]:
    """Prices as a function takes them."""
    return [{"position_id": str(mark.position_id), "price": text(mark.price)} for mark in marks]


def exit_plan(plan: ExitPlan) -> Mapping[str, object]:
    """What a plan of sells is asked with."""
    return {
        "orders": [
            {
                "id": str(order.id),
                "purpose": order.purpose,
                "client_order_id": order.client_order_id,
                "list_client_order_id": order.list_client_order_id,
                "action_id": None if plan.action_id is None else str(plan.action_id),
                "type": order.type,
                "time_in_force": order.time_in_force,
                "quantity": text(order.quantity),
                "price": _money(order.price),
                "stop_price": _money(order.stop_price),
            }
            for order in plan.orders
        ],
        "recv_window_ms": plan.recv_window_ms,
        "venue_offset_ms": plan.venue_offset_ms,
        "reports": heard_rows(plan.heard),
        "instead_of": texts([order.id for order in plan.instead_of]),
        "exit_reason": plan.exit_reason,
        "trailing_stop_price": _money(plan.trailing_stop_price),
    }


def heard_rows(heard: Sequence[Heard]) -> list[Mapping[str, object]]:
    """Reports of several orders."""
    return [{"order_id": str(one.order_id), "report": report_row(one.report, None, None)} for one in heard]


def report_row(report: OrderReport, stop: Decimal | None, target: Decimal | None) -> Mapping[str, object]:
    """A report, money as text, with the stop and target that a first fill sets."""
    return {
        "status": report.status,
        "exchange_order_id": report.exchange_order_id,
        "order_list_id": report.order_list_id,
        "known_fills": report.known_fills,
        "final": report.final,
        "fills": [_fill(fill) for fill in report.fills],
        "failure_code": report.failure_code,
        "failure_reason": report.failure_reason,
        "error_message": report.failure_reason,
        "raw_response": None if report.raw_response is None else json.loads(report.raw_response, parse_float=str),
        "stop_loss_price": _money(stop),
        "take_profit_price": _money(target),
    }


def _fill(fill: Fill) -> Mapping[str, str]:
    return {
        "exchange_trade_id": fill.exchange_trade_id,
        "price": text(fill.price),
        "quantity": text(fill.quantity),
        "value": text(fill.value),
        "fee": text(fill.fee),
        "fee_asset": fill.fee_asset,
        "fee_usdt": text(fill.fee_usdt),
        "executed_at": fill.executed_at.isoformat(),
    }
