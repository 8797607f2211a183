"""What accounts have to spend: asked for once, and then as their user streams tell it.

The question costs 20 of the 6,000 that an address may use in a minute, so that not every entry can ask it. What is
known counts for as long as the stream stands that tells of every change, and from the last order on only once the
stream has told of that one too (binance-spot-api-docs, user-data-stream.md: outboundAccountPosition).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from streams.domain.account import Account
from streams.domain.sizing import Funds
from streams.ports import Clock

LONGEST_SECONDS = 60.0
"""After so long it is asked anew, with the fee: a stream may lose anything unsaid."""
QUIET_SECONDS = 5.0
"""An account of which nothing was heard for so long is asked for, and its key and the exchange are tried with it."""


@dataclass(frozen=True, slots=True)
class _Known:
    funds: Funds
    stream: float
    asked_at: float
    heard_at: float
    as_of_ms: int
    needed_ms: int


class Balances:
    """The free quote currency of accounts. A `stream` names one unbroken connection of an account's user stream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Account, _Known] = {}

    def funds(self, account: Account, stream: float | None) -> Funds | None:
        """What the account has to spend, if that is known now."""
        known = self._known.get(account)
        if known is None or known.stream != stream or known.as_of_ms < known.needed_ms:
            return None
        now = self._clock.monotonic()
        is_fresh = now - known.asked_at <= LONGEST_SECONDS and now - known.heard_at <= QUIET_SECONDS
        return known.funds if is_fresh else None

    def answered(self, account: Account, stream: float | None, funds: Funds, asked_ms: int) -> None:
        """Take in an answer; `stream` is the one that stood before it was asked, at `asked_ms` of the venue's clock."""
        if stream is None:
            self._known.pop(account, None)
        else:
            now = self._clock.monotonic()
            self._known[account] = _Known(funds, stream, now, now, asked_ms, asked_ms)

    def told(self, account: Account, free: Decimal, at_ms: int) -> None:
        """The stream says what is free since a moment of the venue's clock; what is older than that is passed over."""
        known = self._known.get(account)
        if known is not None and at_ms >= known.as_of_ms:
            funds = replace(known.funds, balance=free)
            self._known[account] = replace(known, funds=funds, as_of_ms=at_ms, heard_at=self._clock.monotonic())

    def moved(self, account: Account, at_ms: int) -> None:
        """An order of the account's was carried out at that moment of the venue's clock."""
        known = self._known.get(account)
        if known is not None:
            needed_ms = max(known.needed_ms, at_ms)
            self._known[account] = replace(known, needed_ms=needed_ms, heard_at=self._clock.monotonic())

    def forget(self, account: Account) -> None:
        """What the account has is in doubt: it is to be asked for."""
        self._known.pop(account, None)
