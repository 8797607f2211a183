"""A Realtime server in the test's own process, and a raw client of its protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import jwt
import psycopg
from aiohttp import web

from sandbox.postgres import Server
from sandbox.realtime import Realtime
from sandbox.realtime_timing import Timing

SECRET = "a secret of the tests, long enough for HS256"
ALICE = "aaaaaaaa-0000-0000-0000-000000000001"
BOB = "bbbbbbbb-0000-0000-0000-000000000002"
Json = dict[str, Any]


def token(role: str | None = "authenticated", user: str = ALICE, seconds: float | None = 3600, **more: Any) -> str:
    """Return a token of the tests' secret; None leaves a claim out."""
    claims: Json = {"sub": user, **more}
    if role is not None:
        claims["role"] = role
    if seconds is not None:
        claims["exp"] = int(time.time() + seconds)
    return jwt.encode(claims, SECRET)


def changes(*bindings: Json, **more: Any) -> Json:
    """Return a join's configuration for row changes alone."""
    return {"presence": {"enabled": False}, "postgres_changes": list(bindings), **more}


def of(table: str, event: str = "*", **more: Any) -> Json:
    """Return a binding."""
    return {"event": event, "schema": "public", "table": table, **more}


class Client:
    """One websocket that speaks version 1 or 2; `receive` returns the four parts of version 1."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, version: str) -> None:
        self.websocket = websocket
        self.version = version

    async def send(self, topic: str, event: str, payload: Json, ref: str | None, join_ref: str | None = "1") -> None:
        if self.version == "2.0.0":
            await self.websocket.send_json([join_ref, ref, topic, event, payload])
        else:
            message = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
            await self.websocket.send_json(message)

    async def raw(self) -> str:
        """Return the next text frame as it came."""
        return await self.websocket.receive_str(timeout=10)

    async def receive(self) -> Json:
        message: Any = json.loads(await self.raw())
        if self.version == "2.0.0":
            return dict(zip(("join_ref", "ref", "topic", "event", "payload"), message, strict=True))
        return message

    async def expect(self, event: str) -> Json:
        """Return the payload of the next frame, which has to be of this kind."""
        frame = await self.receive()
        assert frame["event"] == event, frame
        return frame["payload"]

    async def join(self, name: str, config: Json, ref: str = "1", **payload: Any) -> Json:
        """Join and return the answer."""
        await self.send(f"realtime:{name}", "phx_join", {"config": config, **payload}, ref, ref)
        return await self.expect("phx_reply")

    async def subscribe(self, name: str, *bindings: Json, ref: str = "1", **payload: Any) -> list[int]:
        """Join for row changes, wait until they are subscribed to, and return the bindings' ids."""
        reply = await self.join(name, changes(*bindings), ref, **payload)
        assert reply["status"] == "ok", reply
        assert await self.expect("system") == {
            "message": "Subscribed to PostgreSQL",
            "status": "ok",
            "extension": "postgres_changes",
            "channel": name,
        }
        return [binding["id"] for binding in reply["response"]["postgres_changes"]]

    async def change(self) -> Json:
        """Return the data of the next row change."""
        return (await self.expect("postgres_changes"))["data"]


class Sandbox:
    """The server under test and its database."""

    def __init__(self, realtime: Realtime, url: str, session: aiohttp.ClientSession) -> None:
        self.realtime = realtime
        self.url = url
        self.session = session

    async def connect(self, key: str | None = None, version: str = "1.0.0") -> Client:
        parameters = {"apikey": key or token(), "vsn": version}
        websocket = await self.session.ws_connect(f"{self.url}/realtime/v1/websocket", params=parameters)
        return Client(websocket, version)


@asynccontextmanager
async def serving(database: Server, timing: Timing | None = None) -> AsyncGenerator[Sandbox]:
    """Serve Realtime on a free port, by default without waits; afterwards no slot is left."""
    async with AsyncExitStack() as stack:
        realtime = Realtime(database.superuser_dsn, SECRET, timing=timing or Timing.immediate())
        await realtime.start()
        stack.push_async_callback(realtime.stop)
        app = web.Application()
        app.router.add_get("/realtime/v1/websocket", realtime.websocket)
        app.router.add_post("/realtime/v1/api/broadcast", realtime.broadcast)
        app.router.add_post("/realtime/v1/api/broadcast/{topic}/events/{event}", realtime.broadcast)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Sandbox(realtime, f"http://127.0.0.1:{port}", session)


@asynccontextmanager
async def connected(database: Server) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
    """Connect as a project's owner does."""
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        yield connection


Scenario = Callable[[Sandbox, psycopg.AsyncConnection[Any]], Coroutine[Any, Any, None]]


def play(database: Server, scenario: Scenario, timing: Timing | None = None) -> None:
    """Run a scenario against a server of its own."""

    async def run() -> None:
        async with asyncio.timeout(60), serving(database, timing) as sandbox, connected(database) as db:
            await scenario(sandbox, db)

    asyncio.run(run())
