"""A worker as the database sees one: the functions it calls, with money as text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from tests.database.client import Client


class Worker:
    """Calls the worker functions under one id."""

    def __init__(self, client: Client, worker_id: UUID, modes: tuple[str, ...]) -> None:
        self.client = client
        self.id = worker_id
        self.modes = modes

    def register(self, lease: float = 60, max_age: float = 120) -> Any:
        return self.call(
            "worker_register",
            p_modes=list(self.modes),
            p_lease_seconds=Decimal(str(lease)),
            p_max_signal_age_seconds=Decimal(str(max_age)),
        )

    def call(self, function: str, **arguments: object) -> Any:
        return self.client.call(function, p_worker_id=self.id, **arguments)

    def claim(self, *signal_ids: UUID) -> Any:
        """Claim these signals, or all there are."""
        return self.call("claim_signals", p_signal_ids=list(signal_ids) or None)

    def claimed(self, *signal_ids: UUID) -> list[UUID]:
        """The ids that a claim gives, in its order."""
        return [UUID(brief["id"]) for brief in self.claim(*signal_ids)["signals"]]

    def held(self) -> set[UUID]:
        """The users of the accounts it holds."""
        return {UUID(account["user_id"]) for account in self.call("worker_heartbeat")["accounts"]}

    def brief(self, signal_id: UUID) -> Any:
        return self.call("signal_brief", p_signal_id=signal_id)["signal"]

    def plan(
        self,
        brief: dict[str, Any],
        quantity: str = "1",
        price: str = "100",
        fee: str = "0.1",
        balance: str | None = None,
    ) -> dict[str, Any]:
        """A plan to buy at a limit, with fresh ids."""
        return {
            "position_id": str(uuid4()),
            "order_id": str(uuid4()),
            "client_order_id": f"fs{uuid4().hex[:24]}-e1",
            "mode": brief["mode"],
            "trader_version": brief["trader_version"],
            "symbol": brief["symbol"],
            "side": brief["side"],
            "order": {"type": "limit", "time_in_force": "IOC", "quantity": quantity, "price": price},
            "worst_value": str(Decimal(quantity) * Decimal(price)),
            "fee_reserve": fee,
            "balance": balance,
            "stop_loss_price": "90",
            "stop_loss_percent": "10",
            "take_profit_price": "120",
            "take_profit_percent": None,
            "max_loss_usdt": "10.2",
            "woken_at": brief["claimed_at"],
            "venue_offset_ms": 0,
            "recv_window_ms": 5000,
        }

    def admit(self, signal_id: UUID, plan: dict[str, Any], attempt_id: UUID | None = None) -> Any:
        return self.call("admit_signal", p_signal_id=signal_id, p_attempt_id=attempt_id or uuid4(), p_plan=plan)

    def admitted(self, signal_id: UUID, **planned: str) -> dict[str, Any]:
        """Claim and admit a signal; its plan is the answer."""
        self.claim(signal_id)
        plan = self.plan(self.brief(signal_id), **planned)
        answer = self.admit(signal_id, plan)
        assert answer["outcome"] == "admitted", answer
        return plan

    def record(self, order_id: object, **report: object) -> Any:
        return self.call("record_order", p_order_id=order_id, p_report=report)

    @staticmethod
    def fill(
        trade_id: str,
        price: str,
        quantity: str,
        fee: str = "0",
        fee_asset: str = "USDT",
        fee_usdt: str | None = None,
        at: str = "2030-01-01T00:00:00+00:00",
    ) -> dict[str, str]:
        """One execution as a report states it."""
        return {
            "exchange_trade_id": trade_id,
            "price": price,
            "quantity": quantity,
            "value": str(Decimal(price) * Decimal(quantity)),
            "fee": fee,
            "fee_asset": fee_asset,
            "fee_usdt": fee if fee_usdt is None else fee_usdt,
            "executed_at": at,
        }
