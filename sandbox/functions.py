"""Edge Functions: the project's own files under the real Deno, each in a process with few rights.

The caller's token is checked here, as the platform does before it starts a function (`verify_jwt` in config.toml).
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from sandbox.child import end, spawn
from sandbox.ports import LOOPBACK, free_port
from sandbox.tokens import TokenError, Tokens

_PREFIX = "/functions/v1/"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_READY_SECONDS = 20.0
_STARTS = 3  # somebody else may take the free port before Deno does
_SECONDS = 150.0  # what the platform gives a request
# Of one connection, not of the message (RFC 9110, 7.6.1); and what the client library says of its own.
_LEFT_OUT = frozenset({"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding"})
_OUR_OWN = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# What a function may ask for and find unset, as on the platform.
_OPTIONAL = ("CREDENTIALS_KEYS", "EXCHANGE_BASE_URL")


class FunctionsError(RuntimeError):
    """A function cannot be served; the text says what to do."""


@dataclass(frozen=True, slots=True)
class _Process:
    child: subprocess.Popen[bytes]
    origin: str

    def running(self) -> bool:
        return self.child.poll() is None


class Functions:
    """Serves the functions of one project, each started when it is first asked for.

    `settings` are the variables they may read; of the network they may reach the addresses in these and no other.
    Requests are to come in the main thread: children die with the thread that made them.
    """

    def __init__(self, project: Path, data: Path, jwt_secret: str, settings: Mapping[str, str]) -> None:
        self.log = data / "functions.log"
        self._folder = project / "functions"
        self._config = project / "config.toml"
        self._cache = data / "deno"
        self._tokens = Tokens(jwt_secret)
        self._settings = dict(settings)
        self._processes: dict[str, _Process] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._session: aiohttp.ClientSession | None = None
        self._stopped = False

    def knows(self, name: str) -> bool:
        """Whether the project has a function of that name, and has not switched it off."""
        if not _NAME.fullmatch(name) or not (self._folder / name / "index.ts").is_file():
            return False
        return bool(self._configured(name).get("enabled", True))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request to /functions/v1/NAME."""
        name = request.path.removeprefix(_PREFIX).partition("/")[0]
        if not self.knows(name):
            return _refusal(404, "NOT_FOUND", f"Requested function was not found: {name}")
        if refusal := self._unauthorised(name, request):
            return refusal
        try:
            process = await self._process(name)
        except FunctionsError as error:
            return _refusal(503, "BOOT_ERROR", str(error))
        return await self._forward(request, process)

    async def stop(self) -> None:
        """End every function; requests under way are cut off."""
        self._stopped = True
        ended = [asyncio.to_thread(end, one.child, 1.0, signal.SIGTERM) for one in self._processes.values()]
        await asyncio.gather(*ended)
        self._processes.clear()
        if self._session is not None:
            await self._session.close()

    def _configured(self, name: str) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            return tomllib.loads(self._config.read_text()).get("functions", {}).get(name, {})
        return {}

    def _unauthorised(self, name: str, request: web.Request) -> web.Response | None:
        if request.method == "OPTIONS" or not self._configured(name).get("verify_jwt", True):
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token or scheme.lower() != "bearer":
            return _refusal(401, 401, "Missing authorization header")
        try:
            self._tokens.read(token.strip())
        except TokenError:
            return _refusal(401, 401, "Invalid JWT")
        return None

    async def _process(self, name: str) -> _Process:
        """The running process of a function, started where there is none or it died. Raises FunctionsError."""
        async with self._starting.setdefault(name, asyncio.Lock()):
            known = self._processes.get(name)
            if known is not None and known.running():
                return known
            for _ in range(_STARTS):
                if self._stopped:
                    break
                process = self._processes[name] = self._spawned(name)
                if await self._listens(process):
                    return process
            raise FunctionsError(f"{name} does not start; see {self.log}")

    def _spawned(self, name: str) -> _Process:
        port = free_port()
        reached = (urlsplit(value) for key, value in self._settings.items() if key.endswith("_URL"))
        hosts = [f"{LOOPBACK}:{port}", *(one.netloc for one in reached if one.scheme in ("http", "https"))]
        command = (
            *(_deno(), "run", "--quiet", "--no-prompt", "--no-remote", "--no-npm", "--no-lock"),
            f"--allow-net={','.join(hosts)}",
            f"--allow-env={','.join(sorted({*_OPTIONAL, *self._settings}))}",
            self._folder / name / "index.ts",
        )
        environment = {
            **self._settings,
            "DENO_DIR": str(self._cache),
            "DENO_NO_UPDATE_CHECK": "1",
            "DENO_SERVE_ADDRESS": f"tcp:{LOOPBACK}:{port}",
            "NO_COLOR": "1",
        }
        try:
            child = spawn(command, log=self.log, env=environment, cwd=self._folder)
        except OSError as error:
            raise FunctionsError(f"Deno cannot be run ({error}): pip install deno") from error
        return _Process(child, f"http://{LOOPBACK}:{port}")

    async def _listens(self, process: _Process) -> bool:
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        address = urlsplit(process.origin)
        while process.running() and asyncio.get_running_loop().time() < deadline:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.close()
                return True
            await asyncio.sleep(0.005)
        return False

    async def _forward(self, request: web.Request, process: _Process) -> web.StreamResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _LEFT_OUT]
        target = URL(process.origin + "/" + request.raw_path.removeprefix(_PREFIX), encoded=True)
        body = await request.read() if request.body_exists else None
        try:
            async with self._session.request(
                request.method, target, headers=headers, data=body, skip_auto_headers=_OUR_OWN, allow_redirects=False
            ) as response:
                answer = web.Response(status=response.status, body=await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            return _refusal(
                502, "WORKER_ERROR", f"The function gave no answer ({type(error).__name__}); see {self.log}"
            )
        answer.headers.extend(
            (name, value) for name, value in response.headers.items() if name.lower() not in _LEFT_OUT
        )
        return answer


def _deno() -> str:
    try:
        import deno  # pyright: ignore[reportMissingTypeStubs]

        return deno.find_deno_bin()
    except (ImportError, FileNotFoundError) as error:
        raise FunctionsError("no Deno to run functions with: pip install deno") from error


def _refusal(status: int, code: str | int, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)
