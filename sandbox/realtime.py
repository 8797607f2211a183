"""The sandbox's Realtime server: row changes and broadcasts over websockets, fed by logical replication.

What clients branch on follows Supabase Realtime: frames, texts, waits, and what it loses in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from aiohttp import web
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from sandbox.realtime_broadcasts import Broadcasts
from sandbox.realtime_changes import Changes
from sandbox.realtime_channel import CHANGES_PUBLICATION, Services
from sandbox.realtime_faults import Faults
from sandbox.realtime_frames import Version
from sandbox.realtime_http import answer
from sandbox.realtime_socket import Socket
from sandbox.realtime_timing import Timing
from sandbox.realtime_token import TokenRefused, verify
from sandbox.replication import Feed

MESSAGES_PUBLICATION = "supabase_realtime_messages_publication"
_LARGEST_FRAME = 5_000_000
_SESSION = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c statement_timeout=10s"


class Realtime:
    """Mount `websocket` at GET /realtime/v1/websocket and `broadcast` at POST /realtime/v1/api/broadcast
    and at POST /realtime/v1/api/broadcast/{topic}/events/{event}.

    `superuser_dsn` names a role that may replicate and become any other; tokens are HS256 of `jwt_secret`.
    """

    def __init__(self, superuser_dsn: str, jwt_secret: str, *, timing: Timing | None = None) -> None:
        faults = Faults(timing or Timing())
        pool = AsyncConnectionPool[AsyncConnection[TupleRow]](
            superuser_dsn,
            kwargs={"autocommit": True, "options": _SESSION, "application_name": "realtime"},
            min_size=1,
            max_size=4,
            timeout=5,
            check=AsyncConnectionPool.check_connection,
            open=False,
            name="realtime",
        )
        changes = Changes(pool, faults.timing, faults.postgres_changes)
        broadcasts = Broadcasts(faults.broadcast)
        self._services = Services(jwt_secret, pool, changes, broadcasts, faults)
        self._feeds = (
            Feed(superuser_dsn, CHANGES_PUBLICATION, changes.receive),
            Feed(superuser_dsn, MESSAGES_PUBLICATION, broadcasts.receive),
        )
        self._sockets: dict[Socket, asyncio.Task[object] | None] = {}
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Return once both replication slots stream.

        Raises:
            ReplicationError: the database is not prepared for Realtime.
        """
        self._stopping.clear()
        try:
            await self._services.pool.open()
            for feed in self._feeds:
                await feed.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every socket (code 1012) and leave neither a slot nor a connection behind."""
        self._stopping.set()
        tasks = [task for task in self._sockets.values() if task is not None]
        await asyncio.gather(*(socket.close() for socket in list(self._sockets)))
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=1)
            for task in late:
                task.cancel()
        for feed in self._feeds:
            await feed.stop()
        await self._services.changes.stop()
        await self._services.pool.close()

    def control(self, settings: dict[str, object]) -> dict[str, object]:
        """Take over faults and timing; return what is set now and how many sockets and channels there are.

        Raises:
            ValueError: an unknown name or a value of the wrong kind.
        """
        for path in self._services.faults.apply(settings):
            for socket in list(self._sockets):
                if any(channel.wants_changes == (path == "postgres_changes") for channel in socket.channels):
                    socket.cut()
        channels = sum(len(socket.channels) for socket in self._sockets)
        return self._services.faults.as_settings() | {"sockets": len(self._sockets), "channels": channels}

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        """Serve one client; who may not connect gets an HTTP answer before the upgrade."""
        try:
            version = Version(request.query.get("vsn", Version.V1))
        except ValueError:
            return web.Response(status=403)
        faults = self._services.faults
        if faults.broadcast.off and faults.postgres_changes.off:
            return await self._refuse(403, "Realtime was disabled for this tenant")
        token = request.headers.get("x-api-key") or request.query.get("apikey")
        if not token:
            return await self._refuse(401, "API key is missing")
        try:
            verify(token, self._services.jwt_secret, time.time())
        except TokenRefused as refusal:
            return await self._refuse(401, refusal.brief)
        websocket = web.WebSocketResponse(timeout=1.0, compress=False, max_msg_size=_LARGEST_FRAME)
        await websocket.prepare(request)
        socket = Socket(self._services, version, token, websocket, request, self._pause)
        self._sockets[socket] = asyncio.current_task()
        try:
            await socket.serve()
        finally:
            del self._sockets[socket]
        return websocket

    async def broadcast(self, request: web.Request) -> web.Response:
        """Tell topics over HTTP: many messages, or one to the `topic` and `event` of the route."""
        return await answer(self._services, request)

    async def _refuse(self, status: int, error: str) -> web.Response:
        await self._pause(self._services.faults.timing.handshake_error)
        return web.json_response({"error": error}, status=status)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
