"""What a user's screen is told: the unmodified supabase-py client, signed in as that user."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

from realtime import RealtimeSubscribeStates

from supabase import acreate_client
from tests.end_to_end.product import Project, User

TABLES = ("positions", "orders", "signals")
SECONDS = 20.0


class Screen:
    """Row changes of one client in the order they came."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.changes: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def show(self, change: dict[str, Any]) -> None:
        """Take one change from the client."""
        self.changes.append(change["data"])
        self._more.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for changes until something holds; fails after some seconds."""
        async with asyncio.timeout(SECONDS):
            while not holds():
                self._more.clear()
                await self._more.wait()

    def statuses(self, table: str, of: tuple[str, str]) -> list[str]:
        """The states in which a row was shown, one after the other; `of` is a column and its value."""
        column, value = of
        shown = [one["record"] for one in self.changes if one["table"] == table and one["record"].get(column) == value]
        return [status for status, _ in groupby(record["status"] for record in shown)]

    async def join(self, topic: str, private: bool = True, heard: Callable[[Any], None] | None = None) -> str:
        """Join a broadcast topic; returns how that ended."""
        states: asyncio.Queue[str] = asyncio.Queue()
        channel = self.client.channel(topic, {"config": {"private": private, "broadcast": {"self": True}}})
        if heard:
            channel.on_broadcast("*", heard)

        def on_state(state: RealtimeSubscribeStates, _: Exception | None) -> None:
            states.put_nowait(state.value)

        await channel.subscribe(on_state)
        async with asyncio.timeout(SECONDS):
            return await states.get()


@asynccontextmanager
async def screen_of(project: Project, user: User | None = None) -> AsyncGenerator[Screen]:
    """A client signed in as a user, or as nobody."""
    client: Any = await acreate_client(project.env["SUPABASE_URL"], project.env["SUPABASE_ANON_KEY"])
    if user:
        await client.auth.sign_in_with_password({"email": user.email, "password": user.password})
    try:
        yield Screen(client)
    finally:
        await client.realtime.close()
        if user:
            await client.auth.sign_out({"scope": "local"})
        await client.auth.close()


@asynccontextmanager
async def watching(project: Project, user: User) -> AsyncGenerator[Screen]:
    """A client subscribed to every change that this user may see, and told so by the server."""
    async with screen_of(project, user) as screen:
        subscribed = asyncio.Event()
        channel = screen.client.channel(f"screen-{uuid.uuid4()}")
        for table in TABLES:
            channel.on_postgres_changes("*", screen.show, table=table, schema="public")

        def on_system(_: object) -> None:
            subscribed.set()

        await channel.on_system(on_system).subscribe()
        async with asyncio.timeout(SECONDS):
            await subscribed.wait()
        yield screen
