"""One client's websocket: its frames in, its channels, and the frames out to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import ClientConnectionError, WSCloseCode, WSMsgType, web

from sandbox.realtime_channel import PREFIX, Channel, JoinConfig, JoinRefused, Services, authorize
from sandbox.realtime_frames import (
    MalformedFrame,
    Push,
    Ref,
    Version,
    compact,
    read_binary,
    read_text,
    text_frame,
)
from sandbox.realtime_token import Identity, TokenRefused, verify

_log = logging.getLogger(__name__)

_MOST_WAITING = 64 * 1024 * 1024
"""Bytes a client may leave unread before it is cut off."""


class Socket:
    """A connected client. Its messages are handled one after the other, as the platform does."""

    def __init__(
        self,
        services: Services,
        version: Version,
        token: str,
        websocket: web.WebSocketResponse,
        request: web.Request,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._services = services
        self._version = version
        self._token = token
        self._websocket = websocket
        self._request = request
        self._pause = pause
        self._channels: dict[str, Channel] = {}
        self._outgoing: deque[str | bytes] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that are joined."""
        return tuple(channel for channel in self._channels.values() if channel.open)

    async def serve(self) -> None:
        """Handle the client until it is gone."""
        writer = asyncio.create_task(self._write(), name="realtime socket")
        try:
            async for message in self._websocket:
                try:
                    if message.type is WSMsgType.TEXT:
                        push = read_text(self._version, message.data)
                    elif message.type is WSMsgType.BINARY and self._version is Version.V2:
                        push = read_binary(message.data)
                    else:
                        continue
                except MalformedFrame as error:
                    _log.info("a malformed message was ignored: %s", error)
                    continue
                await self._handle(push)
        finally:
            for channel in self._channels.values():
                channel.close()
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    def send(self, frame: str | bytes) -> None:
        """Queue a frame for the client."""
        self._outgoing.append(frame)
        self._waiting += len(frame)
        if self._waiting > _MOST_WAITING:
            _log.warning("a client that reads nothing is cut off")
            self.cut()
        self._wake.set()

    def cut(self) -> None:
        """Drop the connection as a broken line does."""
        transport = self._request.transport
        if transport is None:
            return
        # A reset, not an orderly end: a client that reads the end of the stream may wait for more.
        line: socket.socket = transport.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def close(self) -> None:
        """Close as a server that goes down does."""
        with contextlib.suppress(ClientConnectionError, RuntimeError):
            await self._websocket.close(code=WSCloseCode.SERVICE_RESTART)

    async def _write(self) -> None:
        with contextlib.suppress(ClientConnectionError, RuntimeError):
            while True:
                while self._outgoing:
                    frame = self._outgoing.popleft()
                    self._waiting -= len(frame)
                    if isinstance(frame, str):
                        await self._websocket.send_str(frame)
                    else:
                        await self._websocket.send_bytes(frame)
                self._wake.clear()
                await self._wake.wait()

    async def _handle(self, push: Push) -> None:
        if push.topic == "phoenix":
            if push.event == "heartbeat":
                self._reply(push, "ok", "{}")
            return
        if push.event == "phx_join":
            if push.topic.startswith(PREFIX):
                await self._join(push)
            else:
                self._reply(push, "error", '{"reason":"unmatched topic"}')
            return
        channel = self._channels.get(push.topic)
        if channel is None or not channel.open:
            if push.event == "phx_leave":
                self._reply(push, "ok", "{}")
            else:
                self._reply(push, "error", '{"reason":"unmatched topic"}')
            return
        match push.event:
            case "phx_leave":
                if push.join_ref is None or push.join_ref == channel.join_ref:
                    self._reply(push, "ok", "{}", channel.join_ref)
                    self._leave(channel)
            case "access_token":
                await channel.renew(push.payload.get("access_token"))
            case "broadcast":
                if await channel.broadcast(push):
                    self._reply(push, "ok", "{}", channel.join_ref)
            case "presence":
                self._reply(push, "ok", "{}", channel.join_ref)
            case _:
                _log.debug("a message %s was ignored", push.event)

    async def _join(self, push: Push) -> None:
        config = JoinConfig.read(push.payload)
        asked = push.payload.get("access_token") or push.payload.get("user_token")
        token = asked if isinstance(asked, str) and not asked.startswith("sb_") else self._token
        try:
            identity = await self._admit(push.topic.removeprefix(PREFIX), config, token)
        except JoinRefused as refusal:
            await self._pause(self._services.faults.timing.join_error)
            self._reply(push, "error", compact({"reason": str(refusal)}))
            return
        before = self._channels.get(push.topic)
        channel = Channel(self._services, self._version, self.send, push, config, identity, token)
        self._channels[push.topic] = channel
        self._reply(push, "ok", config.reply(), channel.join_ref)
        if before and before.open:
            before.say_closed()
            before.close()
        channel.start()

    async def _admit(self, name: str, config: JoinConfig, token: str) -> Identity:
        faults = self._services.faults
        path = faults.postgres_changes if config.bindings else faults.broadcast
        if path.off:
            raise JoinRefused("RealtimeDisabledForTenant: Realtime disabled for this tenant")
        if path.refuse_joins:
            raise JoinRefused("RealtimeRestarting: Realtime is restarting, please standby")
        if not name:
            raise JoinRefused("TopicNameRequired: You must provide a topic name")
        try:
            identity = verify(token, self._services.jwt_secret, time.time())
        except TokenRefused as refusal:
            raise JoinRefused(f"{refusal.code}: {refusal}") from None
        if config.private:
            await authorize(self._services, name, identity)
        return identity

    def _leave(self, channel: Channel) -> None:
        channel.close()
        channel.say_closed()
        self._channels.pop(channel.topic, None)

    def _reply(self, push: Push, status: str, response: str, join_ref: Ref = None) -> None:
        payload = f'{{"status":"{status}","response":{response}}}'
        ref = push.join_ref if join_ref is None else join_ref
        self.send(text_frame(self._version, push.topic, "phx_reply", payload, push.ref, ref))
