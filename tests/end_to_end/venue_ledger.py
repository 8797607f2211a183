"""Whether the exchange's ledger and the rows say the same: every order, trade, fee and coin, to the last digit."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from tests.end_to_end.books import assert_books
from tests.end_to_end.product import Project
from tests.end_to_end.testnet import TestnetUser, ledger

STATES = {
    "NEW": "submitted",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "EXPIRED": "expired",
}
GIVEN = frozenset({"USDT", "BNB"})
"""Assets that an account is given, to trade or to pay fees with: what was bought shows by the others."""
APART_MS = 50
"""The answer to an order tells one time for all of its trades."""

Document = dict[str, Any]


def assert_ledger_equals_rows(project: Project, *users: TestnetUser) -> None:
    """Compare what the exchange keeps of these users with their rows, in both ways; no answer is to be outstanding.

    The exchange has no order that the rows do not have, and none that they call failed.
    """
    book = ledger(project)
    for user in users:
        orders, fills = ([one for one in book[of] if one["apiKey"] == user.api_key] for of in ("orders", "trades"))
        rows = project.rows("select * from orders where user_id = %s and not is_paper_trade", user.id)
        positions = project.rows("select * from positions where user_id = %s and not is_paper_trade", user.id)
        _compare_orders(orders, rows)
        _compare_trades(fills, _trades(project, user))
        _compare_positions(fills, rows, positions)
        _compare_coins(book["balances"][user.api_key], positions)
    assert_books(project, *users)


def _compare_orders(orders: list[Document], rows: list[Document]) -> None:
    placed = {row["client_order_id"]: row for row in rows if row["status"] != "failed"}
    assert sorted(one["clientOrderId"] for one in orders) == sorted(placed)
    for order in orders:
        row = placed[order["clientOrderId"]]
        assert {
            "orderId": row["exchange_order_id"],
            "orderListId": row["order_list_id"] or "-1",
            "symbol": row["symbol"].replace("/", ""),
            "side": row["side"].upper(),
            "type": row["type"].upper(),
            "status": row["status"],
            "price": row["price"] or 0,
            "stopPrice": row["stop_price"] or 0,
            "origQty": row["quantity"],
            "executedQty": row["filled_quantity"],
            "cummulativeQuoteQty": row["total_value"],
        } == {
            **{name: str(order[name]) for name in ("orderId", "orderListId", "symbol", "side", "type")},
            **{name: Decimal(order[name]) for name in ("price", "stopPrice", "origQty", "executedQty")},
            "cummulativeQuoteQty": Decimal(order["cummulativeQuoteQty"]),
            "status": STATES[order["status"]],
        }


def _trades(project: Project, user: TestnetUser) -> list[Document]:
    query = """
      select trade.*, working.exchange_order_id
      from trades as trade join orders as working on working.id = trade.order_id
      where trade.user_id = %s and not trade.is_paper_trade
    """
    return project.rows(query, user.id)


def _compare_trades(fills: list[Document], trades: list[Document]) -> None:
    rows = {(row["exchange_order_id"], row["exchange_trade_id"]): row for row in trades}
    told = {(str(fill["orderId"]), str(fill["id"])): fill for fill in fills}
    assert len(trades) == len(rows)
    assert rows.keys() == told.keys()
    for name, fill in told.items():
        row = rows[name]
        assert {
            "symbol": row["symbol"].replace("/", ""),
            "price": row["price"],
            "qty": row["quantity"],
            "quoteQty": row["value"],
            "commission": row["fee"],
            "commissionAsset": row["fee_asset"],
        } == {
            **{name: fill[name] for name in ("symbol", "commissionAsset")},
            **{name: Decimal(fill[name]) for name in ("price", "qty", "quoteQty", "commission")},
        }
        assert abs(row["executed_at"].timestamp() * 1000 - fill["time"]) < APART_MS


def _compare_positions(fills: list[Document], orders: list[Document], positions: list[Document]) -> None:
    """Entry and exit are what the exchange's own trades make of them; fees in the coin itself were never received."""
    of_order: defaultdict[str, list[Document]] = defaultdict(list)
    for fill in fills:
        of_order[str(fill["orderId"])].append(fill)
    for position in positions:
        mine = [one for one in orders if one["position_id"] == position["id"]]
        bought, sold = (
            [fill for order in mine if order["side"] == side for fill in of_order[order["exchange_order_id"]]]
            for side in ("buy", "sell")
        )
        coin = position["symbol"].split("/")[0]
        kept = _sum([fill for fill in bought if fill["commissionAsset"] == coin], "commission")
        assert [position[name] or 0 for name in ("entry_quantity", "entry_value", "exit_quantity", "exit_value")] == [
            _sum(bought, "qty") - kept,
            _sum(bought, "quoteQty"),
            _sum(sold, "qty"),
            _sum(sold, "quoteQty"),
        ]


def _compare_coins(balances: dict[str, dict[str, str]], positions: list[Document]) -> None:
    """The account holds the coins of its positions, and no others."""
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    for position in positions:
        rest = (position["entry_quantity"] or 0) - (position["exit_quantity"] or 0)
        held[position["symbol"].split("/")[0]] += rest
    there = {asset: Decimal(one["free"]) + Decimal(one["locked"]) for asset, one in balances.items()}
    assert _some(there) == _some(held)


def _some(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    return {asset: amount for asset, amount in amounts.items() if amount and asset not in GIVEN}


def _sum(fills: list[Document], of: str) -> Decimal:
    return sum((Decimal(one[of]) for one in fills), Decimal(0))
