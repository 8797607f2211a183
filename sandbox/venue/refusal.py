"""The venue's errors, as Binance words them (binance-spot-api-docs, errors.md)."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

__all__ = [
    "VenueError",
    "bad_combination",
    "bad_interval",
    "bad_symbol",
    "cancel_rejected",
    "duplicate_symbols",
    "either_parameter",
    "empty_parameter",
    "filter_failure",
    "illegal_characters",
    "invalid_parameter",
    "invalid_value",
    "missing_parameter",
    "needless_parameter",
    "no_such_order",
    "order_rejected",
    "status_mismatch",
    "too_many_parameters",
    "too_much_precision",
    "unread_parameters",
]


class VenueError(Exception):
    """A request the venue answers with an error: an HTTP status, a code, a message."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @property
    def document(self) -> dict[str, Any]:
        return {"code": self.code, "msg": str(self)}

    @property
    def body(self) -> str:
        return json.dumps(self.document, separators=(",", ":"))

    def response(self) -> web.Response:
        return web.Response(text=self.body, status=self.status, content_type="application/json")


def invalid_value(name: str) -> VenueError:
    return VenueError(-1013, f"Invalid {name}.")


def filter_failure(name: str) -> VenueError:
    return VenueError(-1013, f"Filter failure: {name}")


def illegal_characters(name: str, legal: str) -> VenueError:
    return VenueError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def too_many_parameters(expected: int, received: int) -> VenueError:
    return VenueError(-1101, f"Too many parameters; expected '{expected}' and received '{received}'.")


def missing_parameter(name: str) -> VenueError:
    return VenueError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def either_parameter(one: str, other: str) -> VenueError:
    return VenueError(-1102, f"Param '{one}' or '{other}' must be sent, but both were empty/null!")


def unread_parameters(read: int, received: int) -> VenueError:
    return VenueError(
        -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{received}'."
    )


def empty_parameter(name: str) -> VenueError:
    return VenueError(-1105, f"Parameter '{name}' was empty.")


def needless_parameter(name: str) -> VenueError:
    return VenueError(-1106, f"Parameter '{name}' sent when not required.")


def too_much_precision(name: str) -> VenueError:
    return VenueError(-1111, f"Parameter '{name}' has too much precision.")


def bad_interval() -> VenueError:
    return VenueError(-1120, "Invalid interval.")


def bad_symbol() -> VenueError:
    return VenueError(-1121, "Invalid symbol.")


def bad_combination() -> VenueError:
    return VenueError(-1128, "Combination of optional parameters invalid.")


def invalid_parameter(name: str) -> VenueError:
    return VenueError(-1130, f"Data sent for parameter '{name}' is not valid.")


def duplicate_symbols() -> VenueError:
    return VenueError(-1151, "Symbol is present multiple times in the list.")


def status_mismatch() -> VenueError:
    return VenueError(-1220, "The symbol's status does not match the requested symbolStatus.")


def order_rejected(message: str) -> VenueError:
    return VenueError(-2010, message)


def cancel_rejected(message: str = "Unknown order sent.") -> VenueError:
    return VenueError(-2011, message)


def no_such_order() -> VenueError:
    return VenueError(-2013, "Order does not exist.")
