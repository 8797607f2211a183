"""The project's functions behind its token check, with data keys and an exchange of a test's own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from sandbox.functions import Functions
from sandbox.ports import free_port
from sandbox.stack import PROJECT
from tests.connections import HTTP

_START_SECONDS = 10.0
_WITHDRAWALS = "/sapi/v1/account/apiRestrictions"


def data_key() -> str:
    """A new key to encrypt users' keys with."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def data_keys(**keys: str) -> str:
    """The secret CREDENTIALS_KEYS: `v1=…, v2=…`, the last of which is current."""
    versions = {name.removeprefix("v"): key for name, key in keys.items()}
    return json.dumps({"current": list(versions)[-1], "keys": versions})


@dataclass
class Exchange:
    """Knows keys and what they may do."""

    accounts: dict[str, str] = field(default_factory=dict[str, str])
    withdrawing: set[str] = field(default_factory=set[str])

    def open_account(self) -> tuple[str, str]:
        """A new key and its secret."""
        api_key, secret = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
        self.accounts[api_key] = secret
        return api_key, secret

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a signed question as Binance does."""
        api_key = request.headers.get("X-MBX-APIKEY", "")
        query, _, signature = request.query_string.partition("&signature=")
        secret = self.accounts.get(api_key)
        if secret is None:
            return _refused(-2015)
        if not hmac.compare_digest(hmac.digest(secret.encode(), query.encode(), hashlib.sha256).hex(), signature):
            return _refused(-1022)
        if request.path == _WITHDRAWALS:
            return web.json_response({"enableWithdrawals": api_key in self.withdrawing})
        return web.json_response({"canTrade": True})


def _refused(code: int) -> web.Response:
    return web.json_response({"code": code, "msg": "refused"}, status=400)


@dataclass
class Door:
    """An address at which the functions answer, until it is closed."""

    url: str
    exchange: Exchange
    functions: Functions
    env: Mapping[str, str]

    def call(self, name: str, body: Mapping[str, Any] | None, token: str | None) -> httpx.Response:
        """One request to a function."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        address = f"{self.url}/functions/v1/{name}"
        return HTTP.post(address, headers=headers, json=body)

    def store(self, token: str, keys: tuple[str, str], mode: str = "testnet") -> httpx.Response:
        """Hand a key over as its user does."""
        api_key, secret = keys
        body = {"exchange": "binance", "mode": mode, "label": "main", "apiKey": api_key, "secret": secret}
        return self.call("store-api-keys", body, token)

    def decrypt(self, user_id: str, mode: str = "testnet", token: str | None = None) -> httpx.Response:
        """Ask for a user's key as a worker does, unless with another token."""
        body = {"userId": user_id, "exchange": "binance", "mode": mode}
        return self.call("decrypt-api-keys", body, token or self.env["SUPABASE_SERVICE_ROLE_KEY"])


@contextmanager
def open_door(env: Mapping[str, str], data: Path, keys: str | None, project: Path = PROJECT) -> Generator[Door]:
    """Serve a project's functions; `keys` is their secret CREDENTIALS_KEYS."""
    port, exchange = free_port(), Exchange()
    url = f"http://127.0.0.1:{port}"
    settings = {name: env[name] for name in ("SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY")}
    settings["EXCHANGE_BASE_URL"] = url
    if keys is not None:
        settings["CREDENTIALS_KEYS"] = keys
    functions = Functions(project, data, env["SUPABASE_JWT_SECRET"], settings)
    application = web.Application()
    application.router.add_route("*", "/functions/v1/{path:.*}", functions.handle)
    for path in ("/api/v3/account", _WITHDRAWALS):
        application.router.add_get(path, exchange.answer)

    loop, ready, closing = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await closing.wait()
        await functions.stop()
        await runner.cleanup()

    # A thread that outlasts the functions' processes, which end with the one that made them.
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="door")
    thread.start()
    try:
        assert ready.wait(_START_SECONDS)
        yield Door(url, exchange, functions, env)
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        loop.close()
