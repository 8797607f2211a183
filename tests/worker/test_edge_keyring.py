"""Keys from the Edge Function: asked for once, held for a short time, and shown by nothing."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from streams.domain.account import Account
from streams.domain.errors import Broken, Refused, Transient
from tests.streams.virtual_loop import in_virtual_time
from worker.adapters.edge_keyring import CACHE_SECONDS, CALL_SECONDS, RENEWED_AFTER, EdgeKeyring

ANNA = Account(UUID(int=1), "testnet")
ANNA_LIVE = Account(UUID(int=1), "live")
BERT = Account(UUID(int=2), "testnet")
SERVICE_KEY = "key-of-the-service-role"
SECRET = "secret-of-anna"


class Function:
    """Answers as told after some seconds; what was asked is kept."""

    def __init__(self) -> None:
        self.version = 1
        self.answer: httpx.Response | Exception | None = None
        self.seconds = 0.0
        self.asked: list[dict[str, str]] = []
        self.requests: list[httpx.Request] = []

    async def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        self.asked.append(json.loads(request.content))
        version, told = self.version, self.answer
        await asyncio.sleep(self.seconds)
        if isinstance(told, Exception):
            raise told
        if told is not None:
            return httpx.Response(told.status_code, content=told.content)
        return httpx.Response(200, json={"apiKey": "key-of-anna", "secret": SECRET, "version": version})


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Function:
    """The function at which every connection of the test ends."""
    function = Function()

    class Answered(httpx.AsyncClient):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings, transport=httpx.MockTransport(function.respond))

    monkeypatch.setattr(httpx, "AsyncClient", Answered)
    return function


@asynccontextmanager
async def keyring_of(**settings: Any) -> AsyncGenerator[EdgeKeyring]:
    """A keyring for the length of a test."""
    keyring = EdgeKeyring("http://project.test", SERVICE_KEY, **settings)
    try:
        yield keyring
    finally:
        await keyring.close()


@in_virtual_time
async def test_it_asks_the_function_as_the_service_role(function: Function) -> None:
    async with keyring_of() as keyring:
        keys = await keyring.keys(ANNA)
    assert (keys.api_key, keys.secret, keys.version) == ("key-of-anna", SECRET, 1)
    assert function.asked == [{"userId": str(ANNA.user_id), "exchange": "binance", "mode": "testnet"}]
    [request] = function.requests
    assert str(request.url) == "http://project.test/functions/v1/decrypt-api-keys"
    assert request.headers["Authorization"] == f"Bearer {SERVICE_KEY}"


@in_virtual_time
async def test_many_who_ask_at_once_ask_once_for_each_account(function: Function) -> None:
    function.seconds = 1.0
    async with keyring_of() as keyring:
        found = await asyncio.gather(*(keyring.keys(account) for account in (ANNA, BERT, ANNA_LIVE) for _ in range(20)))
    assert len(found) == 60
    assert len(function.asked) == 3


@in_virtual_time
async def test_one_who_stops_waiting_does_not_stop_the_others(function: Function) -> None:
    function.seconds = 1.0
    async with keyring_of() as keyring:
        first = asyncio.create_task(keyring.keys(ANNA))
        second = asyncio.create_task(keyring.keys(ANNA))
        await asyncio.sleep(0.5)
        first.cancel()
        assert (await second).version == 1
    assert len(function.asked) == 1


@in_virtual_time
async def test_keys_are_held_for_a_while_and_forgotten_unasked(function: Function) -> None:
    async with keyring_of(cache_seconds=10.0) as keyring:
        await keyring.keys(ANNA)
        await asyncio.sleep(10.0 * RENEWED_AFTER[0] - 0.1)
        await keyring.keys(ANNA)
        assert len(function.asked) == 1
        await asyncio.sleep(10.0)
        assert list(keyring._held) == []  # pyright: ignore[reportPrivateUsage]
        await keyring.keys(ANNA)
    assert len(function.asked) == 2


@in_virtual_time
async def test_keys_in_use_are_renewed_before_anybody_has_to_wait(function: Function) -> None:
    function.seconds = 2.0
    loop = asyncio.get_running_loop()
    async with keyring_of() as keyring:
        await keyring.keys(ANNA)
        function.version = 2
        await asyncio.sleep(CACHE_SECONDS * RENEWED_AFTER[1])
        begun = loop.time()
        assert [(await keyring.keys(ANNA)).version for _ in range(5)] == [1] * 5
        assert loop.time() == begun
        await asyncio.sleep(3.0)
        assert (await keyring.keys(ANNA)).version == 2
    assert len(function.asked) == 2


@in_virtual_time
async def test_a_renewal_that_fails_leaves_the_keys_their_time(function: Function) -> None:
    async with keyring_of() as keyring:
        await keyring.keys(ANNA)
        function.answer = httpx.Response(503)
        await asyncio.sleep(CACHE_SECONDS - 1.0)
        assert (await keyring.keys(ANNA)).version == 1
        await asyncio.sleep(1.0)
        with pytest.raises(Transient):
            await keyring.keys(ANNA)


@in_virtual_time
async def test_a_renewal_that_finds_them_revoked_forgets_them(function: Function) -> None:
    async with keyring_of() as keyring:
        await keyring.keys(ANNA)
        function.answer = httpx.Response(404, json={"code": "keys_missing", "message": "None."})
        await asyncio.sleep(CACHE_SECONDS * RENEWED_AFTER[1])
        await keyring.keys(ANNA)
        await asyncio.sleep(1.0)
        with pytest.raises(Refused, match="keys_missing"):
            await keyring.keys(ANNA)


@in_virtual_time
async def test_dropped_keys_are_asked_for_anew(function: Function) -> None:
    async with keyring_of() as keyring:
        await keyring.keys(ANNA)
        await keyring.keys(BERT)
        function.version = 2
        keyring.drop(ANNA, 1)
        assert (await keyring.keys(ANNA)).version == 2
        keyring.drop(ANNA, 1)  # said late, by one who worked with the old ones
        assert (await keyring.keys(ANNA)).version == 2
        assert (await keyring.keys(BERT)).version == 1
        assert len(function.asked) == 3
        keyring.drop(BERT)
        assert (await keyring.keys(BERT)).version == 2


@in_virtual_time
async def test_an_answer_under_way_when_keys_are_dropped_is_not_held(function: Function) -> None:
    function.seconds = 1.0
    async with keyring_of() as keyring:
        early = asyncio.create_task(keyring.keys(ANNA))
        await asyncio.sleep(0.5)
        function.version = 2
        keyring.drop(ANNA, 1)
        assert (await keyring.keys(ANNA)).version == 2
        assert (await early).version == 1
        assert (await keyring.keys(ANNA)).version == 2
    assert len(function.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (httpx.Response(404, json={"code": "keys_missing", "message": "None."}), Refused, "keys_missing: Store"),
        (httpx.Response(422, json={"code": "keys_unreadable", "message": "x"}), Refused, "keys_rejected: The stored"),
        (httpx.Response(429, json={"code": "rate_limited", "message": "Wait."}), Transient, "Wait"),
        (httpx.Response(500, json={"code": "not_configured", "message": "CREDENTIALS_KEYS"}), Transient, "CREDENTIALS"),
        (httpx.Response(404, json={"code": "NOT_FOUND", "message": "none"}), Transient, "supabase functions deploy"),
        (httpx.Response(503, json={"code": "BOOT_ERROR"}), Transient, "503"),
        (httpx.Response(502, text="<html>"), Transient, "502"),
        (httpx.ConnectError("refused"), Transient, "ConnectError"),
        (httpx.ReadTimeout("slow"), Transient, "ReadTimeout"),
        (httpx.Response(401, json={"code": 401, "message": "Invalid JWT"}), Broken, "SUPABASE_SERVICE_ROLE_KEY"),
        (httpx.Response(403, json={"code": "forbidden", "message": "No."}), Broken, "SUPABASE_SERVICE_ROLE_KEY"),
        (httpx.Response(400, json={"code": "invalid_request", "message": "mode"}), Broken, "mode"),
        (httpx.Response(200, text="<html>"), Broken, "without keys"),
        (httpx.Response(200, json={"apiKey": "k", "secret": SECRET}), Broken, "without keys"),
        (httpx.Response(200, json=[SECRET]), Broken, "without keys"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_failure_says_what_to_do_next_and_is_not_remembered(
    function: Function, answer: httpx.Response | Exception, error: type[Exception], said: str
) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with keyring_of() as keyring:
            function.answer = answer
            with pytest.raises(error, match=said) as raised:
                await keyring.keys(ANNA)
            shown = "".join(traceback.format_exception(raised.value))
            assert SECRET not in shown
            assert SERVICE_KEY not in shown
            function.answer = None
            assert (await keyring.keys(ANNA)).version == 1

    scenario()


@in_virtual_time
async def test_a_function_that_hangs_is_given_up(function: Function) -> None:
    function.seconds = 3600.0
    async with keyring_of() as keyring:
        with pytest.raises(Transient):
            await keyring.keys(ANNA)
        assert asyncio.get_running_loop().time() == CALL_SECONDS


@in_virtual_time
async def test_a_closed_keyring_waits_for_nothing(function: Function) -> None:
    function.seconds = 5.0
    async with keyring_of() as keyring:
        waiting = asyncio.create_task(keyring.keys(ANNA))
        await asyncio.sleep(1.0)
    assert asyncio.get_running_loop().time() == 1.0
    with pytest.raises(asyncio.CancelledError):
        await waiting


@in_virtual_time
async def test_keys_show_nothing_of_themselves(function: Function) -> None:
    async with keyring_of() as keyring:
        keys = await keyring.keys(ANNA)
        shown = f"{keys} {keys!r} {[keys]} {vars(keyring)}"
    assert SECRET not in shown
    assert keys.api_key not in shown
