"""What became of one request, told by HTTP status and venue code: ccxt's error classes cannot tell it.

A dropped connection, a truncated body or an error page may hide an order that was placed, and ccxt reports some of
them like a refusal, some not at all. So whatever is not surely refused or surely unsent is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, cast

import aiohttp
from ccxt.base import errors  # pyright: ignore[reportMissingTypeStubs]

from streams.domain.errors import ExecutionError, Rejected, Transient, Unknown

UNKNOWN_CODES = {"-1000", "-1001", "-1006", "-1007", "-1010"}
LATER_CODES = {"-1003", "-1015", "-1021"}
"""Surely not placed, and no fault of the order's: too many requests, or a clock that is off."""
BUSY_CODES = {"-1008"}
KEY_CODES = {"-2015", "-2014", "-1022", "-2008", "-1002"}
NOT_FOUND_CODES = {"-2013", "-2011"}

sent: ContextVar[bool] = ContextVar("sent", default=False)
"""Whether the request of this context may be on the wire. Set to False right before a call."""


class NotFound(Exception):
    """The venue does not know the order, which proves nothing yet: its queries lag behind its orders."""


Answered = Callable[[int, Mapping[str, str], str | None], None]
"""Hears status, headers and venue code of each answer."""


def watch(exchange: Any, answered: Answered) -> Any:
    """Have an instance note when a request leaves, tag each error with status and code, and raise odd answers."""
    handle_errors, handle_status, fetch = exchange.handle_errors, exchange.handle_http_status_code, exchange.fetch

    async def watched_fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        sent.set(True)
        return await fetch(url, method, headers, body)

    def tagged(error: Any, status: int, code: str | None) -> Any:
        error.http_status, error.venue_code = status, code
        return error

    def handle(
        status: int, reason: str, url: str, method: str, headers: Any, body: str, response: Any, *request: Any
    ) -> None:
        answer = cast("dict[str, Any]", response) if isinstance(response, dict) else {}
        code = str(answer["code"]) if "code" in answer else None
        answered(status, headers or {}, code)
        try:
            handle_errors(status, reason, url, method, headers, body, response, *request)
            handle_status(status, reason, url, method, body)
        except errors.BaseError as error:
            raise tagged(error, status, code) from error.__cause__
        if status >= 400 or not isinstance(response, dict | list):
            raise tagged(errors.BadResponse(f"{method} {status}: no JSON, or a status unheard of"), status, code)

    exchange.fetch, exchange.handle_errors = watched_fetch, handle
    return exchange


def sort_failure(error: BaseException) -> ExecutionError | NotFound:
    """Sort the failure of a request that would change something at the venue. Unknown is the default."""
    said = f"{type(error).__name__}: {str(error)[:200]}"
    status, code = getattr(error, "http_status", None), getattr(error, "venue_code", None)
    if not sent.get() or isinstance(error.__cause__, aiohttp.ClientConnectorError):
        return Transient(f"the request never left: {said}")
    if status is None or code in UNKNOWN_CODES:
        return Unknown(said)
    if code == "-2010" and "Duplicate order sent" in str(error):
        return Unknown(said)  # an open order bears our id: it is looked up
    if code in NOT_FOUND_CODES:
        return NotFound(said)
    if status in (418, 429) or code in LATER_CODES:
        return Transient(f"the exchange takes no requests now: {said}")
    if status >= 500 or code is None or code in BUSY_CODES:
        return Unknown(said)  # 5xx say nothing of the order; 4xx without a code come from a firewall
    return Rejected(_failure_code(code, str(error)), f"The exchange refused the order ({code}): {str(error)[:200]}")


def sort_question(error: BaseException) -> ExecutionError | NotFound:
    """Sort the failure of a request that changes nothing: whatever it is, it may be asked again."""
    code = getattr(error, "venue_code", None)
    said = f"{type(error).__name__}: {str(error)[:200]}"
    if code in NOT_FOUND_CODES:
        return NotFound(said)
    if code in KEY_CODES:
        return Rejected("keys_rejected", f"The exchange refused the key ({code}).")
    return Transient(f"the exchange did not answer: {said}")


def _failure_code(code: str, said: str) -> str:
    if code in KEY_CODES:
        return "keys_rejected"
    return "insufficient_balance" if code == "-2010" and "insufficient balance" in said else "venue_rejected"
