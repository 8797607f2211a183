"""One client's websocket to the public streams: its subscriptions, requests and limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from aiohttp import web

from sandbox.venue.client_socket import ClientSocket
from sandbox.venue.feeds import known_stream
from sandbox.venue.market_data import encode
from sandbox.venue.streams import Streams

__all__ = ["Connection"]

_MESSAGES_A_SECOND = 5
_MOST_STREAMS = 1024
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class _Invalid(Exception):
    """A request on the socket that is answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """Serves one socket until it closes."""

    def __init__(self, streams: Streams, *, combined: bool) -> None:
        self._streams = streams
        self._combined = combined
        self._names: dict[str, None] = {}
        self._client = ClientSocket(most_a_second=_MESSAGES_A_SECOND)

    async def serve(self, request: web.Request, names: list[str]) -> web.WebSocketResponse:
        """Subscribes to `names` and stays until the socket closes."""
        known = [name for name in names if known_stream(name)]
        return await self._client.serve(
            request, self._take, begin=lambda: self._subscribe(known), end=self._unsubscribe_all
        )

    async def close(self, farewell: str | None = None) -> None:
        """Closes the socket from the venue's side, after an event where one is given."""
        await self._client.close(farewell)

    def cut(self) -> None:
        """Drops the connection without a word."""
        self._client.cut()

    def take(self, raw: str, combined: str) -> None:
        self._client.put(combined if self._combined else raw)

    def _unsubscribe_all(self) -> None:
        for name in self._names:
            self._streams.unsubscribe(name, self)

    def _take(self, text: str) -> None:
        self._client.put(self._answer(text))

    def _answer(self, text: str) -> str:
        identifier: Any = None
        try:
            try:
                request: Any = json.loads(text)
            except ValueError:
                raise _Invalid(3, "Invalid JSON: expected value at line 1 column 1") from None
            if not isinstance(request, dict):
                raise _Invalid(2, "Invalid request: expected an object")
            fields = cast("dict[str, Any]", request)
            identifier = fields.get("id")
            return encode({"result": self._carry_out(fields), "id": identifier})
        except _Invalid as invalid:
            return encode({"error": {"code": invalid.code, "msg": str(invalid)}, "id": identifier})

    def _carry_out(self, request: dict[str, Any]) -> Any:
        identifier, method, parameters = request.get("id"), request.get("method"), request.get("params", [])
        if not (identifier is None or isinstance(identifier, int | str)) or isinstance(identifier, bool):
            raise _Invalid(2, "Invalid request: request ID must be an unsigned integer")
        if method is None:
            raise _Invalid(2, "Invalid request: missing field `method` at line 1 column 1")
        if method not in _METHODS:
            expected = ", ".join(f"`{known}`" for known in _METHODS)
            raise _Invalid(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}")
        if not isinstance(parameters, list):
            raise _Invalid(2, "Invalid request: params must be a list")
        values = cast("list[Any]", parameters)
        if method == "LIST_SUBSCRIPTIONS":
            return list(self._names)
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return self._property(method, values)
        names = [name for name in values if isinstance(name, str) and known_stream(name)]
        if len(names) < len(values) or not names:
            raise _Invalid(2, "Invalid request: invalid stream")
        if method == "UNSUBSCRIBE":
            for name in names:
                if name in self._names:
                    del self._names[name]
                    self._streams.unsubscribe(name, self)
            return None
        if len(self._names.keys() | set(names)) > _MOST_STREAMS:
            raise _Invalid(2, f"Invalid request: a connection carries at most {_MOST_STREAMS} streams")
        # after this answer is queued, so that it comes first
        asyncio.get_running_loop().call_soon(self._subscribe, names)
        return None

    def _subscribe(self, names: list[str]) -> None:
        if self._client.closed:
            return
        for name in names[:_MOST_STREAMS]:
            if name not in self._names:
                self._names[name] = None
                self._streams.subscribe(name, self)

    def _property(self, method: str, values: list[Any]) -> Any:
        if not values or not isinstance(values[0], str):
            raise _Invalid(2, "Invalid request: property name must be a string")
        if values[0] != "combined":
            raise _Invalid(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self._combined
        if len(values) != 2 or not isinstance(values[1], bool):
            raise _Invalid(1, "Invalid value type: expected Boolean")
        self._combined = values[1]
        return None
