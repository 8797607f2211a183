"""A project's REST interface as a test answers it, in virtual time: no socket is opened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import aiohttp
import httpx
import pytest

from streams.domain import sizing
from streams.ports import Attempt
from tests.domain import specimens
from worker.adapters.supabase_store import SupabaseStore, connect_store

LEASE_SECONDS = 10.0
WORKER_ID = UUID(int=0xF)
NOTHING: dict[str, Any] = {"taken": [], "signals": [], "more": False, "unseen": []}
"""What a claim answers that found nothing."""
REGISTERED: dict[str, Any] = {"heartbeat_ms": 1_700_000_000_000}
"""What a registration answers: when the lease began."""
Answer = dict[str, Any] | httpx.Response | Exception


class Project:
    """Answers each function as told, again and again, at once or after some seconds; what was asked is kept."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {"worker_register": REGISTERED}
        self.seconds: dict[str, float] = {}
        self.asked: list[tuple[float, str, dict[str, Any]]] = []
        self.timeouts: list[aiohttp.ClientTimeout] = []

    def questions(self, function: str) -> Sequence[dict[str, Any]]:
        """The parameters that a function was asked with."""
        return [parameters for _, name, parameters in self.asked if name == function]

    async def answer(self, url: str, content: bytes, timeout: aiohttp.ClientTimeout) -> httpx.Response:
        """Answer one request."""
        function = url.rpartition("/rest/v1/rpc/")[2]
        self.asked.append((asyncio.get_running_loop().time(), function, json.loads(content)))
        self.timeouts.append(timeout)
        await asyncio.sleep(self.seconds.get(function, 0.0))
        told = self.answers[function]
        if isinstance(told, Exception):
            raise told
        return told if isinstance(told, httpx.Response) else httpx.Response(200, json=told)


@dataclass(frozen=True)
class Answered:
    """An answer as aiohttp gives it."""

    status: int
    content: bytes

    async def read(self) -> bytes:
        return self.content


def answered_by(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    """Let every connection made from now on end at this project."""

    class Session:
        def __init__(self, timeout: aiohttp.ClientTimeout, **_: Any) -> None:
            self._timeout = timeout

        @asynccontextmanager
        async def request(self, _method: str, url: str, *, data: bytes, **_: Any) -> AsyncGenerator[Answered]:
            told = await project.answer(url, data, self._timeout)
            yield Answered(told.status_code, told.content)

        async def close(self) -> None:
            """Nothing was opened."""

    monkeypatch.setattr(aiohttp, "ClientSession", Session)


async def registered() -> SupabaseStore:
    """A store with a registered worker."""
    store = await connect_store("http://project.test", "key", LEASE_SECONDS, ["paper"], 120.0)
    await store.register(WORKER_ID)
    return store


def attempt(**changes: Any) -> Attempt:
    """An entry of a signal, by a trader with percentages for stop and target."""
    settings = specimens.config(stop_loss_percent="5", take_profit_percent="10")
    signal = specimens.signal(risk_config=settings, **changes)
    funds = sizing.Funds(Decimal(10000), Decimal("0.001"))
    sized = sizing.size_entry(signal, specimens.RULES, specimens.quote(), funds, Decimal("0.5"))
    return Attempt(UUID(int=1), UUID(int=2), UUID(int=3), "fs-e1", signal.brief, sized, 0, 5000)
