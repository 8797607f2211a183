"""Hints from Supabase Realtime: two lines, each with a disposable client that is rebuilt on any failure.

The client's own reconnection is off: it gives up for good after a few attempts, and a channel that it joins
twice is closed by the server. Here a line that breaks, or stays silent where it must not, is closed and made
anew with a new socket, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID, uuid4

from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimePostgresChangesListenEvent,
    RealtimeSubscribeStates,
)

from streams.ports import Emit, Hint

log = logging.getLogger(__name__)

READY_SECONDS = 15.0
WATCH_SECONDS = 5.0
CLOSE_SECONDS = 3.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # a line that lasted this long starts its pauses over
WORKERS_TOPIC = "workers"
SIGNALS_READY = "signals-ready"
ACTIONS = "actions"


class Line(ABC):
    """One subscription kept alive: connect, join, watch, and on any doubt again from the start."""

    name: str

    def __init__(self, url: str, key: str, emit: Emit) -> None:
        self._url = url
        self._key = key
        self._emit = emit

    @abstractmethod
    def channel(self, client: AsyncRealtimeClient, ready: asyncio.Event) -> AsyncRealtimeChannel:
        """Make the line's channel, with callbacks that only emit."""

    @abstractmethod
    def joined(self, ready: asyncio.Event) -> None:
        """The channel was joined; `ready` is to be set once rows from now on are heard of."""

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            begun = loop.time()
            reason = await self._once()
            attempt = 0 if loop.time() - begun > STEADY_SECONDS else attempt + 1
            pause = min(LONGEST_PAUSE_SECONDS, 2.0 ** min(attempt, 10) / 2) * random.uniform(0.5, 1.0)  # noqa: S311
            log.warning("realtime line '%s' is down (%s); a new one in %.1f s", self.name, reason, pause)
            await asyncio.sleep(pause)

    async def _once(self) -> str:
        """Hold one client until something is wrong with it; says what."""
        client = AsyncRealtimeClient(self._url, self._key, auto_reconnect=False, max_retries=1)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await client.connect()
            return await self._listen(client)
        except TimeoutError:
            return "it was not ready in time"
        except Exception as error:  # any failure of a disposable client has one cure
            return f"{type(error).__name__}: {error}"
        finally:
            await _closed(client)

    async def _listen(self, client: AsyncRealtimeClient) -> str:
        broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        ready = asyncio.Event()

        def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            if state == RealtimeSubscribeStates.SUBSCRIBED:
                self.joined(ready)
            elif not broken.done():
                broken.set_result(f"{state}: {error}" if error else str(state))

        channel = self.channel(client, ready)
        joining = asyncio.ensure_future(channel.subscribe(on_state))
        try:
            async with asyncio.timeout(READY_SECONDS):
                await _first(ready.wait(), _settled(broken))
            if broken.done():
                return broken.result()
            log.info("realtime line '%s' is up", self.name)
            while not broken.done():
                await asyncio.wait([broken], timeout=WATCH_SECONDS)
                if not broken.done() and (silent := _silent(client, channel)):
                    return silent
            return broken.result()
        finally:
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)

    def hint(self, hint: Hint) -> None:
        """Pass a hint on; never raises, for an exception in a callback ends the client's reader."""
        try:
            self._emit(hint)
        except RuntimeError:  # the loop is closing
            return


class BroadcastLine(Line):
    """The database's own message with the ids of ready signals, a few milliseconds after their commit."""

    name = "broadcast"

    def channel(self, client: AsyncRealtimeClient, ready: asyncio.Event) -> AsyncRealtimeChannel:  # noqa: ARG002
        """A private channel: only the service role may read the workers' topic."""
        channel = client.channel(WORKERS_TOPIC, _private())
        channel.on_broadcast(ACTIONS, self._on_actions)
        return channel.on_broadcast(SIGNALS_READY, self._on_signals)

    def joined(self, ready: asyncio.Event) -> None:
        """A broadcast channel hears from its join on; what came before is caught up with."""
        ready.set()
        self.hint(Hint(everything=True, reason="broadcast joined"))

    def _on_signals(self, payload: Any) -> None:
        message = _object(_object(payload).get("payload", payload))
        ids = _ids(message.get("ids"))
        if ids is None or message.get("more"):
            self.hint(Hint(everything=True, reason="broadcast"))
        else:
            self.hint(Hint(ids=ids, reason="broadcast"))

    def _on_actions(self, payload: Any) -> None:
        message = _object(_object(payload).get("payload", payload))
        ids = _ids(message.get("ids"))
        if ids is None or message.get("more"):
            self.hint(Hint(everything=True, reason="actions"))
        else:
            self.hint(Hint(positions=ids, reason="actions"))


