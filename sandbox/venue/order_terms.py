"""Reads what is ordered from the parameters of a request, by Binance's rules for each type of order."""

from __future__ import annotations

import secrets

from sandbox.venue import refusal
from sandbox.venue.fixed_point import E8
from sandbox.venue.instrument import DEFAULT_SELF_TRADE_PREVENTION, ORDER_TYPES, SELF_TRADE_PREVENTIONS
from sandbox.venue.orders import CONDITIONAL, Terms
from sandbox.venue.parameters import Parameters
from sandbox.venue.refusal import VenueError

__all__ = ["TERM_NAMES", "OrderReader", "leg_names", "new_client_id"]

_SIDES = ("BUY", "SELL")
_TIMES_IN_FORCE = ("GTC", "IOC", "FOK")
_WITH_PRICE = frozenset({"LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"})
_WITH_TIME_IN_FORCE = frozenset({"LIMIT", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"})
_LEAST_STRATEGY_TYPE = 1_000_000
_LEG_PARTS = ("Type", "ClientOrderId", "Price", "StopPrice", "TrailingDelta", "TimeInForce", "IcebergQty")
_LEG_LABELS = ("StrategyId", "StrategyType")
TERM_NAMES = (
    "side",
    "type",
    "timeInForce",
    "quantity",
    "quoteOrderQty",
    "price",
    "newClientOrderId",
    "strategyId",
    "strategyType",
    "stopPrice",
    "trailingDelta",
    "icebergQty",
    "selfTradePreventionMode",
)
"""The parameters of a single order."""


def leg_names(prefix: str) -> tuple[str, ...]:
    """The parameters of one order of a list."""
    return tuple(prefix + part for part in _LEG_PARTS + _LEG_LABELS)


def new_client_id() -> str:
    """An id for what its owner did not name."""
    return secrets.token_hex(11)


class OrderReader:
    """Reads orders from one request. Every reader raises VenueError."""

    def __init__(self, sent: Parameters) -> None:
        self._sent = sent

    def side(self, name: str = "side") -> str:
        self._sent.required(name)
        side = self._sent.choice(name, _SIDES, VenueError(-1117, "Invalid side."))
        assert side
        return side

    def quantity(self, name: str = "quantity") -> E8:
        self._sent.required(name)
        quantity = self._sent.amount(name)
        assert quantity
        return quantity

    def single(self) -> Terms:
        """The one order of a request that names no legs."""
        sent = self._sent
        side, kind = self.side(), self._type("type")
        quantity, quote_quantity = sent.amount("quantity"), sent.amount("quoteOrderQty")
        if kind != "MARKET":
            if quote_quantity is not None:
                raise refusal.needless_parameter("quoteOrderQty")
            quantity = self.quantity()
        elif quantity is None and quote_quantity is None:
            raise refusal.either_parameter("quantity", "quoteOrderQty")
        elif quantity is not None and quote_quantity is not None:
            raise refusal.needless_parameter("quoteOrderQty")
        return self._terms("", side, kind, quantity or 0, quote_quantity or 0)

    def leg(self, prefix: str, side: str, quantity: E8, kinds: tuple[str, ...], wrong: VenueError) -> Terms:
        """One order of a list, its type one of `kinds`."""
        kind = self._type(f"{prefix}Type")
        if kind not in kinds:
            raise wrong
        return self._terms(prefix, side, kind, quantity, 0)

    def prevention(self) -> str:
        """How the account is kept from trading with itself, which never happens at this venue."""
        wrong = refusal.invalid_parameter("selfTradePreventionMode")
        mode = self._sent.choice("selfTradePreventionMode", SELF_TRADE_PREVENTIONS, wrong)
        return mode or DEFAULT_SELF_TRADE_PREVENTION

    def _type(self, name: str) -> str:
        self._sent.required(name)
        kind = self._sent.choice(name, ORDER_TYPES, VenueError(-1116, "Invalid orderType."))
        assert kind
        return kind

    def _terms(self, prefix: str, side: str, kind: str, quantity: E8, quote_quantity: E8) -> Terms:
        sent = self._sent

        def named(name: str) -> str:
            return prefix + name[0].upper() + name[1:] if prefix else name

        price, stop = sent.amount(named("price")), sent.amount(named("stopPrice"))
        trailing = sent.integer(named("trailingDelta"))
        time_in_force = sent.choice(named("timeInForce"), _TIMES_IN_FORCE, VenueError(-1115, "Invalid timeInForce."))
        self._demand(named("price"), price is not None, kind in _WITH_PRICE)
        self._demand(named("timeInForce"), time_in_force is not None, kind in _WITH_TIME_IN_FORCE)
        if kind not in CONDITIONAL:
            self._demand(named("stopPrice"), stop is not None, needed=False)
            self._demand(named("trailingDelta"), trailing is not None, needed=False)
        elif stop is None and trailing is None:
            raise refusal.either_parameter(named("stopPrice"), named("trailingDelta"))
        iceberg = sent.amount(named("icebergQty"))
        if iceberg is not None and (time_in_force or "GTC") != "GTC":
            raise refusal.needless_parameter(named("icebergQty"))
        strategy_type = sent.integer(named("strategyType"))
        if strategy_type is not None and strategy_type < _LEAST_STRATEGY_TYPE:
            raise VenueError(-1134, f"'{named('strategyType')}' was less than {_LEAST_STRATEGY_TYPE}.")
        identifier = sent.client_id(named("clientOrderId") if prefix else "newClientOrderId")
        return Terms(
            side=side,
            type=kind,
            client_order_id=identifier or new_client_id(),
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price or 0,
            stop_price=stop or 0,
            trailing_delta=trailing or 0,
            time_in_force=time_in_force or "GTC",
            iceberg_quantity=iceberg or 0,
            strategy_id=sent.integer(named("strategyId")),
            strategy_type=strategy_type,
            self_trade_prevention=self.prevention(),
        )

    @staticmethod
    def _demand(name: str, sent: bool, needed: bool) -> None:
        if needed and not sent:
            raise refusal.missing_parameter(name)
        if sent and not needed:
            raise refusal.needless_parameter(name)
