"""An account of the venue: its key, its coins, what is set aside for its orders, what it pays for a trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sandbox.venue.fixed_point import E8, ONE, exact

__all__ = ["DISCOUNT_ASSET", "STANDARD_RATE", "Account", "Balance", "Lock"]

STANDARD_RATE: E8 = ONE // 1000
DISCOUNT_ASSET = "BNB"
_DISCOUNTED = (3, 4)  # of the standard rate, when paid in the discount asset


@dataclass(slots=True)
class Balance:
    """What an account holds of one asset."""

    free: E8 = 0
    locked: E8 = 0


@dataclass(slots=True)
class Lock:
    """Coins set aside for one order, or once for both legs of an OCO; `holders` of them are still open.

    `id` is that of its first order; of what a whole list holds, the list's with a minus.
    """

    id: int
    asset: str
    amount: E8 = 0
    holders: int = 0


class Account:
    """One API key, its secret and its balances. `touched` are the assets that moved and were not reported yet."""

    def __init__(self, number: int, api_key: str, secret: str, balances: Mapping[str, Decimal]) -> None:
        self.number = number
        self.api_key = api_key
        self.secret = secret
        self.revoked = False
        self.rate = STANDARD_RATE
        self.pays_in_bnb = False
        self.updated_ms = 0
        self.touched: set[str] = set()
        self.balances: dict[str, Balance] = {}
        self.first = {asset: exact(free) for asset, free in balances.items()}
        self.reset()

    def balance(self, asset: str) -> Balance:
        return self.balances.setdefault(asset, Balance())

    def free(self, asset: str) -> E8:
        held = self.balances.get(asset)
        return held.free if held else 0

    def reset(self) -> None:
        """Back to what the account was opened with, as the Spot Testnet does about once a month."""
        self.balances = {asset: Balance(free) for asset, free in self.first.items()}

    def resize(self, lock: Lock, amount: E8) -> bool:
        """Sets the lock's amount, from and to what is free; False, and nothing done, where too little is free."""
        more = amount - lock.amount
        if not more:
            return True
        if more > self.free(lock.asset):
            return False
        held = self._moving(lock.asset)
        held.free -= more
        held.locked += more
        lock.amount = amount
        return True

    def can_pay(self, lock: Lock, amount: E8) -> bool:
        return amount <= lock.amount + self.free(lock.asset)

    def pay(self, lock: Lock, amount: E8) -> None:
        """Gives away what the lock holds, then what is free; `can_pay` comes before."""
        held = self._moving(lock.asset)
        locked = min(amount, lock.amount)
        lock.amount -= locked
        held.locked -= locked
        held.free -= amount - locked

    def receive(self, asset: str, amount: E8) -> None:
        """Takes in an amount, or gives away a negative one, of what is free."""
        if amount:
            self._moving(asset).free += amount

    def commission(self, received: E8) -> E8:
        """On an amount received, in the same asset; cut off after eight decimals."""
        return received * self.rate // ONE

    def discounted(self, worth: E8) -> E8:
        """On a value in the discount asset."""
        part, whole = _DISCOUNTED
        return worth * self.rate * part // (whole * ONE)

    def _moving(self, asset: str) -> Balance:
        self.touched.add(asset)
        return self.balance(asset)
