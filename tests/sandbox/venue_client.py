"""A venue served on loopback, and the clients that tests send to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

from sandbox.venue.exchange import Venue

Result = TypeVar("Result")

SEED = 7
MOMENT = 1_790_000_000_000
"""A moment for venues whose clock stands still."""


def play(story: Coroutine[Any, Any, Result], seconds: float = 30) -> Result:
    """Runs a test's story to its end, bounded."""

    async def bounded() -> Result:
        async with asyncio.timeout(seconds):
            return await story

    return asyncio.run(bounded())


class Hands:
    """A clock that moves when told."""

    def __init__(self, moment: int = MOMENT) -> None:
        self.moment = moment

    def __call__(self) -> int:
        return self.moment


@dataclass
class Served:
    """A venue and a plain client of it."""

    venue: Venue
    origin: str
    http: aiohttp.ClientSession

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET, whatever its status."""
        async with self.http.get(self.origin + path, params=query) as answer:
            return await answer.json()

    async def control(self, name: str, **body: Any) -> Any:
        """What a control endpoint answers to a POST."""
        async with self.http.post(f"{self.origin}/_control/{name}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    def stream(self, path: str) -> Any:
        """A websocket to a path, to be entered."""
        return self.http.ws_connect(self.origin.replace("http", "ws") + path)


@asynccontextmanager
async def serving(venue: Venue | None = None) -> AsyncGenerator[Served]:
    """Serves a venue on a free port."""
    venue = venue or Venue(SEED)
    runner = web.AppRunner(venue.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as http:
            yield Served(venue, origin, http)
    finally:
        await runner.cleanup()


async def receive(socket: aiohttp.ClientWebSocketResponse) -> Any:
    """The next message, as JSON."""
    return json.loads(await socket.receive_str(timeout=10))


async def subscribe(socket: aiohttp.ClientWebSocketResponse, *streams: str) -> None:
    """Subscribes and takes the answer."""
    await socket.send_json({"method": "SUBSCRIBE", "params": list(streams), "id": 1})
    assert await receive(socket) == {"result": None, "id": 1}
