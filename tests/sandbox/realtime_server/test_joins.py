"""Connecting, joining, leaving, and tokens that come and go."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import jwt
import psycopg
import pytest

from sandbox.postgres import Server
from sandbox.realtime_timing import Timing
from tests.sandbox.realtime_server.client import ALICE, BOB, Sandbox, changes, of, play, token

Db = psycopg.AsyncConnection[Any]
FORGED = jwt.encode({"role": "anon", "exp": time.time() + 86400}, "not the secret of the tests, but as long")
QUIET: dict[str, Any] = {"presence": {"enabled": False}}


@pytest.mark.parametrize(
    ("key", "status", "error"),
    [
        (None, 401, "API key is missing"),
        ("garbage", 401, "The token provided is not a valid JWT"),
        ("a.b.c", 401, "The token provided is not a valid JWT"),
        ("sb_secret_abc", 401, "The token provided is not a valid JWT"),
        (FORGED, 401, "Failed to validate JWT signature"),
        (token(seconds=-50), 401, "Token has expired"),
        (token(seconds=None), 401, "Fields `role` and `exp` are required in JWT"),
        (token(role=None), 401, "Fields `role` and `exp` are required in JWT"),
    ],
    ids=("none", "garbage", "dotted", "secret-key", "forged", "expired", "no-exp", "no-role"),
)
def test_a_bad_key_is_refused_before_the_upgrade(database: Server, key: str | None, status: int, error: str) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        parameters = {"apikey": key} if key else {}
        async with sandbox.session.get(f"{sandbox.url}/realtime/v1/websocket", params=parameters) as answer:
            assert (answer.status, await answer.json()) == (status, {"error": error})

    play(database, scenario)


def test_an_unknown_version_is_refused_and_the_header_beats_the_query(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        url = f"{sandbox.url}/realtime/v1/websocket"
        async with sandbox.session.get(url, params={"apikey": token(), "vsn": "3.0.0"}) as answer:
            assert (answer.status, await answer.text()) == (403, "")
        async with sandbox.session.get(url, params={"apikey": token()}, headers={"x-api-key": "bad"}) as answer:
            assert answer.status == 401
        websocket = await sandbox.session.ws_connect(url, headers={"x-api-key": token()})
        await websocket.close()

    play(database, scenario)


def test_the_refusals_wait_as_the_platform_does(database: Server) -> None:
    timing = Timing.immediate()
    timing.handshake_error, timing.join_error = 0.2, 0.3

    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        began = time.monotonic()
        async with sandbox.session.get(f"{sandbox.url}/realtime/v1/websocket"):
            assert time.monotonic() - began >= 0.19
        client = await sandbox.connect()
        began = time.monotonic()
        assert (await client.join("", QUIET))["status"] == "error"
        assert time.monotonic() - began >= 0.29

    play(database, scenario, timing)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_a_join_lives_through_its_whole_life(database: Server, version: str) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect(version=version)
        await client.send("phoenix", "heartbeat", {}, None, None)
        assert await client.receive() == {"ref": None, "event": "phx_reply", "topic": "phoenix"} | {
            "payload": {"status": "ok", "response": {}}
        } | ({"join_ref": None} if version == "2.0.0" else {})
        binding = of("notes", "INSERT", filter="body=eq.a")
        reply = await client.join("sig", changes(binding), "7")
        (echo,) = reply["response"]["postgres_changes"]
        assert isinstance(echo.pop("id"), int)
        assert echo == binding
        system = await client.receive()
        assert (system["ref"], system.get("join_ref", "7")) == (None, "7")
        await client.send("realtime:sig", "no such event", {}, "8", "7")
        await client.send("realtime:sig", "phx_leave", {}, "9", "6")  # of a join that is over: no answer
        await client.send("realtime:sig", "phx_leave", {}, "10", "7")
        assert (await client.receive())["ref"] == "10"
        closed = await client.receive()
        assert (closed["event"], closed["ref"], closed["payload"]) == ("phx_close", "7", {})
        await client.send("realtime:sig", "phx_leave", {}, "11", "7")
        assert (await client.expect("phx_reply"))["status"] == "ok"

    play(database, scenario)


def test_frames_of_version_two_are_arrays_to_the_byte(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect(version="2.0.0")
        await client.send("realtime:v2", "phx_join", {"config": QUIET}, "1", "1")
        assert await client.raw() == (
            '["1","1","realtime:v2","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]'
        )
        await client.subscribe("ch", of("notes"), ref="2")
        await db.execute("insert into notes (user_id) values (%s)", (ALICE,))
        assert (await client.raw()).startswith('[null,null,"realtime:ch","postgres_changes",{"data":{"table":')
        await client.send("realtime:v2", "phx_leave", {}, "3", "1")
        assert await client.raw() == '["1","3","realtime:v2","phx_reply",{"status":"ok","response":{}}]'
        assert await client.raw() == '["1","1","realtime:v2","phx_close",{}]'

    play(database, scenario)


def test_a_second_join_replaces_the_first(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("dup", of("notes", "INSERT"), ref="1")
        reply = await client.join("dup", changes(of("notes", "INSERT")), "7")
        assert reply["status"] == "ok"
        closed = await client.receive()
        assert (closed["event"], closed["ref"]) == ("phx_close", "1")
        await client.expect("system")
        await db.execute("insert into notes (user_id, rank) values (%s, 1), (%s, 2)", (ALICE, ALICE))
        assert [(await client.change())["record"]["rank"] for _ in range(2)] == [1, 2]

    play(database, scenario)


def test_what_nobody_joined_is_unmatched_and_garbage_is_ignored(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        unmatched = {"status": "error", "response": {"reason": "unmatched topic"}}
        for garbage in ("{", "[]", '{"event":"phx_join"}', '{"topic":1,"event":"x","payload":{},"ref":"1"}'):
            await client.websocket.send_str(garbage)
        await client.websocket.send_bytes(b"\x03binary in version 1")
        await client.send("realtime:none", "broadcast", {"event": "x"}, "1")
        assert await client.expect("phx_reply") == unmatched
        await client.send("other:none", "phx_join", {}, "2")
        assert await client.expect("phx_reply") == unmatched
        assert (await client.join("odd", {"postgres_changes": "abc", "presence": {"enabled": False}}))["response"] == {
            "postgres_changes": []
        }

    play(database, scenario)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (token(seconds=-5000), "InvalidJWTToken: Token has expired 5"),
        (FORGED, "JwtSignatureError: Failed to validate JWT signature"),
        ("garbage", "MalformedJWT: The token provided is not a valid JWT"),
        (token(role=None), "InvalidJWTToken: Fields `role` and `exp` are required in JWT"),
    ],
    ids=("expired", "forged", "garbage", "no-role"),
)
def test_a_join_with_a_bad_token_is_refused_and_the_socket_stays(database: Server, key: str, reason: str) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        reply = await client.join("x", QUIET, access_token=key)
        assert reply["status"] == "error"
        assert reply["response"]["reason"].startswith(reason)
        for ignored in ("sb_publishable_x", ""):
            assert (await client.join("x", QUIET, access_token=ignored))["status"] == "ok"
            await client.send("realtime:x", "phx_leave", {}, "2")
            await client.expect("phx_reply")
            await client.expect("phx_close")

    play(database, scenario)


def test_a_token_that_runs_out_ends_the_channel_but_not_the_socket(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        key = token(seconds=1.9)
        assert (await client.join("x", QUIET, access_token=key))["status"] == "ok"
        assert await client.expect("system") == {
            "message": "Token has expired 0 seconds ago",
            "status": "error",
            "extension": "system",
            "channel": "x",
        }
        assert await client.expect("phx_close") == {}
        assert (await client.join("y", QUIET))["status"] == "ok"

    play(database, scenario)


def test_a_new_token_brings_a_new_identity(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT"))
        await client.send("realtime:notes", "access_token", {"access_token": token(user=BOB)}, None)
        assert (await client.expect("system"))["message"] == "Subscribed to PostgreSQL"
        await db.execute("insert into notes (user_id) values (%s), (%s)", (ALICE, BOB))
        assert (await client.change())["record"]["user_id"] == BOB
        await client.send("realtime:notes", "access_token", {"access_token": FORGED}, None)
        assert (await client.expect("system"))["message"] == ":signature_error"
        await client.expect("phx_close")

    play(database, scenario)


def test_presence_is_answered_where_it_is_asked_for(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        assert (await client.join("p", {"presence": {"enabled": True, "key": "me"}}))["status"] == "ok"
        assert await client.expect("presence_state") == {}
        await client.send("realtime:p", "presence", {"type": "presence", "event": "track", "payload": {}}, "2")
        assert (await client.expect("phx_reply"))["status"] == "ok"

    play(database, scenario)


def test_a_client_may_ask_to_be_told_that_sql_broadcasts_flow(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        await client.join("r", {"presence": {"enabled": False}, "broadcast": {"replication_ready": True}})
        assert (await client.expect("system"))["message"] == "Replication connection established"

    play(database, scenario)


def test_a_cold_server_subscribes_late(database: Server) -> None:
    timing = Timing.immediate()
    timing.cold, timing.subscribe_cold = True, (0.3, 0.4)

    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        assert (await client.join("x", changes(of("notes"))))["status"] == "ok"
        joined = time.monotonic()
        await client.expect("system")
        assert time.monotonic() - joined >= 0.29

    play(database, scenario, timing)


def test_stopping_closes_sockets_as_a_restart_does_and_leaves_no_slot(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes"))
        reading = asyncio.create_task(client.websocket.receive())
        await sandbox.realtime.stop()
        message = await reading
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)
        async with await psycopg.AsyncConnection.connect(database.superuser_dsn) as superuser:
            found = await superuser.execute("select slot_name from pg_replication_slots")
            assert await found.fetchall() == []

    play(database, scenario)
