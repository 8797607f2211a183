"""Every best bid that the exchange streams, written down as it comes: what prices did, by their own word."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import aiohttp

from tests.end_to_end.product import Project, wait_until


@dataclass(frozen=True, slots=True)
class Tick:
    """A best bid, and when it was heard (Unix seconds)."""

    at: float
    bid: Decimal


@dataclass
class Tape:
    """The ticks of each symbol in the order in which they came."""

    ticks: dict[str, list[Tick]] = field(default_factory=dict[str, list[Tick]])

    def since(self, symbol: str, moment: float) -> Sequence[Tick]:
        """What a symbol did from a moment on."""
        return [tick for tick in self.ticks.get(symbol, ()) if tick.at >= moment]

    @property
    def length(self) -> int:
        """How many ticks there are, of all symbols."""
        return sum(len(ticks) for ticks in self.ticks.values())


@contextmanager
def recording(project: Project, symbols: Sequence[str]) -> Generator[Tape]:
    """Write down what these symbols do, from when each was heard once until the end."""
    tape, ended = Tape(), threading.Event()
    listening = threading.Thread(target=lambda: asyncio.run(_listen(project, symbols, tape, ended)), name="tape")
    listening.start()
    try:
        wait_until("every symbol is heard", lambda: len(tape.ticks) == len(symbols))
        yield tape
    finally:
        ended.set()
        listening.join()


async def _listen(project: Project, symbols: Sequence[str], tape: Tape, ended: threading.Event) -> None:
    names = {symbol.replace("/", ""): symbol for symbol in symbols}
    streams = [f"{name.lower()}@bookTicker" for name in names]
    url = f"{project.env['EXCHANGE_BASE_URL'].replace('http', 'ws', 1)}/ws"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": streams, "id": 1})
        while not ended.is_set():
            message = json.loads(await socket.receive_str(timeout=10))
            if "s" in message:
                symbol = names[message["s"]]
                tape.ticks.setdefault(symbol, []).append(Tick(time.time(), Decimal(message["b"])))
