"""The exchange's own names before the sandbox's exchange: TLS under a private authority, on loopback."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass
class Front:
    """Where it answers, who vouches for it, and under which names it was reached."""

    port: int
    authority: Path
    names: set[str]


@contextmanager
def tls_front(venue_port: int, folder: Path) -> Generator[Front]:
    """Pass everything on to the exchange, until the context ends."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    names: set[str] = set()

    def reached(_socket: Any, name: str | None, _context: ssl.SSLContext) -> None:
        names.add(name or "")

    context.sni_callback = reached
    loop, ports, closing = asyncio.new_event_loop(), list[int](), asyncio.Event()
    ready = threading.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", venue_port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
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
        yield Front(ports[0], folder / "authority.pem", names)
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        loop.close()
