"""Lets the worker reach the hosts of its exchange and no others, by name or number, redirected or not."""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

Host = tuple[str, int]
Hosts = frozenset[Host]
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class ForbiddenHost(aiohttp.ClientConnectorError):
    """A request that was stopped before a byte of it left; what reads failures takes it as one that never connected."""

    def __init__(self, key: ConnectionKey) -> None:
        super().__init__(key, OSError(EACCES, "no host of this exchange; nothing was sent there"))


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to the hosts named, and raises ForbiddenHost for any other one."""

    def __init__(self, hosts: Hosts, **settings: Any) -> None:
        super().__init__(**settings)  # pyright: ignore[reportUnknownMemberType]
        self._hosts = hosts

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Asked for each request, websocket and redirect, kept connections too."""
        key = req.connection_key
        if (key.host, key.port) not in self._hosts:
            raise ForbiddenHost(key)
        return await super().connect(req, traces, timeout)


Connect = Callable[[Hosts], aiohttp.TCPConnector]
"""Makes the connector of a session that may reach these hosts."""


def spot_hosts(urls: Any) -> Hosts:
    """The hosts of ccxt's `urls['api']` that spot trading goes to: REST, public streams, the websocket API."""
    used = (urls["public"], urls["private"], urls["ws"]["spot"], urls["ws"]["ws-api"]["spot"])
    return frozenset(_host_of(str(url)) for url in used)


def _host_of(url: str) -> Host:
    parts = urlsplit(url)
    return (parts.hostname or "", parts.port or PORTS[parts.scheme])
