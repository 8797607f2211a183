"""What an account may ask of itself (binance-spot-api-docs, rest-api.md, Account Endpoints)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from multidict import MultiMapping

from sandbox.venue import order_documents, refusal
from sandbox.venue.clock import VenueClock
from sandbox.venue.fixed_point import ONE, text
from sandbox.venue.ledger import Ledger
from sandbox.venue.market import Market
from sandbox.venue.matching_engine import MatchingEngine
from sandbox.venue.operations import Call, Operation
from sandbox.venue.order_count import OrderCount
from sandbox.venue.order_documents import Document
from sandbox.venue.orders import Order, OrderList
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_weight import flat

__all__ = ["AccountQueries"]

_MOST, _USUAL = 1000, 500
_DAY_MS = 86_400_000
_FIRST_UID = 1_000_000

Entry = TypeVar("Entry")


class AccountQueries:
    """Answers from the ledger, where an order is not seen before its fill plan lets it. Operations raise VenueError."""

    def __init__(
        self,
        markets: Mapping[str, Market],
        clock: VenueClock,
        ledger: Ledger,
        engine: MatchingEngine,
        counts: OrderCount,
    ) -> None:
        self._markets = markets
        self._clock = clock
        self._ledger = ledger
        self._engine = engine
        self._counts = counts

    def operations(self) -> list[Operation]:
        span = frozenset({"startTime", "endTime", "limit"})
        symbol = frozenset({"symbol"})
        trades = symbol | span | {"orderId", "fromId"}
        named = frozenset({"orderId", "origClientOrderId"})
        listed = frozenset({"orderListId", "origClientOrderId"})
        return [
            _get("/order", "order.status", symbol | named, 4, self._order),
            Operation("GET", "/api/v3/openOrders", "openOrders.status", symbol, _weigh_open, self._open_orders),
            _get("/allOrders", "allOrders", symbol | span | {"orderId"}, 20, self._all_orders),
            Operation("GET", "/api/v3/myTrades", "myTrades", trades, _weigh_trades, self._trades),
            _get("/account", "account.status", frozenset({"omitZeroBalances"}), 20, self._account),
            _get("/account/commission", "account.commission", symbol, 20, self._commission),
            _get("/rateLimit/order", "account.rateLimits.orders", frozenset(), 40, self._order_count),
            _get("/orderList", "orderList.status", listed, 4, self._order_list),
            _get("/openOrderList", "openOrderLists.status", frozenset(), 6, self._open_lists),
            _get("/allOrderList", "allOrderLists", span | {"fromId"}, 20, self._all_lists),
        ]

    def _order(self, call: Call) -> Document:
        symbol = call.sent.market().instrument.symbol
        order_id, client_id = call.sent.integer("orderId"), call.sent.text("origClientOrderId")
        if order_id is None and client_id is None:
            raise refusal.either_parameter("origClientOrderId", "orderId")
        self._engine.refresh(symbol)
        order = self._ledger.order(call.account, symbol, order_id, client_id)
        if order is None or not self._seen(order):
            raise refusal.no_such_order()
        if client_id is not None and order.terms.client_order_id != client_id:
            raise VenueError(-2039, "Client order ID is not correct for this order ID.")
        return order_documents.queried(order)

    def _open_orders(self, call: Call) -> list[Document]:
        symbol = call.sent.market().instrument.symbol if "symbol" in call.sent else None
        self._engine.refresh(symbol)
        return [
            order_documents.queried(order)
            for order in self._ledger.open_orders(call.account, symbol)
            if self._seen(order)
        ]

    def _all_orders(self, call: Call) -> list[Document]:
        symbol, first = call.sent.market().instrument.symbol, call.sent.integer("orderId")
        self._engine.refresh(symbol)
        start, end, limit = _span(call)
        found = [
            order
            for order in self._ledger.orders_of(call.account, symbol)
            if self._seen(order) and (first or 0) <= order.id and start <= order.created_ms <= end
        ]
        forwards = first is not None or "startTime" in call.sent
        return [order_documents.queried(order) for order in _page(found, limit, forwards=forwards)]

    def _trades(self, call: Call) -> list[Document]:
        sent = call.sent
        symbol, order_id, first = sent.market().instrument.symbol, sent.integer("orderId"), sent.integer("fromId")
        timed = "startTime" in sent or "endTime" in sent
        if timed and (order_id is not None or first is not None):
            raise refusal.bad_combination()
        self._engine.refresh(symbol)
        start, end, limit = _span(call)
        found = [
            (fill.id, order_documents.traded(order, fill))
            for order in self._ledger.orders_of(call.account, symbol)
            if self._seen(order) and order_id in (None, order.id)
            for fill in order.fills
            if (first or 0) <= fill.id and start <= fill.at_ms <= end
        ]
        found.sort(key=lambda entry: entry[0])
        forwards = first is not None or order_id is not None or "startTime" in sent
        return [document for _, document in _page(found, limit, forwards=forwards)]

    def _account(self, call: Call) -> Document:
        account, only_held = call.account, call.sent.flag("omitZeroBalances", False)
        self._engine.refresh()
        rate, nothing = account.rate, text(0)
        return {
            "makerCommission": rate * 10_000 // ONE,
            "takerCommission": rate * 10_000 // ONE,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {"maker": text(rate), "taker": text(rate), "buyer": nothing, "seller": nothing},
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": False,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": account.updated_ms,
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": text(balance.free), "locked": text(balance.locked)}
                for asset, balance in sorted(account.balances.items())
                if balance.free or balance.locked or not only_held
            ],
            "permissions": ["SPOT"],
            "uid": _FIRST_UID + account.number,
        }

    @staticmethod
    def _commission(call: Call) -> Document:
        return order_documents.commission_rates(
            call.sent.market().instrument, call.account.rate, discounted=call.account.pays_in_bnb
        )

    def _order_count(self, call: Call) -> list[dict[str, Any]]:
        return self._counts.document(call.account.api_key)

    def _order_list(self, call: Call) -> Document:
        list_id, client_id = call.sent.integer("orderListId"), call.sent.text("origClientOrderId")
        if list_id is None and client_id is None:
            raise refusal.either_parameter("orderListId", "origClientOrderId")
        orders = self._ledger.order_list(call.account, list_id, client_id)
        if orders is None or not self._list_seen(orders):
            raise VenueError(-2018, "Order list does not exist.")
        self._engine.refresh(orders.symbol)
        return order_documents.list_document(orders)

    def _open_lists(self, call: Call) -> list[Document]:
        self._engine.refresh()
        return [order_documents.list_document(orders) for orders in self._lists(call) if not orders.done]

    def _all_lists(self, call: Call) -> list[Document]:
        first = call.sent.integer("fromId")
        if first is not None and ("startTime" in call.sent or "endTime" in call.sent):
            raise refusal.bad_combination()
        self._engine.refresh()
        start, end, limit = _span(call)
        found = [
            orders for orders in self._lists(call) if (first or 0) <= orders.id and start <= orders.created_ms <= end
        ]
        forwards = first is not None or "startTime" in call.sent
        return [order_documents.list_document(orders) for orders in _page(found, limit, forwards=forwards)]

    def _lists(self, call: Call) -> list[OrderList]:
        return [each for each in self._ledger.lists.values() if each.account is call.account and self._list_seen(each)]

    def _list_seen(self, orders: OrderList) -> bool:
        return all(self._seen(order) for order in orders.orders)

    def _seen(self, order: Order) -> bool:
        return order.hidden_until <= self._clock.market_ms()


def _get(path: str, name: str, known: frozenset[str], weight: int, carry_out: Any) -> Operation:
    return Operation("GET", f"/api/v3{path}", name, known, flat(weight), carry_out)


def _span(call: Call) -> tuple[int, int, int]:
    """From when, until when, and how many. Raises VenueError for more than a day."""
    start, end = call.sent.moment("startTime"), call.sent.moment("endTime")
    if start is not None and end is not None and end - start > _DAY_MS:
        raise VenueError(-1127, "More than 24 hours between startTime and endTime.")
    return start or 0, 10**15 if end is None else end, call.sent.limit(_USUAL, _MOST)


def _page(found: list[Entry], limit: int, *, forwards: bool) -> list[Entry]:
    """The first of them, or the last, in their order."""
    return found[:limit] if forwards else found[-limit:]


def _weigh_open(query: MultiMapping[str]) -> int:
    return 6 if "symbol" in query else 80


def _weigh_trades(query: MultiMapping[str]) -> int:
    return 5 if "orderId" in query else 20
