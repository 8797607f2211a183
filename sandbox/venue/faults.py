"""Lets the venue fail on purpose, the ways venues fail (a lost answer, half an answer, no JSON, an error)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from aiohttp import web

from sandbox.venue.arrival import arrival

__all__ = ["KINDS", "Fault", "Faults"]

KINDS = ("hang", "drop", "truncate", "html", "status", "delay", "queue")
_NAMES = frozenset(
    {"method", "path", "apiKey", "kind", "execute", "after", "status", "code", "msg", "seconds", "times"}
)
_HANG_SECONDS = 60.0
_HTML = "<html><head><title>venue</title></head><body><h1>Please try again later.</h1></body></html>"
_MESSAGES = {
    -1000: "An unknown error occurred while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1003: "Too many requests queued.",
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Server is currently overloaded with other requests. Please try again in a few minutes.",
    -1015: "Too many new orders.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Fault:
    """One planned failure of the requests to `path`, or with `*` of all requests.

    `hang`: no answer for `seconds`, then the connection closes. `drop`: it closes at once. `truncate`: half a
    body. `html`: a page with `status` (200). `status`: an error with `status` (503), and `code` where given;
    with 418 and 429, Retry-After is `seconds` (1).
    `delay`: the right answer, `seconds` late. `queue`: the request waits for `seconds` before it is carried out; a
    signed one is then too late when its window is over. `execute`: it is carried out first, whatever the answer;
    with `after`, only so many seconds later, when the answer has been lost for long. `apiKey`: of requests under that
    key alone.
    """

    kind: str
    method: str | None
    path: str
    execute: bool
    status: int | None
    code: int | None
    message: str | None
    seconds: float | None
    times: int
    after: float = 0.0
    api_key: str | None = None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Fault:
        """From the control request. Raises ValueError saying what is wrong with it."""
        unknown = set(body) - _NAMES
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        kind, path, method = body.get("kind"), body.get("path"), body.get("method")
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        if not isinstance(path, str) or not (path == "*" or path.startswith("/")) or path.startswith("/_control"):
            raise ValueError("path is the exact path of an endpoint, such as /api/v3/order, or * for all of them")
        if method is not None and not isinstance(method, str):
            raise ValueError("method is an HTTP method, such as GET; left out, any")
        api_key = body.get("apiKey")
        if api_key is not None and not isinstance(api_key, str):
            raise ValueError("apiKey is the key of an account, as text; left out, any or none")
        times = body.get("times", 1)
        if not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise ValueError("times is a whole number from 1 on")
        seconds = body.get("seconds")
        if seconds is not None and (not isinstance(seconds, int | float) or not 0 <= seconds <= 3600):
            raise ValueError("seconds is a number from 0 to 3600")
        after = body.get("after", 0)
        if not isinstance(after, int | float) or not 0 <= after <= 3600 or (after and not body.get("execute")):
            raise ValueError("after is a number from 0 to 3600, of a request that is carried out (execute)")
        status = body.get("status")
        if status is not None and (not isinstance(status, int) or not 200 <= status <= 599):
            raise ValueError("status is an HTTP status from 200 to 599")
        code, message = body.get("code"), body.get("msg")
        if code is not None and not isinstance(code, int):
            raise ValueError("code is a whole number, such as -1007")
        return cls(
            kind=kind,
            method=method.upper() if method else None,
            path=path,
            execute=bool(body.get("execute", False)),
            status=status,
            code=code,
            message=message if isinstance(message, str) else None,
            seconds=float(seconds) if seconds is not None else None,
            times=times,
            after=float(after),
            api_key=api_key,
        )

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "method": self.method,
            "path": self.path,
            "execute": self.execute,
            "status": self.status,
            "code": self.code,
            "msg": self.message,
            "seconds": self.seconds,
            "times": self.times,
            "after": self.after,
            "apiKey": self.api_key,
        }

    def body(self) -> str:
        message = self.message or _MESSAGES.get(self.code or 0, "An injected fault.")
        return json.dumps({"code": self.code, "msg": message}, separators=(",", ":"))


class Faults:
    """The planned failures, the oldest first; each is spent after its number of times."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []
        self._stopping = asyncio.Event()
        self._late: set[asyncio.Task[web.StreamResponse]] = set()

    def plan(self, fault: Fault) -> None:
        self.planned.append(fault)

    def clear(self) -> None:
        """Forgets what is planned and lets go of the requests that hang."""
        self.planned.clear()
        self._stopping.set()
        self._stopping = asyncio.Event()

    def take(self, method: str, path: str, api_key: str) -> Fault | None:
        """The fault that befalls such a request, once less from now on."""
        for fault in self.planned:
            if fault.path in ("*", path) and fault.method in (None, method) and fault.api_key in (None, api_key):
                fault.times -= 1
                if fault.times == 0:
                    self.planned.remove(fault)
                return fault
        return None

    async def befall(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers, or does not answer, as the fault says."""
        answer: web.StreamResponse | None = None
        if fault.kind == "queue":
            arrival.get().held_seconds = _HANG_SECONDS if fault.seconds is None else fault.seconds
            return await handler(request)
        if fault.after:
            await self._carry_out_late(fault.after, request, handler)
        elif fault.execute or fault.kind == "delay":
            answer = await handler(request)
        if fault.kind in ("hang", "delay"):
            await self.wait(_HANG_SECONDS if fault.seconds is None else fault.seconds)
        if fault.kind == "delay":
            assert answer is not None
            return answer
        if fault.kind == "html":
            return web.Response(text=_HTML, status=fault.status or 200, content_type="text/html")
        if fault.kind == "status":
            return self._status(fault)
        if fault.kind == "truncate":
            await self._begin(request, answer)
        return self._cut(request)

    async def wait(self, seconds: float) -> None:
        """Waits, until the faults are cleared at the latest."""
        if not seconds:
            return
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _carry_out_late(self, seconds: float, request: web.Request, handler: Handler) -> None:
        """Begins what waits its turn, whoever still listens then."""
        await request.read()
        arrival.get().held_seconds = seconds

        async def carry_out() -> web.StreamResponse:
            return await handler(request)

        task = asyncio.create_task(carry_out())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    @staticmethod
    def _status(fault: Fault) -> web.Response:
        status = fault.status or 503
        headers = {"Retry-After": str(max(1, ceil(fault.seconds or 0)))} if status in (418, 429) else {}
        if fault.code is None and fault.message is None:
            return web.Response(text=_HTML, status=status, headers=headers, content_type="text/html")
        return web.Response(text=fault.body(), status=status, headers=headers, content_type="application/json")

    @staticmethod
    async def _begin(request: web.Request, answer: web.StreamResponse | None) -> None:
        whole = b'{"symbol":"'
        if isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            whole = answer.body
        begun = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole) * 2)})
        await begun.prepare(request)
        await begun.write(whole[: len(whole) // 2 or 1])

    @staticmethod
    def _cut(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.close()
        # never seen: the connection is gone
        return web.Response(status=499)
