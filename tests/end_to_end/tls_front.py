"""The exchange's own names before the sandbox's exchange: TLS under a private authority, on loopback."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

NAMES = (
    "api.binance.com",
    "stream.binance.com",
    "ws-api.binance.com",
    "testnet.binance.vision",
    "stream.testnet.binance.vision",
    "ws-api.testnet.binance.vision",
)
HOST = re.compile(rb"(?im)^host: *([^\s:]+)")
KEY = re.compile(rb"(?im)^x-mbx-apikey: *(\S+)")
Passed = Callable[[bytes], bytes]


@dataclass
class Front:
    """Where it answers, who vouches for it, and what came through it.

    `names` are those it was reached under; `keys` the API keys that were shown, each with the host it was shown to.
    `redirects` leads requests elsewhere, by how they begin: the next such one is carried out, and its answer replaced.
    """

    port: int
    authority: Path
    names: set[str] = field(default_factory=set[str])
    keys: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    redirects: dict[bytes, str] = field(default_factory=dict[bytes, str])

    def hosts_of(self, key: str) -> set[str]:
        """The hosts that an API key was shown to."""
        return {host for host, shown in self.keys if shown == key}


@contextmanager
def tls_front(venue_port: int, folder: Path) -> Generator[Front]:
    """Pass everything on to the exchange, until the context ends."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    front = Front(0, folder / "authority.pem")

    def reached(_socket: Any, name: str | None, _context: ssl.SSLContext) -> None:
        front.names.add(name or "")

    context.sni_callback = reached
    loop, closing, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(
            lambda reader, writer: _accept(front, venue_port, reader, writer), "127.0.0.1", 0, ssl=context
        )
        front.port = server.sockets[0].getsockname()[1]
        ready.set()
        await closing.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="tls front")
    thread.start()
    try:
        assert ready.wait(10)
        yield front
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        loop.close()


async def _accept(front: Front, venue_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    venue_reader, venue_writer = await asyncio.open_connection("127.0.0.1", venue_port)
    leads: list[str] = []

    def asked(data: bytes) -> bytes:
        host, key = HOST.search(data), KEY.search(data)
        if host is not None and key is not None:
            front.keys.add((host[1].decode(), key[1].decode()))
        for start in [one for one in front.redirects if data.startswith(one)]:
            leads.append(front.redirects.pop(start))
        return data

    def answered(data: bytes) -> bytes:
        if not leads:
            return data
        return (
            f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {leads.pop()}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        ).encode()

    await asyncio.gather(_pump(reader, venue_writer, asked), _pump(venue_reader, writer, answered))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Passed) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(passed(data))
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()
