"""What a trade does to an account: coins paid, coins received, commission taken."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.venue.accounts import DISCOUNT_ASSET, Account
from sandbox.venue.fixed_point import E8, ONE, times
from sandbox.venue.market import Market
from sandbox.venue.orders import Fill, Order

__all__ = ["Settlement"]

_BRIDGE = "USDT"


class Settlement:
    """Settles trades exactly, in units of 1e-8; what is smaller is cut off."""

    def __init__(self, markets: Mapping[str, Market]) -> None:
        self._markets = markets

    def affordable(self, order: Order, price: E8, quantity: E8) -> bool:
        """Whether the account can pay for that trade."""
        return order.account.can_pay(order.lock, self._paid(order, price, quantity))

    def settle(self, order: Order, price: E8, quantity: E8, *, maker: bool, trade_id: int, at_ms: int) -> Fill:
        """Moves the coins of one trade; `affordable` comes before."""
        account, instrument = order.account, order.instrument
        quote_quantity = times(price, quantity)
        account.pay(order.lock, self._paid(order, price, quantity))
        if order.terms.buys:
            received, asset = quantity, instrument.base
        else:
            received, asset = quote_quantity, instrument.quote
        account.receive(asset, received)
        commission, commission_asset = self._commission(account, asset, received, instrument.quote, quote_quantity)
        account.receive(commission_asset, -commission)
        account.updated_ms = at_ms
        return Fill(trade_id, price, quantity, quote_quantity, commission, commission_asset, at_ms, maker)

    @staticmethod
    def _paid(order: Order, price: E8, quantity: E8) -> E8:
        return times(price, quantity) if order.terms.buys else quantity

    def _commission(self, account: Account, asset: str, received: E8, quote: str, value: E8) -> tuple[E8, str]:
        """From what is received, or with a discount from the account's BNB where it has enough."""
        if account.pays_in_bnb:
            worth = received if asset == DISCOUNT_ASSET else self._in_discount_asset(quote, value)
            discounted = None if worth is None else account.discounted(worth)
            if discounted is not None and discounted <= account.free(DISCOUNT_ASSET):
                return discounted, DISCOUNT_ASSET
        return account.commission(received), asset

    def _in_discount_asset(self, quote: str, value: E8) -> E8 | None:
        if quote == DISCOUNT_ASSET:
            return value
        direct = self._markets.get(DISCOUNT_ASSET + quote)
        if direct is not None:
            return value * ONE // direct.last_trade().price
        bridge = self._markets.get(quote + _BRIDGE)
        if bridge is None or DISCOUNT_ASSET + _BRIDGE not in self._markets:
            return None
        return self._in_discount_asset(_BRIDGE, times(bridge.last_trade().price, value))
