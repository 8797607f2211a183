"""What the user data stream carries (binance-spot-api-docs, user-data-stream.md), and who listens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from sandbox.venue.accounts import Account
from sandbox.venue.fixed_point import decimal, text
from sandbox.venue.orders import Fill, Order, OrderList

__all__ = ["MODES", "Listener", "UserEvents"]

MODES = ("ok", "silent", "duplicate", "reorder", "late", "terminate", "drop")
_ONCE = ("terminate", "drop")

Event = dict[str, Any]


class Listener(Protocol):
    """One subscription to an account's events."""

    def hear(self, event: Event) -> None: ...

    def end(self) -> None:
        """The subscription is over; nothing more comes."""
        ...

    def cut(self) -> None:
        """Drops the connection without a word."""
        ...


class UserEvents:
    """Hands an account's events to its listeners.

    `mode`, for tests: `ok`; `silent`, nothing is sent; `duplicate`, everything is sent twice; `reorder`, of two events
    the later comes first; `late`, everything comes `seconds` later.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.mode = "ok"
        self._seconds = 0.0
        self._held: list[tuple[set[Listener], Event]] = []
        self._now_ms = now_ms
        self._listeners: dict[str, set[Listener]] = {}
        self._executions = 0

    def listen(self, api_key: str, listener: Listener) -> None:
        self._listeners.setdefault(api_key, set()).add(listener)

    def leave(self, api_key: str, listener: Listener) -> None:
        self._listeners.get(api_key, set()).discard(listener)

    def listening(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]

    def disturb(self, mode: str, seconds: float = 1.0) -> int:
        """Sets the mode; `drop` and `terminate` happen once. Returns how many subscriptions there were."""
        present = self.listening()
        while self._held:
            self._hand_out(*self._held.pop(0))
        for listener in present:
            if mode == "drop":
                listener.cut()
            elif mode == "terminate":
                listener.end()
        self.mode = "ok" if mode in _ONCE else mode
        self._seconds = seconds
        return len(present)

    def execution(
        self, order: Order, execution: str, *, fill: Fill | None = None, cancel_id: str | None = None
    ) -> None:
        """Tells of NEW, TRADE, CANCELED or EXPIRED."""
        self._executions += 1
        listeners = self._listeners.get(order.account.api_key)
        if not listeners:
            return
        terms, now = order.terms, self._now_ms()
        event: Event = {
            "e": "executionReport",
            "E": now,
            "s": order.symbol,
            "c": cancel_id or terms.client_order_id,
            "S": terms.side,
            "o": terms.type,
            "f": terms.time_in_force,
            "q": text(order.quantity),
            "p": text(terms.price),
            "P": text(terms.stop_price),
            "F": text(terms.iceberg_quantity),
            "g": order.order_list.id if order.order_list else -1,
            "C": terms.client_order_id if cancel_id else "",
            "x": execution,
            "X": order.status,
            "r": "NONE",
            "i": order.id,
            "l": text(fill.quantity if fill else 0),
            "z": text(order.executed),
            "L": text(fill.price if fill else 0),
            "n": text(fill.commission) if fill else "0",
            "N": fill.commission_asset if fill else None,
            "T": order.updated_ms,
            "t": fill.id if fill else -1,
            "I": self._executions,
            "w": order.open and order.working_ms >= 0,
            "m": fill.maker if fill else False,
            "M": False,
            "O": order.created_ms,
            "Z": text(order.cost),
            "Y": text(fill.quote_quantity if fill else 0),
            "Q": text(terms.quote_quantity),
            "V": terms.self_trade_prevention,
        }
        if order.working_ms >= 0:
            event["W"] = order.working_ms
        if terms.trailing_delta:
            event |= {"d": terms.trailing_delta, "D": order.trailing_ms}
        if terms.strategy_id is not None:
            event["j"] = terms.strategy_id
        if terms.strategy_type is not None:
            event["J"] = terms.strategy_type
        if execution == "EXPIRED" and order.expiry_reason:
            event["eR"] = order.expiry_reason
        self._send(listeners, event)

    def list_status(self, orders: OrderList) -> None:
        listeners = self._listeners.get(orders.account.api_key)
        if not listeners:
            return
        event: Event = {
            "e": "listStatus",
            "E": self._now_ms(),
            "s": orders.symbol,
            "g": orders.id,
            "c": orders.contingency,
            "l": "ALL_DONE" if orders.done else "EXEC_STARTED",
            "L": "ALL_DONE" if orders.done else "EXECUTING",
            "r": "NONE",
            "C": orders.client_order_id,
            "T": orders.updated_ms,
            "O": [{"s": orders.symbol, "i": each.id, "c": each.terms.client_order_id} for each in orders.orders],
        }
        self._send(listeners, event)

    def position(self, account: Account, assets: Iterable[str]) -> None:
        """Tells what the account now holds of those assets, which has just changed."""
        account.updated_ms = self._now_ms()
        listeners = self._listeners.get(account.api_key)
        if not listeners:
            return
        held = [(asset, account.balance(asset)) for asset in sorted(assets)]
        event: Event = {
            "e": "outboundAccountPosition",
            "E": self._now_ms(),
            "u": account.updated_ms,
            "B": [{"a": asset, "f": text(balance.free), "l": text(balance.locked)} for asset, balance in held],
        }
        self._send(listeners, event)

    def deposit(self, account: Account, asset: str, delta: int) -> None:
        """Tells of coins that came or went without a trade."""
        listeners = self._listeners.get(account.api_key)
        if listeners:
            now = self._now_ms()
            event = {"e": "balanceUpdate", "E": now, "a": asset, "d": f"{decimal(delta):.8f}", "T": now}
            self._send(listeners, event)

    def _send(self, listeners: set[Listener], event: Event) -> None:
        if self.mode == "silent":
            return
        if self.mode == "late":
            asyncio.get_running_loop().call_later(self._seconds, self._hand_out, listeners, event)
            return
        if self.mode == "reorder" and not self._held:
            self._held.append((listeners, event))
            return
        for _ in range(2 if self.mode == "duplicate" else 1):
            self._hand_out(listeners, event)
        while self._held:
            self._hand_out(*self._held.pop(0))

    @staticmethod
    def _hand_out(listeners: set[Listener], event: Event) -> None:
        for listener in tuple(listeners):
            listener.hear(event)
