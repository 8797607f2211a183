"""The venue's errors, as Binance words them (binance-spot-api-docs, errors.md)."""

from __future__ import annotations

import json

from aiohttp import web

__all__ = [
    "VenueError",
    "bad_combination",
    "bad_interval",
    "bad_symbol",
    "duplicate_symbols",
    "empty_parameter",
    "illegal_characters",
    "invalid_parameter",
    "missing_parameter",
    "status_mismatch",
    "too_many_parameters",
]


class VenueError(Exception):
    """A request the venue answers with an error: an HTTP status, a code, a message."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @property
    def body(self) -> str:
        return json.dumps({"code": self.code, "msg": str(self)}, separators=(",", ":"))

    def response(self) -> web.Response:
        return web.Response(text=self.body, status=self.status, content_type="application/json")


def illegal_characters(name: str, legal: str) -> VenueError:
    return VenueError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def too_many_parameters(expected: int, received: int) -> VenueError:
    return VenueError(-1101, f"Too many parameters; expected '{expected}' and received '{received}'.")


def missing_parameter(name: str) -> VenueError:
    return VenueError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def empty_parameter(name: str) -> VenueError:
    return VenueError(-1105, f"Parameter '{name}' was empty.")


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
