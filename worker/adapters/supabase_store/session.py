"""The HTTP of the Supabase client: few, long-kept connections over aiohttp.

The client asks for one verb of a session: `request`. By that of httpx a call takes two thirds more CPU, most of it
for addresses and headers that are the same in every call.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

CONNECTIONS = 8
"""Few, for more of them only cost more CPU a call; one more is for the heartbeat."""
KEEPALIVE_SECONDS = 120.0
CONNECT_SECONDS = 3.0


class Session(httpx.AsyncClient):
    """Sends requests as they are. Raises httpx.HTTPError when no answer comes, or none of the database's own."""

    def __init__(self, origin: str, most_seconds: float) -> None:
        """Connect to one origin, as the environment's proxies say; no call takes longer than so many seconds."""
        context = httpx.create_ssl_context()
        super().__init__(verify=context)
        address = urlsplit(origin)
        self._asked = httpx.Request("POST", origin)
        self._connections = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS + 1, keepalive_timeout=KEEPALIVE_SECONDS, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=None if proxy_bypass(address.netloc) else getproxies().get(address.scheme),
            timeout=aiohttp.ClientTimeout(total=most_seconds, sock_connect=min(CONNECT_SECONDS, most_seconds)),
        )

    async def request(self, method: str, url: httpx.URL | str, **of: Any) -> httpx.Response:
        """Send the content and the headers given; nothing else of a request is used."""
        try:
            async with self._connections.request(
                method, str(url), data=of["content"], headers=of["headers"], allow_redirects=False
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise httpx.TransportError(f"{type(error).__name__} {error}".rstrip()) from error
        response = httpx.Response(answer.status, content=body, request=self._asked)
        _refuse_foreign(response)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.close()
        await super().aclose()


def _refuse_foreign(response: httpx.Response) -> None:
    """Tell a failure of what stands before the database from one of its own, which carries a code.

    The client reads a code from the body and forgets the status, so it could not be told later.

    Raises:
        httpx.HTTPStatusError: overloaded, or out of reach behind its gateway.
    """
    if response.status_code < 500 and response.status_code not in (408, 429):
        return
    body = response.content.decode(errors="replace")
    try:
        told: Any = json.loads(body)
    except ValueError:
        told = None
    if not (isinstance(told, dict) and told.get("code")):  # pyright: ignore[reportUnknownMemberType]
        raise httpx.HTTPStatusError(f"{response.status_code} {body[:200]}", request=response.request, response=response)
