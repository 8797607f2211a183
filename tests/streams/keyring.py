"""The keyring in memory."""

from __future__ import annotations

from streams.domain.account import Account
from streams.domain.errors import Refused, Transient
from streams.ports import Keys


class FakeKeyring:
    """Gives the keys it was told, and remembers what it gave until it is told to drop it."""

    def __init__(self) -> None:
        self.out_of_reach = False
        self.asked = 0
        self._stored: dict[Account, Keys] = {}
        self._versions: dict[Account, int] = {}
        self._unreadable: set[Account] = set()
        self._held: dict[Account, Keys] = {}

    def store(self, account: Account, api_key: str, secret: str) -> None:
        """Put keys in the place of those there were, under the next version."""
        version = self._versions[account] = self._versions.get(account, 0) + 1
        self._stored[account] = Keys(api_key, secret, version)
        self._unreadable.discard(account)

    def revoke(self, account: Account) -> None:
        """Take an account's keys away."""
        self._stored.pop(account, None)

    def spoil(self, account: Account) -> None:
        """Make what is stored of an account unreadable."""
        self._unreadable.add(account)

    async def keys(self, account: Account) -> Keys:
        if account in self._held:
            return self._held[account]
        self.asked += 1
        if self.out_of_reach:
            raise Transient("the keys are out of reach")
        if account not in self._stored:
            raise Refused("keys_missing", "Store your exchange keys first.")
        if account in self._unreadable:
            raise Refused("keys_rejected", "The stored exchange keys cannot be read any more.")
        self._held[account] = self._stored[account]
        return self._held[account]

    def drop(self, account: Account, version: int | None = None) -> None:
        held = self._held.get(account)
        if held is not None and (version is None or held.version <= version):
            del self._held[account]
