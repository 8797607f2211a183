"""Each user sees their own positions come about, live, and nothing of anybody else's."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, User, Worker
from tests.end_to_end.screen import TABLES, Screen, screen_of, watching

# Of supabase-py's own making: it hands its parts settings that they have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")

OWNED = (
    "account_equity", "accounts", "exchange_accounts", "exchange_credentials", "execution_timeline", "key_access_log",
    "orders", "paper_balances", "pnl_snapshots", "position_actions", "position_events", "position_marks", "positions",
    "risk_limits", "risk_refusals", "signals", "trader_performance", "traders", "trades",
)  # fmt: skip
NOBODYS = ("system_state", "workers")
REFUSED = (401, 403, 404, 405)
GENERATED = ("seq", "is_paper_trade")
OWNERS_WRITE = {"name": "taken over", "max_open_positions": 1}
NOT_WRITABLE = "55000"  # by anybody: a view of several tables
# What has no row by trading alone.
REST_OF_ROWS = """
    with position as (select id, user_id from positions where user_id = %(user)s limit 1),
    mark as (insert into position_marks (position_id, user_id) select id, user_id from position),
    snapshot as (insert into pnl_snapshots (position_id, user_id) select id, user_id from position),
    action as (insert into position_actions (position_id, action) select id, 'hold' from position),
    equity as (insert into account_equity (user_id, mode) values (%(user)s, 'testnet')),
    key as (insert into exchange_accounts (user_id, mode) values (%(user)s, 'testnet')),
    access as (
      insert into key_access_log (user_id, exchange, mode, outcome) values (%(user)s, 'binance', 'testnet', 'ok')
    )
    insert into exchange_credentials (user_id, mode, api_key_ciphertext, secret_ciphertext)
    values (%(user)s, 'testnet', 'x', 'y') returning id
"""


def test_a_user_sees_each_state_in_order_and_nothing_of_another(project: Project, worker: Worker) -> None:
    alice, bob = project.sign_up(), project.sign_up()

    async def scenario() -> None:
        async with watching(project, alice) as of_alice, watching(project, bob) as of_bob:
            # The last ones show that whatever came of the first ones has arrived.
            for _ in range(2):
                of_his, of_hers = await asyncio.to_thread(
                    project.signals,
                    [{"user_id": user.id, "trader_id": user.trader_id, "symbol": "BTC/USDT"} for user in (bob, alice)],
                )
                await of_alice.until(partial(_is_open, of_alice, of_hers))
                await of_bob.until(partial(_is_open, of_bob, of_his))
            for user, screen in ((alice, of_alice), (bob, of_bob)):
                _check(screen, user)

    asyncio.run(scenario())


def _is_open(screen: Screen, signal: str) -> bool:
    return screen.statuses("positions", ("signal_id", signal))[-1:] == ["monitoring"] and screen.statuses(
        "signals", ("id", signal)
    )[-1:] == ["in_position"]


def _check(screen: Screen, user: User) -> None:
    assert {change["table"] for change in screen.changes} == set(TABLES)
    assert {change["record"]["user_id"] for change in screen.changes} == {user.id}
    positions = {
        change["record"]["id"]: change["record"] for change in screen.changes if change["table"] == "positions"
    }
    assert len(positions) == 2
    for position in positions.values():
        assert screen.statuses("positions", ("id", position["id"])) == ["created", "submitting", "open", "monitoring"]
        assert screen.statuses("orders", ("position_id", position["id"])) == ["created", "submitting", "filled"]
        assert screen.statuses("signals", ("id", position["signal_id"])) == ["ready", "executing", "in_position"]


@pytest.fixture(scope="module")
def alice(project: Project) -> User:
    """Somebody who signs up."""
    return project.sign_up()


@pytest.fixture(scope="module")
def bob(project: Project) -> User:
    """Somebody else."""
    return project.sign_up()


@pytest.fixture
def of_alice(project: Project, start_worker: StartWorker, alice: User) -> dict[str, list[dict[str, Any]]]:
    """All rows of Alice's, of which there are some in every table; nobody works on them any more."""
    if not project.rows("select id from positions where user_id = %s", alice.id):
        worker = start_worker()
        project.wait_for([project.signal(alice)])
        project.wait_for([project.signal(alice, "nonsense")], "rejected")
        assert worker.stop() == 0
        project.rows(REST_OF_ROWS, user=alice.id)
    rows = _rows_of(project, alice)
    assert all(rows.values())
    return rows


@pytest.mark.parametrize("who", ["bob", "anon"])
def test_another_reads_and_writes_nothing(
    project: Project, of_alice: dict[str, list[dict[str, Any]]], alice: User, bob: User, who: str
) -> None:
    token = {"bob": bob.token, "anon": project.env["SUPABASE_ANON_KEY"]}[who]
    got: list[object] = []
    for table, rows in of_alice.items():
        seen = project.request("GET", f"/rest/v1/{table}?select=*", token)
        assert seen.status_code == 200 or seen.status_code in REFUSED, table
        if seen.status_code == 200:
            got += [row for row in seen.json() if row["user_id"] != bob.id]
        assert who != "anon" or seen.status_code in REFUSED, table
        for answer in _attempts(project, table, rows[0], alice, bob, token):
            nothing = who == "bob" and answer.status_code == 200 and answer.json() == []
            assert nothing or _is_refused(answer), (table, answer.text)
    for table in NOBODYS:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            answer = project.request(method, f"/rest/v1/{table}", token, json={})
            assert answer.status_code in REFUSED, (table, method)
    assert got == []
    assert _rows_of(project, alice) == of_alice


