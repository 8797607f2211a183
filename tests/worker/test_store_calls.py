"""How the database is asked: what is repeated, what waits for nothing, and what one odd row may not do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import aiohttp
import httpx
import pytest
from aiohttp import web

from streams.domain.account import Account
from streams.domain.errors import Broken, Dismissed, Refused, Transient
from streams.domain.order import OrderReport
from tests.domain import specimens
from tests.streams.virtual_loop import in_virtual_time
from tests.worker.rest import LEASE_SECONDS, NOTHING, REGISTERED, Project, attempt, registered
from worker.adapters.supabase_store import SupabaseStore, connect_store
from worker.adapters.supabase_store.session import CONNECTIONS
from worker.adapters.supabase_store.store import TRIES

ANNA = Account(specimens.ANNA, "paper")
ALIVE: dict[str, Any] = {
    "alive": True,
    "accounts": [{"user_id": str(specimens.ANNA), "mode": "paper"}],
    "surplus": 2,
    "heartbeat_ms": REGISTERED["heartbeat_ms"] + 2500,
}
OVERLOADED = httpx.Response(503, content=b"upstream connect error")
PASSING = [
    OVERLOADED,
    httpx.Response(429, content=b"slow down"),
    aiohttp.ClientConnectionError("refused"),
    aiohttp.ServerDisconnectedError(),
    TimeoutError(),
]


Failure = httpx.Response | Exception


def now() -> float:
    """Seconds of the loop."""
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a_heartbeat_says_what_is_held(project: Project) -> None:
    project.answers["worker_heartbeat"] = ALIVE
    store = await registered()
    pulse = await store.heartbeat()
    assert (pulse.alive, pulse.accounts, pulse.surplus) == (True, {ANNA}, 2)
    await store.close()


@in_virtual_time
async def test_the_lease_reaches_from_the_last_heartbeat_that_the_database_took(project: Project) -> None:
    store = await registered()
    assert store.lease_ends_ms() == REGISTERED["heartbeat_ms"] + LEASE_SECONDS * 1000
    project.answers["worker_heartbeat"] = ALIVE
    await store.heartbeat()
    assert store.lease_ends_ms() == ALIVE["heartbeat_ms"] + LEASE_SECONDS * 1000
    project.answers["worker_heartbeat"] = {"alive": False, "accounts": [], "surplus": 0, "heartbeat_ms": None}
    await store.heartbeat()
    assert store.lease_ends_ms() == ALIVE["heartbeat_ms"] + LEASE_SECONDS * 1000
    await store.close()


@pytest.mark.parametrize("seconds", [LEASE_SECONDS / 4 + 0.1, 60.0])
@in_virtual_time
async def test_a_heartbeat_is_given_up_by_a_quarter_of_the_lease(project: Project, seconds: float) -> None:
    project.answers["worker_heartbeat"] = ALIVE
    project.seconds["worker_heartbeat"] = seconds
    store = await registered()
    with pytest.raises(Transient):
        await store.heartbeat()
    assert now() == LEASE_SECONDS / 4
    await store.close()


@pytest.mark.parametrize("failure", PASSING)
@in_virtual_time
async def test_a_heartbeat_is_asked_once(project: Project, failure: Failure) -> None:
    project.answers["worker_heartbeat"] = failure
    store = await registered()
    with pytest.raises(Transient):
        await store.heartbeat()
    assert len(project.questions("worker_heartbeat")) == 1
    await store.close()


@in_virtual_time
async def test_a_heartbeat_waits_for_no_other_call(project: Project) -> None:
    project.answers.update(worker_heartbeat=ALIVE, claim_signals=NOTHING)
    project.seconds["claim_signals"] = 60.0
    store = await registered()
    others = [asyncio.create_task(store.claim(None)) for _ in range(3 * CONNECTIONS)]
    await asyncio.sleep(1)
    assert len(project.questions("claim_signals")) == CONNECTIONS
    assert (await store.heartbeat()).alive
    assert now() == 1
    await asyncio.gather(*others)
    await store.close()


def test_a_heartbeat_has_a_connection_of_its_own() -> None:
    asyncio.run(_beat_beside_calls_that_hang())


async def _beat_beside_calls_that_hang() -> None:
    hanging, crowded, over = [0], asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("claim_signals"):
            hanging[0] += 1
            if hanging[0] == CONNECTIONS:
                crowded.set()
            await over.wait()
            return web.json_response(NOTHING)
        return web.json_response(ALIVE)

    server = web.Application()
    server.router.add_post("/rest/v1/rpc/{function}", answer)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    store = await connect_store(f"http://{host}:{port}", "key", LEASE_SECONDS, ["paper"], 120.0)
    try:
        await store.register(UUID(int=0xF))
        others = [asyncio.create_task(store.claim(None)) for _ in range(3 * CONNECTIONS)]
        await crowded.wait()
        assert (await store.heartbeat()).alive
        over.set()
        await asyncio.gather(*others)
    finally:
        over.set()
        await store.close()
        await runner.cleanup()


@pytest.mark.parametrize("failure", PASSING)
@in_virtual_time
async def test_a_failed_try_is_counted_once_whatever_becomes_of_the_answer(project: Project, failure: Failure) -> None:
    project.answers["record_failed_try"] = failure
    store = await registered()
    with pytest.raises(Transient):
        await store.record_failed_try(UUID(int=1), "a bug")
    assert len(project.questions("record_failed_try")) == 1
    await store.close()


CALLS: dict[str, Callable[[SupabaseStore], Awaitable[object]]] = {
    "claim_signals": lambda store: store.claim(None),
    "signal_brief": lambda store: store.brief(UUID(int=1)),
    "refuse_signal": lambda store: store.refuse(UUID(int=1), Refused("unknown_symbol", "There is no such coin.")),
    "admit_signal": lambda store: store.admit(attempt()),
    "record_order": lambda store: store.record(UUID(int=1), OrderReport("submitted"), None, None),
    "unfinished_orders": lambda store: store.unfinished(),
    "open_positions": lambda store: store.open_positions(),
    "release_accounts": lambda store: store.release([ANNA]),
    "worker_retire": lambda store: store.retire(),
}


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize("failure", PASSING)
@in_virtual_time
async def test_any_other_call_is_repeated_word_by_word_after_what_passes(
    project: Project, function: str, failure: Failure
) -> None:
    project.answers[function] = failure
    store = await registered()
    with pytest.raises(Transient):
        await CALLS[function](store)
    questions = project.questions(function)
    assert len(questions) == TRIES
    assert questions == [questions[0]] * TRIES
    assert 0 < now() < LEASE_SECONDS / 2
    await store.close()


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize(
    ("code", "kind"), [("FSD01", Dismissed), ("FSD02", Dismissed), ("FSD03", Broken), ("22P02", Broken)]
)
@in_virtual_time
async def test_what_does_not_pass_is_not_repeated(
    project: Project, function: str, code: str, kind: type[Exception]
) -> None:
    told = {"code": code, "message": "said the database", "hint": None, "details": None}
    project.answers[function] = httpx.Response(400, json=told)
    store = await registered()
    with pytest.raises(kind):
        await CALLS[function](store)
    assert len(project.questions(function)) == 1
    await store.close()


@in_virtual_time
async def test_no_call_is_waited_for_beyond_the_lease(project: Project) -> None:
    project.answers.update(worker_heartbeat=ALIVE, claim_signals=NOTHING)
    store = await registered()
    await store.claim(None)
    assert all(timeout.total == LEASE_SECONDS / 2 for timeout in project.timeouts)
    await store.close()


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, content=b"<html>Not Found</html>"),
        httpx.Response(404, json={"message": "no Route matched with those values"}),
        httpx.Response(200, content=b"<html>Welcome</html>"),
        httpx.Response(200, json=[]),
    ],
)
@in_virtual_time
async def test_what_is_no_project_names_the_setting(project: Project, answer: httpx.Response) -> None:
    project.answers["worker_register"] = answer
    with pytest.raises(Broken, match="SUPABASE_URL"):
        await registered()
