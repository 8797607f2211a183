"""Orders, lists and trades in the shapes of Binance's answers (binance-spot-api-docs, rest-api.md)."""

from __future__ import annotations

from typing import Any

from sandbox.venue.fixed_point import E8, text
from sandbox.venue.instrument import Instrument
from sandbox.venue.orders import Fill, Order, OrderList

__all__ = [
    "acknowledgement",
    "cancelled",
    "commission_rates",
    "full",
    "list_document",
    "list_report",
    "queried",
    "result",
    "traded",
]

Document = dict[str, Any]


def acknowledgement(order: Order, at_ms: int) -> Document:
    """A new order, ACK."""
    return {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": _list_id(order),
        "clientOrderId": order.terms.client_order_id,
        "transactTime": at_ms,
    }


def result(order: Order, at_ms: int) -> Document:
    """A new order, RESULT."""
    document = acknowledgement(order, at_ms) | _state(order)
    return document | {"workingTime": order.working_ms} | _conditional(order)


def full(order: Order, at_ms: int) -> Document:
    """A new order, FULL."""
    fills = [
        {
            "price": text(fill.price),
            "qty": text(fill.quantity),
            "commission": text(fill.commission),
            "commissionAsset": fill.commission_asset,
            "tradeId": fill.id,
        }
        for fill in order.fills
    ]
    return result(order, at_ms) | {"fills": fills}


def cancelled(order: Order, cancel_id: str, at_ms: int) -> Document:
    """An order just cancelled."""
    document: Document = {
        "symbol": order.symbol,
        "origClientOrderId": order.terms.client_order_id,
        "orderId": order.id,
        "orderListId": _list_id(order),
        "clientOrderId": cancel_id,
        "transactTime": at_ms,
    }
    return document | _state(order) | _conditional(order)


def queried(order: Order) -> Document:
    """An order as queries show it."""
    document: Document = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": _list_id(order),
        "clientOrderId": order.terms.client_order_id,
        **_state(order),
        "stopPrice": text(order.terms.stop_price),
        "icebergQty": text(order.terms.iceberg_quantity),
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.working_ms >= 0,
        "workingTime": order.working_ms,
    }
    return document | _conditional(order)


def traded(order: Order, fill: Fill) -> Document:
    """One trade of myTrades."""
    return {
        "symbol": order.symbol,
        "id": fill.id,
        "orderId": order.id,
        "orderListId": _list_id(order),
        "price": text(fill.price),
        "qty": text(fill.quantity),
        "quoteQty": text(fill.quote_quantity),
        "commission": text(fill.commission),
        "commissionAsset": fill.commission_asset,
        "time": fill.at_ms,
        "isBuyer": order.terms.buys,
        "isMaker": fill.maker,
        "isBestMatch": True,
    }


def list_document(orders: OrderList) -> Document:
    """An order list as queries show it."""
    return {
        "orderListId": orders.id,
        "contingencyType": orders.contingency,
        "listStatusType": "ALL_DONE" if orders.done else "EXEC_STARTED",
        "listOrderStatus": "ALL_DONE" if orders.done else "EXECUTING",
        "listClientOrderId": orders.client_order_id,
        "transactionTime": orders.updated_ms,
        "symbol": orders.symbol,
        "orders": [
            {"symbol": orders.symbol, "orderId": order.id, "clientOrderId": order.terms.client_order_id}
            for order in orders.orders
        ],
    }


def list_report(orders: OrderList, reports: list[Document]) -> Document:
    """An order list just placed or cancelled, with what became of its orders."""
    return list_document(orders) | {"orderReports": reports}


def commission_rates(instrument: Instrument, rate: E8, *, discounted: bool) -> Document:
    """What an account pays for trades of a symbol."""
    nothing = {"maker": text(0), "taker": text(0), "buyer": text(0), "seller": text(0)}
    return {
        "symbol": instrument.symbol,
        "standardCommission": nothing | {"maker": text(rate), "taker": text(rate)},
        "specialCommission": nothing,
        "taxCommission": nothing,
        "discount": {
            "enabledForAccount": discounted,
            "enabledForSymbol": True,
            "discountAsset": "BNB",
            "discount": "0.75000000",
        },
    }


def _list_id(order: Order) -> int:
    return order.order_list.id if order.order_list else -1


def _state(order: Order) -> Document:
    return {
        "price": text(order.terms.price),
        "origQty": text(order.quantity),
        "executedQty": text(order.executed),
        "origQuoteOrderQty": text(order.terms.quote_quantity),
        "cummulativeQuoteQty": text(order.cost),
        "status": order.status,
        "timeInForce": order.terms.time_in_force,
        "type": order.terms.type,
        "side": order.terms.side,
        "selfTradePreventionMode": order.terms.self_trade_prevention,
    }


def _conditional(order: Order) -> Document:
    terms, shown = order.terms, Document()
    if terms.conditional:
        shown["stopPrice"] = text(terms.stop_price)
    if terms.trailing_delta:
        shown |= {"trailingDelta": terms.trailing_delta, "trailingTime": order.trailing_ms}
    if terms.iceberg_quantity:
        shown["icebergQty"] = text(terms.iceberg_quantity)
    if terms.strategy_id is not None:
        shown["strategyId"] = terms.strategy_id
    if terms.strategy_type is not None:
        shown["strategyType"] = terms.strategy_type
    if order.expiry_reason:
        shown["expiryReason"] = order.expiry_reason
    return shown
