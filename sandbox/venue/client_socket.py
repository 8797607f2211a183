"""A websocket to one client: sends what is queued, keeps alive, and cuts who reads too slowly or answers no ping."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

__all__ = ["ClientSocket"]

_PING_SECONDS = 20.0
_SILENT_SECONDS = 60.0
_BACKLOG = 10_000


class ClientSocket:
    """Serves one socket until it closes. `most_a_second`: a client that sends more is cut."""

    def __init__(self, *, most_a_second: int | None = None) -> None:
        self._socket = web.WebSocketResponse(autoping=False, compress=False)
        self._waiting: deque[str] = deque()
        self._news = asyncio.Event()
        self._ponged_at = time.monotonic()
        self._transport: asyncio.Transport | None = None
        self._received: deque[float] | None = deque(maxlen=most_a_second) if most_a_second else None

    @property
    def closed(self) -> bool:
        return self._socket.closed

    async def serve(
        self,
        request: web.Request,
        take: Callable[[str], None],
        *,
        begin: Callable[[], None] = lambda: None,
        end: Callable[[], None],
    ) -> web.WebSocketResponse:
        """Hands each text to `take`, between `begin` and `end`, and stays until the socket closes."""
        await self._socket.prepare(request)
        self._transport = request.transport
        sending = asyncio.create_task(self._send(), name="venue stream sender")
        pinging = asyncio.create_task(self._ping(), name="venue stream ping")
        try:
            begin()
            await self._receive(take)
        finally:
            end()
            for task in (sending, pinging):
                task.cancel()
            await asyncio.gather(sending, pinging, return_exceptions=True)
        return self._socket

    async def close(self, farewell: str | None = None) -> None:
        """Closes the socket from the venue's side, after an event where one is given."""
        if self._socket.closed or not self._socket.prepared:
            return
        if farewell is not None:
            await self._socket.send_str(farewell)
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    def cut(self) -> None:
        """Drops the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def put(self, text: str) -> None:
        self._waiting.append(text)
        self._news.set()

    async def _send(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if len(self._waiting) > _BACKLOG:
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"reads too slowly")
                return
            while self._waiting:
                await self._socket.send_str(self._waiting.popleft())

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            if time.monotonic() - self._ponged_at > _SILENT_SECONDS:
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no pong")
                return
            await self._socket.ping(str(int(time.time() * 1000)).encode())

    async def _receive(self, take: Callable[[str], None]) -> None:
        async for message in self._socket:
            if self._sends_too_fast():
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Too many requests")
                return
            await self._hear(message, take)

    def _sends_too_fast(self) -> bool:
        if self._received is None:
            return False
        now = time.monotonic()
        if len(self._received) == self._received.maxlen and now - self._received[0] < 1:
            return True
        self._received.append(now)
        return False

    async def _hear(self, message: WSMessage, take: Callable[[str], None]) -> None:
        if message.type is WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self._ponged_at = time.monotonic()
        elif message.type is WSMsgType.TEXT:
            take(str(message.data))
