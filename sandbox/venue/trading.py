"""The trading operations: new orders, cancels, cancel and replace (binance-spot-api-docs, rest-api.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sandbox.venue import order_documents, refusal
from sandbox.venue.accounts import Account
from sandbox.venue.clock import VenueClock
from sandbox.venue.ledger import Ledger
from sandbox.venue.market import Market
from sandbox.venue.matching_engine import MatchingEngine
from sandbox.venue.operations import Call, Operation
from sandbox.venue.order_checks import examine
from sandbox.venue.order_count import OrderCount
from sandbox.venue.order_documents import Document
from sandbox.venue.order_terms import TERM_NAMES, OrderReader, new_client_id
from sandbox.venue.orders import Order, OrderList
from sandbox.venue.parameters import Parameters
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_weight import TooMuch, flat

__all__ = ["ReplaceFailed", "Trading", "answer_type", "list_answer"]

_ANSWERS = ("ACK", "RESULT", "FULL")
_FULL_BY_DEFAULT = frozenset({"LIMIT", "MARKET"})
_RESTRICTIONS = {"ONLY_NEW": "NEW", "ONLY_PARTIALLY_FILLED": "PARTIALLY_FILLED"}
_REPLACE_MODES = ("STOP_ON_FAILURE", "ALLOW_FAILURE")
_LIMIT_MODES = ("DO_NOTHING", "CANCEL_ONLY")


class ReplaceFailed(VenueError):
    """A cancel-replace of which not all was done; `data` tells what was."""

    def __init__(self, *, partly: bool, data: Document, status: int) -> None:
        code, how = (-2021, "partially failed") if partly else (-2022, "failed")
        super().__init__(code, f"Order cancel-replace {how}.", status)
        self.data = data

    @property
    def document(self) -> Document:
        return super().document | {"data": self.data}


class Trading:
    """Carries out what changes orders. Operations raise VenueError."""

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
        order = frozenset({"symbol", "newOrderRespType", *TERM_NAMES})
        cancelling = frozenset({"symbol", "orderId", "origClientOrderId", "newClientOrderId", "cancelRestrictions"})
        replacing = order | {
            "cancelReplaceMode",
            "cancelNewClientOrderId",
            "cancelOrigClientOrderId",
            "cancelOrderId",
            "cancelRestrictions",
            "orderRateLimitExceededMode",
        }
        testing = order | {"computeCommissionRates"}
        path = "/api/v3/order"
        return [
            Operation("POST", path, "order.place", order, flat(1), self._place, 1),
            Operation("POST", f"{path}/test", "order.test", testing, _weigh_test, self._test),
            Operation("DELETE", path, "order.cancel", cancelling, flat(1), self._cancel),
            Operation("POST", f"{path}/cancelReplace", "order.cancelReplace", replacing, flat(1), self._replace, 1),
            Operation(
                "DELETE",
                "/api/v3/openOrders",
                "openOrders.cancelAll",
                frozenset({"symbol"}),
                flat(1),
                self._cancel_all,
            ),
        ]

    def _place(self, call: Call) -> Document:
        market, terms = call.sent.market(), OrderReader(call.sent).single()
        answer = answer_type(call.sent, "FULL" if terms.type in _FULL_BY_DEFAULT else "ACK")
        self._counts.charge(call.account.api_key, 1)
        order = self._engine.place(call.account, market, terms, call.received_ns)
        return placed(order, answer, self._clock.now_ms())

    def _test(self, call: Call) -> Document:
        market, terms = call.sent.market(), OrderReader(call.sent).single()
        answer_type(call.sent, "ACK")
        examine(self._ledger, call.account, market, [terms])
        if not call.sent.flag("computeCommissionRates", False):
            return {}
        rates = commission(call.account, market)
        return {
            "standardCommissionForOrder": _both(rates["standardCommission"]),
            "specialCommissionForOrder": _both(rates["specialCommission"]),
            "taxCommissionForOrder": _both(rates["taxCommission"]),
            "discount": rates["discount"],
        }

    def _cancel(self, call: Call) -> Document:
        market = call.sent.market()
        order = self._named(call, market, "orderId", "origClientOrderId")
        return self._cancel_order(call.sent, order, call.sent.client_id("newClientOrderId") or new_client_id())

    def _cancel_order(self, sent: Parameters, order: Order | None, cancel_id: str) -> Document:
        restrictions = sent.choice("cancelRestrictions", _RESTRICTIONS, VenueError(-1145, "Invalid cancelRestrictions"))
        if order is None or not order.open:
            raise refusal.cancel_rejected()
        if restrictions and order.status != _RESTRICTIONS[restrictions]:
            raise refusal.cancel_rejected("Order was not canceled due to cancel restrictions.")
        was_open = [each for each in (order.order_list.orders if order.order_list else (order,)) if each.open]
        self._engine.cancel(order, cancel_id)
        now = self._clock.now_ms()
        reports = [order_documents.cancelled(each, cancel_id, now) for each in was_open]
        return order_documents.list_report(order.order_list, reports) if order.order_list else reports[0]

    def _cancel_all(self, call: Call) -> list[Document]:
        open_orders = self._ledger.open_orders(call.account, call.sent.market().instrument.symbol)
        if not open_orders:
            raise refusal.cancel_rejected()
        cancel_id = new_client_id()
        return [self._cancel_order(call.sent, order, cancel_id) for order in open_orders if order.open]

    def _replace(self, call: Call) -> Document:
        sent, key = call.sent, call.account.api_key
        sent.required("cancelReplaceMode")
        mode = sent.choice("cancelReplaceMode", _REPLACE_MODES, refusal.invalid_parameter("cancelReplaceMode"))
        limited = sent.choice(
            "orderRateLimitExceededMode", _LIMIT_MODES, refusal.invalid_parameter("orderRateLimitExceededMode")
        )
        market, terms = sent.market(), OrderReader(sent).single()
        answer = answer_type(sent, "FULL" if terms.type in _FULL_BY_DEFAULT else "ACK")
        order = self._named(call, market, "cancelOrderId", "cancelOrigClientOrderId")
        over_limit: TooMuch | None = None
        try:
            self._counts.charge(key, 1)
        except TooMuch as error:
            if limited != "CANCEL_ONLY":
                raise
            over_limit = error
        cancel_failed, new_failed = None, over_limit
        cancel_answer: Document
        new_answer: Document | None = None
        try:
            cancel_id = sent.client_id("cancelNewClientOrderId") or new_client_id()
            cancel_answer = self._cancel_order(sent, order, cancel_id)
        except VenueError as error:
            cancel_failed, cancel_answer = error, error.document
        attempted = not (cancel_failed and mode == "STOP_ON_FAILURE")
        if attempted and new_failed is None:
            try:
                placed_order = self._engine.place(call.account, market, terms, call.received_ns)
                new_answer = placed(placed_order, answer, self._clock.now_ms())
            except VenueError as error:
                new_failed, new_answer = error, error.document
        elif attempted and new_failed:
            new_answer = new_failed.document
        data: Document = {
            "cancelResult": "FAILURE" if cancel_failed else "SUCCESS",
            "newOrderResult": ("FAILURE" if new_failed else "SUCCESS") if attempted else "NOT_ATTEMPTED",
            "cancelResponse": cancel_answer,
            "newOrderResponse": new_answer,
        }
        if not cancel_failed and not new_failed:
            return data
        partly = bool(cancel_failed) != bool(new_failed) and attempted
        raise ReplaceFailed(partly=partly, data=data, status=429 if over_limit else 409 if partly else 400)

    def _named(self, call: Call, market: Market, by_id: str, by_client_id: str) -> Order | None:
        """The order that a request names; None where there is no such order. Raises VenueError where it names none."""
        order_id, client_id = call.sent.integer(by_id), call.sent.text(by_client_id)
        if order_id is None and client_id is None:
            raise refusal.either_parameter(by_client_id, by_id)
        order = self._ledger.order(call.account, market.instrument.symbol, order_id, client_id)
        if order and client_id is not None and order.terms.client_order_id != client_id:
            return None
        return order


def answer_type(sent: Parameters, default: str) -> str:
    wrong = refusal.invalid_parameter("newOrderRespType")
    return sent.choice("newOrderRespType", _ANSWERS, wrong) or default


def placed(order: Order, answer: str, now_ms: int) -> Document:
    """What a new order is answered with."""
    if answer == "ACK":
        return order_documents.acknowledgement(order, now_ms)
    return order_documents.full(order, now_ms) if answer == "FULL" else order_documents.result(order, now_ms)


def list_answer(orders: OrderList, answer: str, now_ms: int) -> Document:
    """What a new order list is answered with."""
    return order_documents.list_report(orders, [placed(order, answer, now_ms) for order in orders.orders])


def commission(account: Account, market: Market) -> Document:
    return order_documents.commission_rates(market.instrument, account.rate, discounted=account.pays_in_bnb)


def _both(rates: Mapping[str, Any]) -> Document:
    return {name: rates[name] for name in ("maker", "taker")}


def _weigh_test(query: Collection[str]) -> int:
    return 20 if "computeCommissionRates" in query else 1