class RowsLine(Line):
    """`postgres_changes` on `signals`: half a second slower, and independent of the broadcast."""

    name = "rows"

    def channel(self, client: AsyncRealtimeClient, ready: asyncio.Event) -> AsyncRealtimeChannel:
        """A topic of its own each time, with the two bindings that a signal can become ready by.

        Each system message tells of a new subscription at the server, before which rows may have been lost.
        """

        def on_system(message: Any) -> None:
            if getattr(message, "extension", None) == "postgres_changes":
                ready.set()
                self.hint(Hint(everything=True, reason="rows subscribed"))

        channel = client.channel(f"signals-{uuid4()}", _private())
        for event, condition in (
            (RealtimePostgresChangesListenEvent.Insert, "decision=eq.enter_trade"),
            (RealtimePostgresChangesListenEvent.Update, "status=eq.ready"),
        ):
            channel.on_postgres_changes(event, self._on_row, table="signals", schema="public", filter=condition)
        return channel.on_system(on_system)

    def joined(self, ready: asyncio.Event) -> None:
        """Joined is not subscribed: the system message tells."""

    def _on_row(self, payload: Any) -> None:
        record = _object(_object(_object(payload).get("data")).get("record"))
        ids = _ids([record.get("id")])
        if ids is None:
            self.hint(Hint(everything=True, reason="row without id"))
        elif record.get("decision", "enter_trade") == "enter_trade" and record.get("status", "ready") == "ready":
            self.hint(Hint(ids=ids, reason="row"))


def listen(url: str, key: str) -> Callable[[Emit], Awaitable[Callable[[], Awaitable[None]]]]:
    """Both lines to the project's Realtime (`https://…/realtime/v1`), under the service role's key."""

    async def connect(emit: Emit) -> Callable[[], Awaitable[None]]:
        lines: tuple[Line, ...] = (BroadcastLine(url, key, emit), RowsLine(url, key, emit))
        tasks = [asyncio.create_task(line.run(), name=f"realtime {line.name}") for line in lines]

        async def close() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        return close

    return connect


def _private() -> Any:
    return {
        "config": {
            "broadcast": {"ack": False, "self": False},
            "presence": {"key": "", "enabled": False},
            "private": True,
        }
    }


def _object(written: Any) -> dict[str, Any]:
    """What should be a JSON object, or an empty one."""
    return cast("dict[str, Any]", written) if isinstance(written, dict) else {}


def _ids(written: Any) -> tuple[UUID, ...] | None:
    """The ids of a message, or none where it does not hold ids."""
    if not isinstance(written, list):
        return None
    try:
        return tuple(UUID(str(one)) for one in cast("list[object]", written))
    except ValueError:
        return None


def _silent(client: AsyncRealtimeClient, channel: AsyncRealtimeChannel) -> str | None:
    """What is wrong with a client that said nothing: its reader may have ended without a word."""
    reader: asyncio.Task[None] | None = getattr(client, "_listen_task", None)
    if reader is None or reader.done():
        return "its reader ended"
    if not client.is_connected:
        return "its socket is gone"
    return None if channel.is_joined else "its channel is not joined any more"


async def _first(*awaitables: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _settled(future: asyncio.Future[str]) -> None:
    await asyncio.wait([future])


async def _closed(client: AsyncRealtimeClient) -> None:
    reader: asyncio.Task[None] | None = getattr(client, "_listen_task", None)
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
            if reader is not None:
                await asyncio.gather(reader, return_exceptions=True)
    except Exception as error:  # it is thrown away in any case
        log.debug("a realtime client did not close well: %r", error)
