"""Lets the worker reach the hosts of its exchange and no others, by name or number, and follow no redirect."""

from __future__ import annotations

import logging
from collections.abc import Callable
from errno import EACCES
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

log = logging.getLogger(__name__)

Host = tuple[str, int]
Hosts = frozenset[Host]
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class ForbiddenHost(aiohttp.ClientConnectorError):
    """A request that was stopped before a byte of it left; what reads failures takes it as one that never connected."""

    def __init__(self, key: ConnectionKey) -> None:
        super().__init__(key, OSError(EACCES, "no host of this exchange; nothing was sent there"))


class Redirected(aiohttp.ClientError):
    """A request that was answered with another address, and not sent there.

    It was sent once, and may have been carried out: what reads failures must not take it as one that never connected.
    """


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to the hosts named, and raises ForbiddenHost for any other one."""

    def __init__(self, hosts: Hosts, **settings: Any) -> None:
        # Each user's stream holds a connection for as long as it stands: an order must not wait for one of them to end.
        super().__init__(limit=0, **settings)  # pyright: ignore[reportUnknownMemberType]
        self._hosts = hosts

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Asked for each request and websocket, kept connections too; a proxy is a host like any other."""
        key = req.connection_key
        if (key.host, key.port) not in self._hosts or key.proxy is not None:
            log.error("a connection to %s:%s was stopped: it is no host of this exchange", key.host, key.port)
            raise ForbiddenHost(key)
        return await super().connect(req, traces, timeout)


Connect = Callable[[Hosts], GuardedConnector]
"""Makes the connector of a session that may reach these hosts."""


def guarded_session(connector: GuardedConnector) -> aiohttp.ClientSession:
    """A session that reaches the connector's hosts, and sends no request twice because it was told to."""
    return aiohttp.ClientSession(connector=connector, middlewares=(_stay,))


async def _stay(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Follow no redirect: aiohttp would send an order's body once more, and its key with it."""
    response = await send(request)
    if response.status in REDIRECTS:
        response.close()
        log.error("%s answered %s with a redirect, which was not followed", request.url.host, request.method)
        raise Redirected(f"{request.method} was answered with a redirect ({response.status}), which is not followed")
    return response


def hosts_of(urls: Any, testnet: bool, base_url: str | None) -> Hosts:
    """The hosts that spot trading needs: REST, public streams, the websocket API; or the other origin's alone.

    They are read from ccxt's own tables of its environments, never from the URLs in use: these are what is guarded.
    """
    if base_url is not None:
        return frozenset({_host_of(base_url)})
    named = urls["test" if testnet else "api"]
    used = (named["public"], named["private"], named["ws"]["spot"], named["ws"]["ws-api"]["spot"])
    return frozenset(_host_of(str(url)) for url in used)


def _host_of(url: str) -> Host:
    parts = urlsplit(url)
    return (parts.hostname or "", parts.port or PORTS[parts.scheme])