def _is_refused(answer: httpx.Response) -> bool:
    return answer.status_code in REFUSED or answer.json()["code"] == NOT_WRITABLE


def _attempts(
    project: Project, table: str, row: dict[str, Any], alice: User, bob: User, token: str
) -> list[httpx.Response]:
    """Every way to write a row of Alice's, or one in her name."""
    hers = f"/rest/v1/{table}?user_id=eq.{alice.id}"
    tell = "return=representation"
    row = {name: value for name, value in row.items() if name not in GENERATED and type(value) is not int}
    bodies = [row, {"user_id": bob.id}, *({name: value} for name, value in OWNERS_WRITE.items() if name in row)]
    return [
        project.request("POST", f"/rest/v1/{table}", token, json=row),
        project.request("POST", f"/rest/v1/{table}", token, json={"user_id": alice.id}),
        project.request(
            "POST", f"/rest/v1/{table}", token, json=row, headers={"Prefer": "resolution=merge-duplicates"}
        ),
        project.request("PUT", hers, token, json=row),
        *(project.request("PATCH", hers, token, json=body, headers={"Prefer": tell}) for body in bodies),
        project.request("DELETE", hers, token, headers={"Prefer": tell}),
    ]


@pytest.mark.parametrize("who", ["bob", "anon"])
def test_another_calls_nothing_that_touches_them(
    project: Project, of_alice: dict[str, list[dict[str, Any]]], alice: User, bob: User, who: str
) -> None:
    token = {"bob": bob.token, "anon": project.env["SUPABASE_ANON_KEY"]}[who]
    own = {"pause_trading", "resume_trading"} if who == "bob" else set[str]()
    arguments = {"p_user_id": alice.id, "p_trader_id": alice.trader_id, "p_mode": "paper", "p_close_positions": True}
    functions = project.rows(
        "select proname::text as name, coalesce(proargnames, '{}') as arguments from pg_proc"
        " where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype"
    )
    assert len(functions) > 10
    for function in functions:
        if function["name"] not in own:
            body = {name: arguments.get(name) for name in function["arguments"]}
            answer = project.request("POST", f"/rest/v1/rpc/{function['name']}", token, json=body)
            assert answer.status_code in (401, 403), (function["name"], answer.text)
    asked = {"position_id": of_alice["positions"][0]["id"], "action": "close"}
    assert project.request("POST", "/rest/v1/position_actions", token, json=asked).status_code in (401, 403)
    assert _rows_of(project, alice) == of_alice


def test_private_topics_are_their_owners_alone(project: Project, alice: User, bob: User) -> None:
    project.control("realtime", {"timing": {"join_error_ms": 0}})
    topic = f"user:{alice.id}"

    async def scenario() -> None:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        overheard: asyncio.Queue[Any] = asyncio.Queue()
        async with (
            screen_of(project, alice) as hers,
            screen_of(project, bob) as his,
            screen_of(project) as nobodys,
            screen_of(project) as outside,
        ):
            assert await hers.join(topic, heard=heard.put_nowait) == "SUBSCRIBED"
            assert await hers.join("workers") == "CHANNEL_ERROR"
            for screen in (his, nobodys):
                assert await screen.join(topic) == "CHANNEL_ERROR"
                assert await screen.join("workers") == "CHANNEL_ERROR"
            # The public topic of that name is another, which nothing of hers is sent to.
            assert await outside.join(topic, private=False, heard=overheard.put_nowait) == "SUBSCRIBED"
            forged = {"topic": topic, "event": "pnl-update", "payload": {"forged": True}, "private": True}
            await asyncio.to_thread(
                project.request, "POST", "/realtime/v1/api/broadcast", bob.token, json={"messages": [forged]}
            )
            project.rows("""select realtime.send('{"genuine": true}', 'pnl-update', %s, true)::text""", topic)
            async with asyncio.timeout(10):
                assert "genuine" in (await heard.get())["payload"]
            await asyncio.to_thread(
                project.request,
                "POST",
                "/realtime/v1/api/broadcast",
                json={"messages": [{**forged, "payload": {"public": True}, "private": False}]},
            )
            async with asyncio.timeout(10):
                assert "public" in (await overheard.get())["payload"]
            assert heard.empty()

    asyncio.run(scenario())


def _rows_of(project: Project, user: User) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [
            row["row"]
            for row in project.rows(
                f"select to_jsonb(each) as row from {table} as each where user_id = %s order by to_jsonb(each)::text",
                user.id,
            )
        ]
        for table in OWNED
    }
