"""Users' exchange keys from the project's Edge Function, held in memory for a short time and shown nowhere."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import httpx

from streams.domain.account import Account
from streams.domain.errors import Broken, ExecutionError, Refused, Transient
from streams.ports import Keys

FUNCTION = "decrypt-api-keys"
CACHE_SECONDS = 60.0
RENEWED_AFTER = (0.4, 0.8)
"""The part of their time after which keys in use are asked for anew, before anybody has to wait for them: between
these, so that those of many accounts are not all asked for at once."""
CALL_SECONDS = 10.0
CONNECTIONS = 4
UNREADABLE = ("keys_unreadable", "keys_rejected")


@dataclass(frozen=True, slots=True)
class _Held:
    keys: Keys
    renewed_at: float
    until: float
    forgetting: asyncio.TimerHandle


class EdgeKeyring:
    """Asks once for each account however many ask at the same time; must be used on one event loop."""

    def __init__(
        self,
        supabase_url: str,
        service_role_key: str,
        *,
        cache_seconds: float = CACHE_SECONDS,
        exchange: str = "binance",
    ) -> None:
        self._url = f"{supabase_url}/functions/v1/{FUNCTION}"
        self._exchange = exchange
        self._cache_seconds = cache_seconds
        self._held: dict[Account, _Held] = {}
        self._asking: dict[Account, asyncio.Task[Keys]] = {}
        self._tasks: set[asyncio.Task[Keys]] = set()
        self._http = httpx.AsyncClient(
            headers={"apikey": service_role_key, "Authorization": f"Bearer {service_role_key}"},
            timeout=CALL_SECONDS,
            limits=httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=120.0
            ),
        )

    async def keys(self, account: Account) -> Keys:
        """The account's keys, as they are held or asked for now.

        Raises Refused (`keys_missing`, `keys_rejected`), Transient where the function is out of reach, Broken.
        """
        now = asyncio.get_running_loop().time()
        held = self._held.get(account)
        if held is None or now >= held.until:
            return await asyncio.shield(self._asked(account))
        if now >= held.renewed_at:
            self._asked(account)
        return held.keys

    def drop(self, account: Account, version: int | None = None) -> None:
        """Forget the account's keys: those of that version or older ones, or whichever they are."""
        held = self._held.get(account)
        if version is None or held is None or held.keys.version <= version:
            self._forget(account)
            self._asking.pop(account, None)  # what was asked before may still be answered with the old ones

    async def close(self) -> None:
        """Forget everything, and close the connections."""
        for account in tuple(self._held):
            self._forget(account)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    def _asked(self, account: Account) -> asyncio.Task[Keys]:
        asking = self._asking.get(account)
        if asking is None:
            asking = self._asking[account] = asyncio.create_task(self._ask(account), name="keys")
            self._tasks.add(asking)
            asking.add_done_callback(self._tasks.discard)
            asking.add_done_callback(lambda task: self._settle(account, task))
        return asking

    def _settle(self, account: Account, task: asyncio.Task[Keys]) -> None:
        error = None if task.cancelled() else task.exception()  # said to those who wait; there may be nobody
        if self._asking.get(account) is not task:
            return
        del self._asking[account]
        if isinstance(error, Refused):
            self._forget(account)
        elif error is None and not task.cancelled():
            self._keep(account, task.result())

    def _keep(self, account: Account, keys: Keys) -> None:
        self._forget(account)
        loop, seconds = asyncio.get_running_loop(), self._cache_seconds
        forgetting = loop.call_later(seconds, self._forget, account)
        now = loop.time()
        renewed_at = now + seconds * random.uniform(*RENEWED_AFTER)  # noqa: S311
        self._held[account] = _Held(keys, renewed_at, now + seconds, forgetting)

    def _forget(self, account: Account) -> None:
        held = self._held.pop(account, None)
        if held is not None:
            held.forgetting.cancel()

    async def _ask(self, account: Account) -> Keys:
        whose = {"userId": str(account.user_id), "exchange": self._exchange, "mode": account.mode}
        try:
            async with asyncio.timeout(CALL_SECONDS):
                response = await self._http.post(self._url, json=whose)
        except (httpx.HTTPError, TimeoutError) as error:
            raise Transient(f"{FUNCTION} could not be reached: {type(error).__name__}") from None
        told = _object(response)
        if response.status_code == 200:
            return _keys(told)
        raise _sorted(response.status_code, told, account)


def _object(response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object, empty where it is none."""
    try:
        told: Any = response.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _keys(told: dict[str, Any]) -> Keys:
    api_key, secret, version = told.get("apiKey"), told.get("secret"), told.get("version")
    if not (isinstance(api_key, str) and isinstance(secret, str) and isinstance(version, int)):
        raise Broken(f"{FUNCTION} gave an answer without keys in it")  # which is not quoted: they may be in it
    return Keys(api_key, secret, version)


def _sorted(status: int, told: dict[str, Any], account: Account) -> ExecutionError:
    """What to do next about a refusal."""
    code, sentence = str(told.get("code", "")), str(told.get("message", ""))[:300]
    if code == "keys_missing":
        return Refused(code, f"Store your exchange keys for {account.mode} first.")
    if code in UNREADABLE:
        return Refused("keys_rejected", "The stored exchange keys cannot be read any more: store them again.")
    if status in (401, 403):
        return Broken(f"SUPABASE_SERVICE_ROLE_KEY: {FUNCTION} refused it ({sentence}); copy this project's key")
    if status == 404:
        return Transient(f"{FUNCTION} is not deployed in this project: run `supabase functions deploy`")
    if status >= 500 or status in (408, 429):
        return Transient(f"{FUNCTION} could not answer: {status} {sentence}")
    return Broken(f"{FUNCTION} refused the request: {status} {sentence}")
