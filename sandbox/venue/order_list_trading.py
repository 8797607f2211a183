"""The order list operations: OCO, OTO, OTOCO, OPO, OPOCO (binance-spot-api-docs, rest-api.md, Order lists)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.venue import order_documents, refusal
from sandbox.venue.clock import VenueClock
from sandbox.venue.fixed_point import E8
from sandbox.venue.ledger import Ledger
from sandbox.venue.market import Market
from sandbox.venue.matching_engine import MatchingEngine
from sandbox.venue.operations import Call, Operation
from sandbox.venue.order_count import OrderCount
from sandbox.venue.order_documents import Document
from sandbox.venue.order_terms import OrderReader, leg_names, new_client_id
from sandbox.venue.orders import Terms
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_weight import flat
from sandbox.venue.trading import answer_type, list_answer

__all__ = ["OrderListTrading"]

_COMMON = frozenset({"symbol", "listClientOrderId", "newOrderRespType", "selfTradePreventionMode"})
_STOPS = ("STOP_LOSS", "STOP_LOSS_LIMIT")
_TARGETS = ("LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
_WORKING = ("LIMIT", "LIMIT_MAKER")
_ANY = ("LIMIT", "MARKET", *_STOPS, *_TARGETS)
_NOT_IN_OCO = VenueError(-1158, "Order type not supported in OCO.")
_BAD_PRICES = "The relationship of the prices for the orders is not correct."


class OrderListTrading:
    """Carries out what places and cancels order lists. Operations raise VenueError."""

    def __init__(self, clock: VenueClock, ledger: Ledger, engine: MatchingEngine, counts: OrderCount) -> None:
        self._clock = clock
        self._ledger = ledger
        self._engine = engine
        self._counts = counts

    def operations(self) -> list[Operation]:
        both = frozenset(leg_names("above") + leg_names("below"))
        working = frozenset((*leg_names("working"), "workingSide", "workingQuantity", "pendingSide"))
        pending_one = frozenset(leg_names("pending"))
        pending_two = frozenset(leg_names("pendingAbove") + leg_names("pendingBelow"))
        old = frozenset(
            {
                *leg_names("stop"),
                "limitClientOrderId",
                "price",
                "stopPrice",
                "stopLimitPrice",
                "stopLimitTimeInForce",
                "trailingDelta",
                "limitIcebergQty",
                "limitStrategyId",
                "limitStrategyType",
            }
        ) - {"stopType", "stopStopPrice", "stopTimeInForce", "stopTrailingDelta"}
        sized = frozenset({"pendingQuantity"})
        one_side = frozenset({"side", "quantity"})
        return [
            self._new("oco", _COMMON | one_side | both, self._oco, 2),
            self._new("oto", _COMMON | working | pending_one | sized, self._oto, 2),
            self._new("otoco", _COMMON | working | pending_two | sized, self._otoco, 3),
            self._new("opo", _COMMON | working | pending_one, self._opo, 2),
            self._new("opoco", _COMMON | working | pending_two, self._opoco, 3),
            Operation(
                "POST", "/api/v3/order/oco", "orderList.place", _COMMON | one_side | old, flat(1), self._old_oco, 2
            ),
            Operation(
                "DELETE",
                "/api/v3/orderList",
                "orderList.cancel",
                frozenset({"symbol", "orderListId", "listClientOrderId", "newClientOrderId"}),
                flat(1),
                self._cancel,
            ),
        ]

    @staticmethod
    def _new(kind: str, known: frozenset[str], carry_out: Callable[[Call], Any], orders: int) -> Operation:
        return Operation(
            "POST", f"/api/v3/orderList/{kind}", f"orderList.place.{kind}", known, flat(1), carry_out, orders
        )

    def _oco(self, call: Call) -> Document:
        reader = OrderReader(call.sent)
        market, side = call.sent.market(), reader.side()
        pair = self._pair(reader, "above", "below", side, reader.quantity())
        _check_around(pair, market.last_trade().price)
        return self._place(call, market, None, pair)

    def _oto(self, call: Call) -> Document:
        reader = OrderReader(call.sent)
        market, working = call.sent.market(), self._working(reader)
        side, quantity = reader.side("pendingSide"), reader.quantity("pendingQuantity")
        pending = reader.leg("pending", side, quantity, _ANY, VenueError(-1116, "Invalid orderType."))
        return self._place(call, market, working, [pending])

    def _otoco(self, call: Call) -> Document:
        reader = OrderReader(call.sent)
        market, working = call.sent.market(), self._working(reader)
        side, quantity = reader.side("pendingSide"), reader.quantity("pendingQuantity")
        return self._place(call, market, working, self._pair(reader, "pendingAbove", "pendingBelow", side, quantity))

    def _opo(self, call: Call) -> Document:
        reader = OrderReader(call.sent)
        market, working = call.sent.market(), self._working(reader)
        side = self._sells(reader, working)
        pending = reader.leg("pending", side, 0, _ANY, VenueError(-1116, "Invalid orderType."))
        return self._place(call, market, working, [pending], pays=True)

    def _opoco(self, call: Call) -> Document:
        reader = OrderReader(call.sent)
        market, working = call.sent.market(), self._working(reader)
        pair = self._pair(reader, "pendingAbove", "pendingBelow", self._sells(reader, working), 0)
        return self._place(call, market, working, pair, pays=True)

    def _old_oco(self, call: Call) -> Document:
        sent, reader = call.sent, OrderReader(call.sent)
        market, side, quantity = sent.market(), reader.side(), reader.quantity()
        for name in ("price", "stopPrice"):
            sent.required(name)
        limited = "stopLimitPrice" in sent
        if limited:
            sent.required("stopLimitTimeInForce")
        prevention = reader.prevention()
        stop = Terms(
            side=side,
            type="STOP_LOSS_LIMIT" if limited else "STOP_LOSS",
            client_order_id=sent.client_id("stopClientOrderId") or new_client_id(),
            quantity=quantity,
            price=sent.amount("stopLimitPrice") or 0,
            stop_price=sent.amount("stopPrice") or 0,
            trailing_delta=sent.integer("trailingDelta") or 0,
            time_in_force=sent.choice(
                "stopLimitTimeInForce", ("GTC", "IOC", "FOK"), VenueError(-1115, "Invalid timeInForce.")
            )
            or "GTC",
            self_trade_prevention=prevention,
        )
        target = Terms(
            side=side,
            type="LIMIT_MAKER",
            client_order_id=sent.client_id("limitClientOrderId") or new_client_id(),
            quantity=quantity,
            price=sent.amount("price") or 0,
            self_trade_prevention=prevention,
        )
        pair = [stop, target]
        _check_around(pair, market.last_trade().price)
        return self._place(call, market, None, pair)

    def _cancel(self, call: Call) -> Document:
        sent, symbol = call.sent, call.sent.market().instrument.symbol
        list_id, client_id = sent.integer("orderListId"), sent.text("listClientOrderId")
        if list_id is None and client_id is None:
            raise refusal.either_parameter("orderListId", "listClientOrderId")
        orders = self._ledger.order_list(call.account, list_id, client_id)
        named_otherwise = orders and client_id is not None and orders.client_order_id != client_id
        if not orders or named_otherwise or orders.symbol != symbol or orders.done:
            raise refusal.cancel_rejected()
        cancel_id = sent.client_id("newClientOrderId") or new_client_id()
        was_open = [order for order in orders.orders if order.open]
        self._engine.cancel(was_open[0], cancel_id)
        now = self._clock.now_ms()
        return order_documents.list_report(
            orders, [order_documents.cancelled(order, cancel_id, now) for order in was_open]
        )

    def _place(
        self, call: Call, market: Market, working: Terms | None, pair: list[Terms], *, pays: bool = False
    ) -> Document:
        answer = answer_type(call.sent, "RESULT")
        client_id = call.sent.client_id("listClientOrderId") or new_client_id()
        self._counts.charge(call.account.api_key, len(pair) + bool(working))
        orders = self._engine.place_list(call.account, market, client_id, working, pair, call.received_ns, pays=pays)
        return list_answer(orders, answer, self._clock.now_ms())

    @staticmethod
    def _working(reader: OrderReader) -> Terms:
        side, quantity = reader.side("workingSide"), reader.quantity("workingQuantity")
        return reader.leg("working", side, quantity, _WORKING, VenueError(-1116, "Invalid orderType."))

    @staticmethod
    def _sells(reader: OrderReader, working: Terms) -> str:
        """The side of what sells that which the working order buys."""
        if not working.buys:
            raise VenueError(-1222, "Working order in an OPO list must be a bid.")
        side = reader.side("pendingSide")
        if side != "SELL":
            raise VenueError(-1223, "Pending orders in an OPO list must be asks.")
        return side

    @staticmethod
    def _pair(reader: OrderReader, above: str, below: str, side: str, quantity: E8) -> list[Terms]:
        """Two orders that exclude each other, the stop first."""
        over = reader.leg(above, side, quantity, (*_STOPS, *_TARGETS), _NOT_IN_OCO)
        under = reader.leg(below, side, quantity, (*_STOPS, *_TARGETS), _NOT_IN_OCO)
        _check_kinds(over, under)
        if _level(over) <= _level(under) and _level(under):
            raise refusal.order_rejected(_BAD_PRICES)
        return sorted((over, under), key=lambda terms: terms.type not in _STOPS)


def _check_kinds(over: Terms, under: Terms) -> None:
    """Raises VenueError unless one is a stop and the other a target, each on the side of the market it belongs to."""
    sells = not over.buys
    misplaced_target, misplaced_stop = (under, over) if sells else (over, under)
    if over.type == under.type == "LIMIT_MAKER":
        raise VenueError(-1168, "At least one OCO order must be contingent.")
    if misplaced_target.type == "LIMIT_MAKER":
        wrong = (-1166, "A limit order in a sell OCO must be above.")
        raise VenueError(*wrong if sells else (-1165, "A limit order in a buy OCO must be below."))
    if misplaced_stop.type in _STOPS:
        wrong = (-1197, "A stop loss order in a sell OCO must be below.")
        raise VenueError(*wrong if sells else (-1196, "A stop loss order in a buy OCO must be above."))
    if misplaced_target.type in _TARGETS:
        wrong = (-1199, "A take profit order in a sell OCO must be above.")
        raise VenueError(*wrong if sells else (-1198, "A take profit order in a buy OCO must be below."))


def _level(terms: Terms) -> E8:
    """The price that an order of a pair waits for; zero where it trails the market."""
    return terms.price if terms.type == "LIMIT_MAKER" else terms.stop_price


def _check_around(pair: list[Terms], last: E8) -> None:
    """Raises VenueError unless the market is between the two orders."""
    for terms in pair:
        level = _level(terms)
        if level and (level <= last if terms.buys == (terms.type in _STOPS) else level >= last):
            raise refusal.order_rejected(_BAD_PRICES)
