"""The faults that can be switched on, and outages of the database."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import aiohttp
import psycopg
import pytest

from sandbox.postgres import Server
from sandbox.realtime import Realtime
from sandbox.realtime_timing import Timing
from sandbox.replication import ReplicationError
from tests.sandbox.realtime_server.client import ALICE, SECRET, Client, Sandbox, changes, of, play, token

Db = psycopg.AsyncConnection[Any]
QUIET: dict[str, Any] = {"presence": {"enabled": False}}


async def note(db: Db, rank: int) -> None:
    await db.execute("insert into notes (user_id, rank) values (%s, %s)", (ALICE, rank))


async def ranks(client: Client, count: int) -> list[int]:
    return [(await client.change())["record"]["rank"] for _ in range(count)]


def test_row_changes_can_be_lost_doubled_and_delayed(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT"))
        sandbox.realtime.control({"postgres_changes": {"lose": 2, "duplicate": 1}})
        for rank in (1, 2, 3, 4):
            await note(db, rank)
        assert await ranks(client, 3) == [3, 3, 4]
        state = sandbox.realtime.control({"postgres_changes": {"delay_ms": 200}})
        assert state["postgres_changes"] == {
            "lose": 0,
            "duplicate": 0,
            "delay_ms": 200,
            "refuse_joins": False,
            "off": False,
        }
        await note(db, 5)
        committed = time.monotonic()
        assert await ranks(client, 1) == [5]
        assert time.monotonic() - committed > 0.15

    play(database, scenario)


def test_broadcasts_have_faults_of_their_own(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.join("room", QUIET)
        sandbox.realtime.control({"broadcast": {"lose": 1, "duplicate": 1}})
        for n in (1, 2, 3):
            await db.execute("select realtime.send(jsonb_build_object('n', %s::int), 'e', 'room', false)", (n,))
        assert [(await client.expect("broadcast"))["payload"]["n"] for _ in range(3)] == [2, 2, 3]

    play(database, scenario)


def test_one_path_can_be_switched_off_while_the_other_lives(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        rows, room = await sandbox.connect(), await sandbox.connect()
        await rows.subscribe("notes", of("notes"))
        await room.join("room", QUIET)
        sandbox.realtime.control({"postgres_changes": {"off": True}})
        assert (await rows.websocket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSED
        reply = await (await sandbox.connect()).join("again", changes(of("notes")))
        assert reply["response"] == {"reason": "RealtimeDisabledForTenant: Realtime disabled for this tenant"}
        await db.execute("select realtime.send('{}', 'e', 'room', false)")
        await room.expect("broadcast")
        sandbox.realtime.control({"broadcast": {"off": True}})
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await sandbox.connect()
        sandbox.realtime.control({"broadcast": {"off": False}, "postgres_changes": {"off": False}})
        await (await sandbox.connect()).subscribe("back", of("notes"))

    play(database, scenario)


def test_sockets_are_cut_and_joins_refused_on_request(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        rows, room = await sandbox.connect(), await sandbox.connect()
        await rows.subscribe("notes", of("notes"))
        await room.join("room", QUIET)
        sandbox.realtime.control({"broadcast": {"drop": True}, "postgres_changes": {"refuse_joins": True}})
        assert (await room.websocket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSED
        assert (await rows.join("more", changes(of("notes")), "2"))["status"] == "error"
        assert (await rows.join("other", QUIET, "3"))["status"] == "ok"

    play(database, scenario)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"brodcast": {}}, "brodcast: unknown; use broadcast, postgres_changes or timing"),
        ({"broadcast": 1}, "broadcast: give an object of settings"),
        ({"broadcast": {"loose": 1}}, "broadcast.loose: unknown; use drop, lose, duplicate, delay_ms, "),
        ({"broadcast": {"lose": -1}}, "broadcast.lose: give a count of messages, 0 or more"),
        ({"broadcast": {"lose": True}}, "broadcast.lose: give a count of messages, 0 or more"),
        ({"postgres_changes": {"off": 1}}, "postgres_changes.off: give true or false"),
        ({"postgres_changes": {"delay_ms": "1"}}, "postgres_changes.delay_ms: give milliseconds from 0 to"),
        ({"timing": {"poll": 1}}, "timing.poll: unknown; use poll_ms, "),
        ({"timing": {"resubscribe_ms": 5}}, "timing.resubscribe_ms: give the least and the most"),
    ],
)
def test_a_wrong_setting_changes_nothing_and_says_what_is_right(
    database: Server, settings: dict[str, object], text: str
) -> None:
    realtime = Realtime(database.superuser_dsn, SECRET)
    before = json.dumps(realtime.control({}))
    with pytest.raises(ValueError) as caught:
        realtime.control({"broadcast": {"lose": 5}} | settings)
    assert str(caught.value).startswith(text)
    assert json.dumps(realtime.control({})) == before


def test_rows_wait_for_the_next_look(database: Server) -> None:
    timing = Timing.immediate()
    timing.poll = 0.3

    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT"))
        await note(db, 1)
        await ranks(client, 1)
        seen = time.monotonic()
        await note(db, 2)
        await note(db, 3)
        await ranks(client, 2)
        assert 0.2 < time.monotonic() - seen < 0.6
        sandbox.realtime.control({"timing": {"poll_ms": 0}})
        await note(db, 4)
        assert await ranks(client, 1) == [4]

    play(database, scenario, timing)


async def heard_again(client: Client, db: Db) -> None:
    """Return once a row comes through; until the feed is back they are lost in silence."""
    for rank in range(500):
        await note(db, rank)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.change()
                return
    raise AssertionError("row changes never came back")


def test_a_lost_replication_connection_comes_back_without_a_word(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT"))
        async with await psycopg.AsyncConnection.connect(database.superuser_dsn, autocommit=True) as superuser:
            await superuser.execute("select pg_terminate_backend(pid) from pg_stat_replication")
            await superuser.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'realtime'"
            )
        await heard_again(client, db)

    play(database, scenario)


def test_a_restart_of_the_database_ends_nothing(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT"))
        await client.join("room", QUIET, "2")
        await db.close()
        database.stop()
        database.start()
        async with await psycopg.AsyncConnection[Any].connect(database.dsn, autocommit=True) as again:
            await heard_again(client, again)

    play(database, scenario)


def test_a_database_that_is_not_prepared_is_named(database: Server) -> None:
    async def scenario() -> None:
        with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
            connection.execute("create database bare")
        try:
            realtime = Realtime(database.superuser_dsn.replace("/postgres", "/bare"), SECRET)
            with pytest.raises(ReplicationError, match="there is no publication supabase_realtime: create it"):
                await realtime.start()
        finally:
            with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
                connection.execute("drop database bare with (force)")

    asyncio.run(scenario())


def test_a_client_of_the_service_role_hears_of_everything_again_after_a_fault(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect(token("service_role"))
        await client.subscribe("notes", of("notes", "INSERT"))
        sandbox.realtime.control({"postgres_changes": {"lose": 1}})
        await note(db, 1)
        await note(db, 2)
        assert await ranks(client, 1) == [2]

    play(database, scenario)
