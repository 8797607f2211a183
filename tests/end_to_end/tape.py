"""Every best bid that the exchange streams, written down as it comes: what prices did, by their own word.

Run as a process of its own, so that what is measured beside it does not wait for it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp

from tests.end_to_end.product import Project, wait_until


@dataclass(frozen=True, slots=True)
class Tick:
    """A best bid, and when it was heard (Unix seconds)."""

    at: float
    bid: Decimal


@dataclass(frozen=True)
class Tape:
    """What is written down so far: a line a message, its moment before it."""

    path: Path
    names: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def ticks(self) -> dict[str, list[Tick]]:
        """The ticks of each symbol in the order in which they came."""
        ticks: dict[str, list[Tick]] = {symbol: [] for symbol in self.names.values()}
        for line in self._lines():
            moment, message = line.split(" ", 1)
            told = json.loads(message)
            if "s" in told:
                ticks[self.names[told["s"]]].append(Tick(float(moment), Decimal(told["b"])))
        return ticks

    @property
    def length(self) -> int:
        """How many messages there are, of all symbols."""
        return len(self._lines())

    def stop(self) -> None:
        """Write no more."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    def _lines(self) -> Sequence[str]:
        return self.path.read_text().rpartition("\n")[0].splitlines()


@contextmanager
def recording(project: Project, symbols: Sequence[str], path: Path) -> Generator[Tape]:
    """Write down what these symbols do, from when each was heard once until the end."""
    names = {symbol.replace("/", ""): symbol for symbol in symbols}
    url = f"{project.env['EXCHANGE_BASE_URL'].replace('http', 'ws', 1)}/ws"
    streams = [f"{name.lower()}@bookTicker" for name in names]
    with path.open("w") as written:
        process = subprocess.Popen([sys.executable, "-m", "tests.end_to_end.tape", url, *streams], stdout=written)
    tape = Tape(path, names, process)
    try:
        wait_until("every symbol is heard", lambda: all(tape.ticks().values()))
        yield tape
    finally:
        tape.stop()


async def _listen(url: str, streams: Sequence[str]) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": list(streams), "id": 1})
        while True:
            print(time.time(), await socket.receive_str(timeout=10), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        asyncio.run(_listen(sys.argv[1], sys.argv[2:]))
