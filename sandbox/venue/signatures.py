"""Who sent a request, and whether it is theirs and of now (binance-spot-api-docs, rest-api.md, Request Security)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

from multidict import MultiMapping

from sandbox.venue import refusal
from sandbox.venue.accounts import Account
from sandbox.venue.refusal import VenueError

__all__ = ["SIGNING_NAMES", "Signatures", "unsigned"]

SIGNING_NAMES = ("timestamp", "recvWindow", "signature")
_API_KEY = "[A-Za-z0-9_-]{1,128}"
_INTEGER = "^[0-9]{1,20}$"
_WINDOW = "^([0-9]{1,5})(\\.[0-9]{1,3})?$"
_DEFAULT_WINDOW_MS = 5000
_LONGEST_WINDOW_MS = 60_000
_AHEAD_MS = 1000
_MICROSECONDS_FROM = 10**15


def unsigned(sent: str) -> str:
    """A query or body, exactly as it was received, without its signature."""
    return "&".join(part for part in sent.split("&") if not part.startswith("signature="))


class Signatures:
    """Checks signed requests by HMAC-SHA256 against the accounts' secrets. Every check raises VenueError."""

    def __init__(self, accounts: Callable[[], Mapping[str, Account]], now_ms: Callable[[], int]) -> None:
        self._accounts = accounts
        self._now_ms = now_ms

    def account(self, api_key: str) -> Account:
        """The account of a key."""
        if not re.fullmatch(_API_KEY, api_key):
            raise VenueError(-2014, "API-key format invalid.", 401)
        account = self._accounts().get(api_key)
        if account is None or account.revoked:
            raise VenueError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return account

    def check(self, account: Account, sent: MultiMapping[str], payload: str) -> None:
        """That the account signed the payload, and that its time is within the window."""
        self._moment(sent)
        self._window(sent)
        signature = sent.get("signature", "")
        if not signature:
            raise refusal.missing_parameter("signature")
        right = hmac.new(account.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(right.encode(), signature.lower().encode()):
            raise VenueError(-1022, "Signature for this request is not valid.")
        self.check_time(sent)

    def check_time(self, sent: MultiMapping[str]) -> None:
        """That the request is of now; asked at its arrival, and again right before it is carried out."""
        age = self._now_ms() - self._moment(sent)
        if age <= -_AHEAD_MS:
            raise VenueError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if age > self._window(sent):
            raise VenueError(-1021, "Timestamp for this request is outside of the recvWindow.")

    @staticmethod
    def _moment(sent: MultiMapping[str]) -> float:
        value = sent.get("timestamp", "")
        if not value:
            raise refusal.missing_parameter("timestamp")
        if not re.fullmatch(_INTEGER, value):
            raise refusal.illegal_characters("timestamp", _INTEGER)
        return int(value) / 1000 if int(value) >= _MICROSECONDS_FROM else int(value)

    @staticmethod
    def _window(sent: MultiMapping[str]) -> float:
        value = sent.get("recvWindow", str(_DEFAULT_WINDOW_MS))
        if not re.fullmatch(_WINDOW, value):
            raise refusal.illegal_characters("recvWindow", _WINDOW)
        if float(value) > _LONGEST_WINDOW_MS:
            raise VenueError(
                -1102, f"'recvWindow' contains unexpected value. Cannot be greater than {_LONGEST_WINDOW_MS}."
            )
        return float(value)
