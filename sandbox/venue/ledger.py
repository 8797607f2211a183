"""The venue's books: accounts, orders, order lists and trades, and what of them was not written down yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from sandbox.venue.accounts import Account
from sandbox.venue.fixed_point import plain, text
from sandbox.venue.journal import Journal
from sandbox.venue.ledger_record import account_state, list_state, order_state
from sandbox.venue.order_documents import Document
from sandbox.venue.orders import Fill, Order, OrderList

__all__ = ["Ledger"]


class Ledger:
    """Every account by its key, every order and list by its id. `commit` writes changes to the journal."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.accounts: dict[str, Account] = {}
        self.orders: dict[int, Order] = {}
        self.lists: dict[int, OrderList] = {}
        self.trades: list[tuple[Order, Fill]] = []
        self.last_ids = {"order": 0, "list": 0, "trade": 0}
        self._journal = journal
        self._opened: set[str] = set()
        self._named: dict[tuple[str, str, str], Order] = {}
        self._named_lists: dict[tuple[str, str], OrderList] = {}
        self._of_account: dict[tuple[str, str], list[Order]] = {}
        self._open: dict[str, dict[int, Order]] = {}
        self._changed: dict[int, Order] = {}
        self._changed_lists: dict[int, OrderList] = {}

    def open(self, api_key: str, secret: str, balances: Mapping[str, Decimal]) -> Account:
        """Opens an account; one that the journal knew goes on with what it held.

        Raises ValueError for a key in use, an empty one, or a negative balance.
        """
        if not api_key or not secret:
            raise ValueError("an account needs an API key and a secret")
        if api_key in self._opened:
            raise ValueError(f"the API key {api_key[:6]}… has an account already")
        if any(not free.is_finite() or free < 0 for free in balances.values()):
            raise ValueError("a balance is at least 0")
        account = Account(len(self.accounts) + 1, api_key, secret, balances)
        known = self.accounts.get(api_key)
        if known is not None:  # orders refer to it already
            known.secret, known.first, account = secret, account.first, known
        self._opened.add(api_key)
        self.accounts[api_key] = account
        self._write({"accounts": [account_state(account)]} | ({} if known else self._balances([account])))
        return account

    def next_id(self, kind: str) -> int:
        """The next id of an `order`, a `list` or a `trade`."""
        self.last_ids[kind] += 1
        return self.last_ids[kind]

    def add(self, order: Order) -> None:
        key = order.account.api_key
        self.orders[order.id] = order
        self._named[key, order.symbol, order.terms.client_order_id] = order
        self._of_account.setdefault((key, order.symbol), []).append(order)
        self.trades.extend((order, fill) for fill in order.fills)
        self.note(order)

    def add_list(self, orders: OrderList) -> None:
        self.lists[orders.id] = orders
        self._named_lists[orders.account.api_key, orders.client_order_id] = orders
        self._changed_lists[orders.id] = orders

    def book(self, order: Order, fill: Fill) -> None:
        """Adds a trade to its order."""
        order.fills.append(fill)
        self.trades.append((order, fill))
        self.note(order)

    def note(self, order: Order) -> None:
        """Says that an order has changed."""
        self._changed[order.id] = order
        open_ones = self._open.setdefault(order.symbol, {})
        if order.open or order.late_at is not None:
            open_ones[order.id] = order
        else:
            open_ones.pop(order.id, None)

    def note_list(self, orders: OrderList) -> None:
        self._changed_lists[orders.id] = orders

    def commit(self) -> list[tuple[Account, set[str]]]:
        """Writes down what has changed; returns the accounts whose coins moved, with the assets."""
        moved = [account for account in self.accounts.values() if account.touched]
        if not moved and not self._changed and not self._changed_lists:
            return []
        self._write(
            {
                "orders": [order_state(order) for order in self._changed.values()],
                "lists": [list_state(orders) for orders in self._changed_lists.values()],
            }
            | self._balances(moved, only_touched=True)
        )
        self._changed.clear()
        self._changed_lists.clear()
        touched = [(account, account.touched) for account in moved]
        for account in moved:
            account.touched = set()
        return touched

    def waiting(self, symbol: str) -> list[Order]:
        """The orders of a symbol to which something may yet happen, the oldest first."""
        return list(self._open.get(symbol, {}).values())

    def waiting_symbols(self) -> list[str]:
        return [symbol for symbol, orders in self._open.items() if orders]

    def open_orders(self, account: Account, symbol: str | None = None) -> list[Order]:
        symbols = self._open if symbol is None else [symbol]
        found = [order for name in symbols for order in self.waiting(name) if order.account is account and order.open]
        return sorted(found, key=lambda order: order.id)

    def orders_of(self, account: Account, symbol: str) -> list[Order]:
        """All orders there ever were, the oldest first."""
        return self._of_account.get((account.api_key, symbol), [])

    def order(self, account: Account, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """By id, else by client id; of several with one client id the newest."""
        if order_id is None:
            return self._named.get((account.api_key, symbol, client_id or ""))
        order = self.orders.get(order_id)
        return order if order and order.account is account and order.symbol == symbol else None

    def order_list(self, account: Account, list_id: int | None, client_id: str | None) -> OrderList | None:
        if list_id is None:
            return self._named_lists.get((account.api_key, client_id or ""))
        found = self.lists.get(list_id)
        return found if found and found.account is account else None

    def reset(self) -> None:
        """Takes orders, trades and balances back to the start; keys stay."""
        self._forget()
        for account in self.accounts.values():
            account.reset()
            account.touched = set()
        self._write({"reset": True, "last": self.last_ids} | self._balances(self.accounts.values()))

    def document(self) -> Document:
        """Everything in the ledger, amounts as text."""
        return {
            "orders": [_order_row(order) for order in self.orders.values()],
            "trades": [_trade_row(order, fill) for order, fill in self.trades],
            "balances": {
                api_key: {
                    asset: {"free": plain(balance.free), "locked": plain(balance.locked)}
                    for asset, balance in account.balances.items()
                }
                for api_key, account in self.accounts.items()
            },
        }

    def note_account(self, account: Account) -> None:
        """Writes down how an account is set."""
        self._write({"accounts": [account_state(account)]})

    def restore(self, accounts: Iterable[Account], orders: Iterable[Order], lists: Iterable[OrderList]) -> None:
        """Takes over what a journal told, with nothing left to write."""
        self.accounts = {account.api_key: account for account in accounts}
        for order in orders:
            self.add(order)
        self.trades.sort(key=lambda trade: trade[1].id)
        for each in lists:
            self.add_list(each)
        self._changed.clear()
        self._changed_lists.clear()

    def state(self) -> dict[str, Any]:
        """The whole of it in one record of the journal."""
        return {
            "last": self.last_ids,
            "accounts": [account_state(account) for account in self.accounts.values()],
            "orders": [order_state(order) for order in self.orders.values()],
            "lists": [list_state(orders) for orders in self.lists.values()],
        } | self._balances(self.accounts.values())

    def _forget(self) -> None:
        for each in (self.orders, self.lists, self._named, self._named_lists, self._of_account, self._open):
            each.clear()
        self.trades.clear()
        self._changed.clear()
        self._changed_lists.clear()

    @staticmethod
    def _balances(accounts: Iterable[Account], *, only_touched: bool = False) -> dict[str, Any]:
        return {
            "balances": {
                account.api_key: {
                    asset: [balance.free, balance.locked]
                    for asset, balance in account.balances.items()
                    if asset in account.touched or not only_touched
                }
                for account in accounts
            }
        }

    def _write(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.write(record)


def _order_row(order: Order) -> Document:
    return {
        "apiKey": order.account.api_key,
        "clientOrderId": order.terms.client_order_id,
        "orderId": order.id,
        "orderListId": order.order_list.id if order.order_list else -1,
        "symbol": order.symbol,
        "side": order.terms.side,
        "type": order.terms.type,
        "status": order.status,
        "price": text(order.terms.price),
        "stopPrice": text(order.terms.stop_price),
        "origQty": text(order.quantity),
        "executedQty": text(order.executed),
        "cummulativeQuoteQty": text(order.cost),
        "receivedNs": order.received_ns,
    }


def _trade_row(order: Order, fill: Fill) -> Document:
    return {
        "apiKey": order.account.api_key,
        "id": fill.id,
        "orderId": order.id,
        "symbol": order.symbol,
        "price": text(fill.price),
        "qty": text(fill.quantity),
        "quoteQty": text(fill.quote_quantity),
        "commission": text(fill.commission),
        "commissionAsset": fill.commission_asset,
        "time": fill.at_ms,
    }
