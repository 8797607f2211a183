"""The venue's accounts: who may trade with which key, and what each holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = ["Account", "Balance", "Ledger"]

_NOTHING = Decimal(0)


@dataclass(slots=True)
class Balance:
    """What an account holds of one asset."""

    free: Decimal = _NOTHING
    locked: Decimal = _NOTHING


class Account:
    """One API key, its secret and its balances."""

    def __init__(self, api_key: str, secret: str, balances: Mapping[str, Decimal]) -> None:
        self.api_key = api_key
        self.secret = secret
        self.balances: dict[str, Balance] = {}
        self._first = dict(balances)
        self.reset()

    def balance(self, asset: str) -> Balance:
        return self.balances.setdefault(asset, Balance())

    def reset(self) -> None:
        """Back to what the account was opened with, as the Spot Testnet does about once a month."""
        self.balances = {asset: Balance(free) for asset, free in self._first.items()}


class Ledger:
    """Every account by its key."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def open(self, api_key: str, secret: str, balances: Mapping[str, Decimal]) -> Account:
        """Opens an account. Raises ValueError for a key in use, an empty one, or a negative balance."""
        if not api_key or not secret:
            raise ValueError("an account needs an API key and a secret")
        if api_key in self.accounts:
            raise ValueError(f"the API key {api_key[:6]}… has an account already")
        if any(not free.is_finite() or free < 0 for free in balances.values()):
            raise ValueError("a balance is at least 0")
        account = self.accounts[api_key] = Account(api_key, secret, balances)
        return account

    def reset(self) -> None:
        """Takes orders, trades and balances back to the start; keys stay."""
        for account in self.accounts.values():
            account.reset()

    def document(self) -> dict[str, Any]:
        """Everything in the ledger, amounts as text."""
        return {
            "orders": [],
            "trades": [],
            "balances": {
                api_key: {
                    asset: {"free": f"{balance.free:f}", "locked": f"{balance.locked:f}"}
                    for asset, balance in account.balances.items()
                }
                for api_key, account in self.accounts.items()
            },
        }
