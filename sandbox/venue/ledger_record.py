"""Orders and lists as the journal keeps them, and a ledger made of its records again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sandbox.venue.accounts import Account, Balance, Lock
from sandbox.venue.fill_plan import FillPlan
from sandbox.venue.market import Market
from sandbox.venue.orders import Fill, Order, OrderList, Terms

if TYPE_CHECKING:
    from sandbox.venue.ledger import Ledger

__all__ = ["account_state", "list_state", "order_state", "replay"]

_PLAIN = (
    "id",
    "quantity",
    "received_ns",
    "created_ms",
    "hidden_until",
    "status",
    "executed",
    "cost",
    "updated_ms",
    "working_ms",
    "trailing_ms",
    "extreme",
    "resting",
    "plan_started",
    "late_at",
    "expiry_reason",
)

State = dict[str, Any]


def account_state(account: Account) -> State:
    return {
        "apiKey": account.api_key,
        "secret": account.secret,
        "first": account.first,
        "revoked": account.revoked,
        "rate": account.rate,
        "bnb": account.pays_in_bnb,
    }


def order_state(order: Order) -> State:
    return {name: getattr(order, name) for name in _PLAIN} | {
        "account": order.account.api_key,
        "symbol": order.symbol,
        "terms": asdict(order.terms),
        "plan": asdict(order.plan),
        "lock": asdict(order.lock),
        "fills": [asdict(fill) for fill in order.fills],
    }


def list_state(orders: OrderList) -> State:
    return {
        "id": orders.id,
        "account": orders.account.api_key,
        "symbol": orders.symbol,
        "client_order_id": orders.client_order_id,
        "created_ms": orders.created_ms,
        "working": orders.working.id if orders.working else None,
        "pair": [order.id for order in orders.pair],
        "proceeds": asdict(orders.proceeds) if orders.proceeds else None,
        "done": orders.done,
        "updated_ms": orders.updated_ms,
    }


def replay(ledger: Ledger, records: Iterable[Mapping[str, Any]], markets: Mapping[str, Market]) -> None:
    """Makes the ledger what it was after the last record. Orders of symbols no longer listed are left out."""
    accounts: dict[str, State] = {}
    balances: dict[str, dict[str, list[int]]] = {}
    orders: dict[int, State] = {}
    lists: dict[int, State] = {}
    locks: dict[int, Lock] = {}
    for record in records:
        if record.get("reset"):
            for forgotten in (orders, lists, balances):
                forgotten.clear()
        for kind, number in record.get("last", {}).items():
            ledger.last_ids[kind] = max(ledger.last_ids[kind], number)
        accounts |= {state["apiKey"]: state for state in record.get("accounts", ())}
        for key, held in record.get("balances", {}).items():
            balances.setdefault(key, {}).update(held)
        for state in record.get("orders", ()):
            orders[state["id"]] = state
            locks[state["lock"]["id"]] = Lock(**state["lock"])
        for state in record.get("lists", ()):
            lists[state["id"]] = state
    holders = {
        key: _account(number, state, balances.get(key, {})) for number, (key, state) in enumerate(accounts.items(), 1)
    }
    restored = {
        number: _order(state, holders[state["account"]], markets[state["symbol"]], locks)
        for number, state in orders.items()
        if state["symbol"] in markets
    }
    chained = [_list(state, holders[state["account"]], restored) for state in lists.values()]
    ledger.restore(holders.values(), restored.values(), [orders for orders in chained if orders is not None])
    numbers = {
        "order": orders,
        "list": lists,
        "trade": [fill.id for order in restored.values() for fill in order.fills],
    }
    for kind, used in numbers.items():
        ledger.last_ids[kind] = max(ledger.last_ids[kind], *used, 0)


def _account(number: int, state: State, balances: dict[str, list[int]]) -> Account:
    account = Account(number, state["apiKey"], state["secret"], {})
    account.first = state["first"]
    account.revoked, account.rate, account.pays_in_bnb = state["revoked"], state["rate"], state["bnb"]
    account.balances = {asset: Balance(free, locked) for asset, (free, locked) in balances.items()}
    return account


def _order(state: State, account: Account, market: Market, locks: dict[int, Lock]) -> Order:
    return Order(
        account=account,
        instrument=market.instrument,
        terms=Terms(**state["terms"]),
        plan=FillPlan(**state["plan"]),
        lock=locks[state["lock"]["id"]],
        fills=[Fill(**fill) for fill in state["fills"]],
        **{name: state[name] for name in _PLAIN},
    )


def _list(state: State, account: Account, orders: dict[int, Order]) -> OrderList | None:
    members = [number for number in (state["working"], *state["pair"]) if number is not None]
    if any(number not in orders for number in members):
        return None
    chained = OrderList(
        id=state["id"],
        account=account,
        symbol=state["symbol"],
        client_order_id=state["client_order_id"],
        created_ms=state["created_ms"],
        working=None if state["working"] is None else orders[state["working"]],
        pair=tuple(orders[number] for number in state["pair"]),
        proceeds=Lock(**state["proceeds"]) if state["proceeds"] else None,
        done=state["done"],
        updated_ms=state["updated_ms"],
    )
    for order in chained.orders:
        order.order_list = chained
    return chained
