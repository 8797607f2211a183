"""A live feed of committed row changes, from a temporary slot of logical replication."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import struct
import time
from collections.abc import Callable

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from sandbox.pgoutput import POSTGRES_EPOCH, Change, Decoder

_log = logging.getLogger(__name__)

_SESSION = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex"
_STATUS_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_AT_ONCE = 500
"""Messages read before other tasks get a turn."""


class ReplicationError(RuntimeError):
    """The database cannot serve a feed as it is set up."""


class Feed:
    """Hands every committed change of one publication to `receive`, in commit order.

    A lost connection is made again without a word: the slot is temporary, so what was committed in
    between is lost, as it is on the platform.
    """

    def __init__(self, dsn: str, publication: str, receive: Callable[[Change], None]) -> None:
        self._dsn = dsn
        self._publication = publication
        self._receive = receive
        self._slot = f"sandbox_{publication}_{secrets.token_hex(4)}"[:63]
        self._task: asyncio.Task[None] | None = None
        self._streaming: asyncio.Future[None] | None = None
        self._received = 0

    async def start(self) -> None:
        """Return once the slot exists and streams.

        Raises:
            ReplicationError: the server or the publication is not fit for it.
        """
        self._streaming = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"feed {self._publication}")
        try:
            await self._streaming
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the feed and return when its slot is gone."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(psycopg.Error, OSError):
            await self._slot_gone()

    async def _slot_gone(self) -> None:
        dsn = make_conninfo(self._dsn, connect_timeout="2")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            for _ in range(300):
                found = await connection.execute("select from pg_replication_slots where slot_name = %s", (self._slot,))
                if await found.fetchone() is None:
                    return
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._connect_and_stream()
            except (psycopg.Error, OSError, ReplicationError) as error:
                if self._streaming is not None and not self._streaming.done():
                    self._streaming.set_exception(ReplicationError(str(error).strip()))
                    return
                _log.info("replication of %s ended, changes are lost: %s", self._publication, error)
            pause = _FIRST_PAUSE if time.monotonic() - began > 5 else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _connect_and_stream(self) -> None:
        dsn = make_conninfo(self._dsn, replication="database", options=_SESSION, connect_timeout="5")
        connection = await psycopg.AsyncConnection[tuple[object, ...]].connect(dsn, autocommit=True)
        try:
            await self._open_slot(connection)
            await self._stream(connection.pgconn)
        finally:
            await connection.close()

    async def _open_slot(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        # A replication connection knows the simple query protocol alone, without parameters,
        # and its own commands in upper case alone.
        publication = sql.Literal(self._publication)
        found = await connection.execute(
            sql.SQL("select from pg_publication where pubname = {}").format(publication), prepare=False
        )
        if await found.fetchone() is None:
            raise ReplicationError(f"there is no publication {self._publication}: create it")
        slot = sql.Identifier(self._slot)
        await connection.execute(
            sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')").format(slot),
            prepare=False,
        )
        await connection.execute(
            sql.SQL("START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})").format(
                slot, sql.Literal(sql.Identifier(self._publication).as_string())
            ),
            prepare=False,
        )

    async def _stream(self, connection: pq.abc.PGconn) -> None:
        loop = asyncio.get_running_loop()
        decoder = Decoder()
        self._received = 0
        readable = asyncio.Event()
        connection.nonblocking = 1
        socket = connection.socket
        loop.add_reader(socket, readable.set)
        try:
            if self._streaming is not None and not self._streaming.done():
                self._streaming.set_result(None)
            while True:
                readable.clear()
                connection.consume_input()
                await self._read(connection, decoder)
                self._acknowledge(connection)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STATUS_SECONDS):
                        await readable.wait()
        finally:
            loop.remove_reader(socket)

    async def _read(self, connection: pq.abc.PGconn, decoder: Decoder) -> None:
        taken = 0
        while True:
            length, data = connection.get_copy_data(1)
            if length == 0:
                return
            if length < 0:
                raise psycopg.OperationalError("the server ended the replication stream")
            message = bytes(data)
            if message[:1] == b"w":
                start, end = struct.unpack_from(">QQ", message, 1)
                self._received = max(self._received, start, end)
                if change := decoder.feed(message[25:]):
                    self._receive(change)
            else:
                self._received = max(self._received, struct.unpack_from(">Q", message, 1)[0])
            taken += 1
            if taken % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _acknowledge(self, connection: pq.abc.PGconn) -> None:
        # A server that shuts down waits until its walsenders' clients have confirmed everything.
        now = time.time_ns() // 1000 - POSTGRES_EPOCH * 1_000_000
        position = self._received
        connection.put_copy_data(struct.pack(">cQQQqB", b"r", position, position, position, now, 0))
        connection.flush()
