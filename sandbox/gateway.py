"""The project's one address: keys are checked here, then each path goes to its service."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from sandbox.auth import Auth
from sandbox.rest_faults import RestFault, RestFaults, fault_from

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY = 64 * 2**20
_REST = "/rest/v1"
# Of one connection, not of the message: these stop at the gateway (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What the HTTP client would add and the caller did not say.
_OUR_OWN = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Range, Content-Location, Location, X-Supabase-Api-Version",
}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Max-Age": "3600",
}


class RealtimeService(Protocol):
    """What the gateway needs of the Realtime server."""

    async def websocket(self, request: web.Request) -> web.StreamResponse: ...
    async def broadcast(self, request: web.Request) -> web.Response: ...
    def control(self, settings: dict[str, object]) -> dict[str, object]: ...


class Gateway:
    """Routes of the project's address. `functions` answers /functions/v1 and may be replaced."""

    def __init__(
        self, rest_url: Callable[[], str], auth: Auth, realtime: RealtimeService, keys: tuple[str, str]
    ) -> None:
        self.faults = RestFaults()
        self.functions: Handler = _no_functions
        self._rest_url = rest_url
        self._auth = auth
        self._realtime = realtime
        self._keys = keys
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[_cross_origin])
        app.cleanup_ctx.append(self._client)
        app.router.add_route("*", f"{_REST}/{{path:.*}}", self._rest)
        app.router.add_route("*", "/auth/v1/{path:.*}", self._auth_request)
        # The socket's keys are checked by the Realtime server itself, as on the platform.
        app.router.add_get("/realtime/v1/websocket", self._realtime.websocket)
        app.router.add_post("/realtime/v1/api/broadcast", self._broadcast)
        app.router.add_post("/realtime/v1/api/broadcast/{topic}/events/{event}", self._broadcast)
        app.router.add_route("*", "/functions/v1/{path:.*}", self._function)
        app.router.add_get("/_control/rest", self._show_faults)
        app.router.add_post("/_control/rest", self._add_fault)
        app.router.add_delete("/_control/rest", self._clear_faults)
        app.router.add_post("/_control/realtime", self._control_realtime)
        return app

    async def _client(self, _: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=15)
        timeout = aiohttp.ClientTimeout(total=120, sock_connect=2)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            yield

    def _refusal(self, request: web.Request) -> web.Response | None:
        """What a request with no key, or with one that is not ours, is told."""
        key = request.headers.get("apikey") or request.query.get("apikey")
        if not key:
            return web.json_response(
                {
                    "message": "No API key found in request",
                    "hint": "No `apikey` request header or url param was found.",
                },
                status=401,
            )
        if not any(hmac.compare_digest(key.encode(), known.encode()) for known in self._keys):
            return web.json_response(
                {
                    "message": "Invalid API key",
                    "hint": "Double check your Supabase `anon` or `service_role` API key.",
                },
                status=401,
            )
        return None

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refusal
        fault = self.faults.take(request.path)
        if fault is None:
            return await self._forward(request)
        await asyncio.sleep(fault.delay_ms / 1000)
        if fault.status is None:
            return await self._forward(request)
        if fault.after_commit:
            await self._forward(request)
        return _lost(request) if fault.status == 0 else _ordered(fault)

    async def _forward(self, request: web.Request) -> web.Response:
        assert self._session is not None
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        if "Authorization" not in request.headers:
            key = request.headers.get("apikey") or request.query["apikey"]
            headers.append(("Authorization", f"Bearer {key}"))
        target = URL(self._rest_url() + request.raw_path.removeprefix(_REST), encoded=True)
        if "apikey" in target.query:  # PostgREST would take it for a filter
            target = target.without_query_params("apikey")
        body = await request.read() if request.body_exists else None
        try:
            async with self._session.request(
                request.method,
                target,
                headers=headers,
                skip_auto_headers=_OUR_OWN,
                data=body,
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return web.json_response(
                {"message": f"The REST service does not answer: {type(error).__name__}"}, status=503
            )
        kept = [(k, v) for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP]
        answer = web.Response(status=response.status, body=content)
        answer.headers.extend(kept)
        return answer

    async def _auth_request(self, request: web.Request) -> web.StreamResponse:
        return self._refusal(request) or await self._auth.handle(request)

    async def _broadcast(self, request: web.Request) -> web.StreamResponse:
        return self._refusal(request) or await self._realtime.broadcast(request)

    async def _function(self, request: web.Request) -> web.StreamResponse:
        return await self.functions(request)

    async def _show_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"faults": self.faults.described()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            self.faults.add(fault_from(await _settings(request)))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response({"faults": self.faults.described()})

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return web.json_response({"faults": []})

    async def _control_realtime(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self._realtime.control(await _settings(request)))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=400)


@web.middleware
async def _cross_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let pages of any origin call the project, but never its control endpoints."""
    if request.path.startswith("/_control/"):
        return await handler(request)
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        asked = request.headers.get("Access-Control-Request-Headers", "*")
        return web.Response(status=204, headers={**_CORS, **_PREFLIGHT, "Access-Control-Allow-Headers": asked})
    response = await handler(request)
    if not response.prepared:
        for name, value in _CORS.items():
            response.headers[name] = value
    return response


async def _no_functions(request: web.Request) -> web.StreamResponse:
    name = request.match_info["path"].partition("/")[0]
    return web.json_response({"code": "NOT_FOUND", "message": f"Requested function was not found: {name}"}, status=404)


async def _settings(request: web.Request) -> dict[str, object]:
    try:
        settings: object = json.loads(await request.read())
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError("the body is to be a JSON object")
    return settings  # pyright: ignore[reportUnknownVariableType]


def _ordered(fault: RestFault) -> web.Response:
    assert fault.status is not None
    return web.json_response({"message": "ordered by /_control/rest"}, status=fault.status)


def _lost(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
