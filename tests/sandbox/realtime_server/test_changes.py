"""Row changes: who hears of which, in which form and order."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sandbox.postgres import Server
from tests.sandbox.realtime_server.client import ALICE, BOB, Sandbox, changes, of, play, token

Db = psycopg.AsyncConnection[Any]


async def add_note(db: Db, user: str, body: str | None = None, rank: int | None = None) -> str:
    found = await db.execute(
        "insert into notes (user_id, body, rank) values (%s, %s, %s) returning id::text", (user, body, rank)
    )
    row = await found.fetchone()
    assert row is not None
    return row[0]


def test_a_frame_is_what_the_platform_sends_to_the_byte(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        (number,) = await client.subscribe("sig", of("notes", "INSERT", filter="body=eq.enter"))
        note = str(uuid.uuid4())
        await db.execute(
            "insert into notes (id, user_id, body, amount) values (%s, %s, 'enter', 12345678901234567890.1234567890)",
            (note, ALICE),
        )
        frame = await client.raw()
        head, _, rest = frame.partition('"commit_timestamp":"')
        assert head == (
            '{"ref":null,"event":"postgres_changes","payload":{"data":{"table":"notes","type":"INSERT",'
            f'"record":{{"id": "{note}", "body": "enter", "rank": null, '
            f'"amount": 12345678901234567890.1234567890, "user_id": "{ALICE}"}},'
            '"columns":[{"name": "id", "type": "uuid"}, {"name": "user_id", "type": "uuid"}, '
            '{"name": "body", "type": "text"}, {"name": "amount", "type": "numeric"}, '
            '{"name": "rank", "type": "int4"}],"errors":null,"schema":"public",'
        )
        stamp, _, tail = rest.partition('"')
        assert len(stamp) == len("2026-11-23T03:01:37.456Z")
        assert tail == f'}},"ids":[{number}]}},"topic":"realtime:sig"}}'

    play(database, scenario)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("i8", "9007199254740993", "9007199254740993"),
        ("n", "1.10", "1.10"),
        ("n", "1e-20", "0.00000000000000000001"),
        ("n", "NaN", "null"),
        ("f8", "1e-7", "0.0000001"),
        ("f8", "Infinity", "null"),
        ("b", "t", "true"),
        ("t", 'é"\n%s\\', '"é\\"\\n%s\\\\"'),
        ("c", "a", '"a"'),
        ("u", "AAAAAAAA-0000-0000-0000-000000000001", '"aaaaaaaa-0000-0000-0000-000000000001"'),
        ("ts", "2026-01-02 03:04:05.6", '"2026-01-02T03:04:05.6"'),
        ("tz", "2026-01-02 03:04:05.123456+02", '"2026-01-02T01:04:05.123456+00:00"'),
        ("tz", "infinity", '"infinity"'),
        ("tz", "0001-01-01 00:00:00+00 BC", '"0001-01-01T00:00:00+00:00 BC"'),
        ("d", "2026-01-02", '"2026-01-02"'),
        ("iv", "1 day 2 hours", '"1 day 02:00:00"'),
        ("j", '{"b":1,"a":[1.50]}', '{"a": [1.50], "b": 1}'),
        ("jb", '{"big":1.50,"n":null}', '{"n": null, "big": 1.50}'),
        ("jb", "null", "null"),
        ("by", "\\xdeadbeef", '"deadbeef"'),
        ("ta", '{a,"b,c",null,""}', '["a", "b,c", null, ""]'),
        ("ta", "{{a,b},{c,d}}", '[["a", "b"], ["c", "d"]]'),
        ("na", "{1.10,2}", "[1.10, 2]"),
        ("r", "[1,5)", '"[1,5)"'),
        ("ip", "10.0.0.1", '"10.0.0.1"'),
    ],
)
def test_values_have_the_platforms_format(database: Server, column: str, value: str, expected: str) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("formats", of("samples", select=[column]))
        await db.execute("delete from samples")
        statement = sql.SQL("insert into samples (id, {}) values (1, %s)")
        await db.execute(statement.format(sql.Identifier(column)), (value,))
        frame = await client.raw()
        while '"type":"DELETE"' in frame:
            frame = await client.raw()
        assert f'"{column}": {expected}' in frame

    play(database, scenario)


def test_each_user_hears_of_their_own_rows_and_the_service_role_of_all(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        alice, bob = await sandbox.connect(), await sandbox.connect(token(user=BOB))
        service, anon = await sandbox.connect(token("service_role")), await sandbox.connect(token("anon"))
        for client in (alice, bob, service, anon):
            await client.subscribe("notes", of("notes"))
        first, second = await add_note(db, ALICE), await add_note(db, BOB)
        assert (await alice.change())["record"]["id"] == first
        assert (await bob.change())["record"]["id"] == second
        assert [(await service.change())["record"]["id"] for _ in range(2)] == [first, second]
        # An update that gives the row away is the new owner's news alone.
        await db.execute("update notes set user_id = %s where id = %s", (BOB, first))
        moved = await bob.change()
        assert (moved["type"], moved["record"]["user_id"], moved["old_record"]) == ("UPDATE", BOB, {"id": first})
        assert (await service.change())["type"] == "UPDATE"
        # A deletion is told to everybody, by its key alone.
        await db.execute("delete from notes where id = %s", (first,))
        for client in (alice, bob, service, anon):
            gone = await client.change()
            assert (gone["type"], gone["old_record"], "record" in gone) == ("DELETE", {"id": first}, False)

    play(database, scenario)


def test_a_row_gone_before_the_look_was_never_there(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect(token("service_role"))
        await client.subscribe("notes", of("notes"))
        async with db.transaction():
            note = await add_note(db, ALICE)
            await db.execute("delete from notes where id = %s", (note,))
        assert (await client.change())["type"] == "DELETE"

    play(database, scenario)


@pytest.mark.parametrize(
    ("condition", "heard"),
    [
        ("body=eq.b", ["b"]),
        ("body=neq.b", ["a", "c", "d,e"]),
        ("rank=lt.2", ["a"]),
        ("rank=lte.2", ["a", "b"]),
        ("rank=gt.2", ["c", "d,e"]),
        ("rank=gte.3", ["c", "d,e"]),
        ("rank=in.(1,3)", ["a", "c"]),
        ("body=in.(b,c)", ["b", "c"]),
        ('body=in.(a,"d,e")', ["a", "d,e"]),
        ("rank=gt.1,body=neq.c", ["b", "d,e"]),
        ('body=eq."d,e"', ["d,e"]),
        ("body=not.eq.b", ["a", "c", "d,e"]),
        ("body=like.d%", ["d,e"]),
        ("body=is.null", [None]),
        ("", ["a", "b", "c", "d,e", None]),
    ],
)
def test_filters_choose_and_null_fails_them(database: Server, condition: str, heard: list[str | None]) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT", filter=condition), of("notes", "UPDATE"))
        for rank, body in enumerate(("a", "b", "c", "d,e"), 1):
            await add_note(db, ALICE, body, rank)
        last = await add_note(db, ALICE)
        await db.execute("update notes set rank = 0 where id = %s", (last,))
        got: list[str | None] = []
        while (data := await client.change())["type"] == "INSERT":
            got.append(data["record"]["body"])
        assert got == heard

    play(database, scenario)


def test_events_and_wildcards(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        updates, everything = await client.subscribe(
            "notes", of("notes", "update"), {"event": "*", "schema": "public", "table": "*"}
        )
        note = await add_note(db, ALICE)
        assert (await client.expect("postgres_changes"))["ids"] == [everything]
        await db.execute("update notes set rank = 1 where id = %s", (note,))
        assert sorted((await client.expect("postgres_changes"))["ids"]) == sorted([updates, everything])
        await db.execute("insert into whole values (1, 'a', 'b') on conflict (id) do update set a = 'a'")
        assert (await client.change())["table"] == "whole"

    play(database, scenario)


def test_commit_order_is_kept_and_a_thousand_rows_are_fast(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        clients = [await sandbox.connect(), await sandbox.connect(token("service_role"))]
        for client in clients:
            await client.subscribe("notes", of("notes", "INSERT"))
        await db.execute("insert into notes (user_id, rank) select %s, n from generate_series(1, 1000) n", (ALICE,))
        committed = time.monotonic()
        for client in clients:
            assert [(await client.change())["record"]["rank"] for _ in range(1000)] == list(range(1, 1001))
        assert time.monotonic() - committed < 1.5

    play(database, scenario)


def test_a_row_that_is_flushed_but_not_yet_visible_is_waited_for(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("notes", of("notes", "INSERT"))
        for rank in range(300):
            await add_note(db, ALICE, rank=rank)
            assert (await client.change())["record"]["rank"] == rank

    play(database, scenario)


def test_old_rows_are_whole_only_with_full_identity_and_no_row_security(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        await client.subscribe("whole", of("whole", filter="b=eq.old"))
        await db.execute("truncate whole")
        await db.execute("insert into whole values (1, 'a', 'old')")
        assert (await client.change())["record"] == {"id": 1, "a": "a", "b": "old"}
        await db.execute("update whole set a = 'z'")
        assert (await client.change())["old_record"] == {"id": 1, "a": "a", "b": "old"}
        await db.execute("delete from whole")
        assert (await client.change())["old_record"] == {"id": 1, "a": "z", "b": "old"}
        await db.execute("alter table whole enable row level security")
        try:
            await db.execute("insert into whole values (2, 'a', 'old')")
            await db.execute("delete from whole")
            assert (await client.change())["old_record"] == {"id": 2}
        finally:
            await db.execute("alter table whole disable row level security")

    play(database, scenario)


def test_unreadable_columns_are_left_out_and_a_grant_counts_at_once(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        user, anon = await sandbox.connect(), await sandbox.connect(token("anon"))
        await user.subscribe("partly", of("partly", "INSERT"))
        await anon.subscribe("partly", of("partly", "INSERT"))
        await db.execute("delete from partly")
        await db.execute("insert into partly values (1, 'seen', 'unseen')")
        data = await user.change()
        assert data["record"] == {"id": 1, "shown": "seen"}
        assert [column["name"] for column in data["columns"]] == ["id", "shown"]
        assert await anon.change() == {
            "table": "partly",
            "type": "INSERT",
            "record": {},
            "columns": [],
            "errors": ["Error 401: Unauthorized"],
            "schema": "public",
            "commit_timestamp": None,
        }
        await db.execute("grant select on partly to anon")
        try:
            await db.execute("insert into partly values (2, 'seen', 'all')")
            assert (await anon.change())["record"] == {"id": 2, "shown": "seen", "hidden": "all"}
        finally:
            await db.execute("revoke select on partly from anon")

    play(database, scenario)


def test_a_table_without_a_key_and_a_row_too_large(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect(token("service_role"))
        await client.subscribe("all", of("keyless"), of("notes", "INSERT"))
        await db.execute("insert into keyless values (1)")
        assert (await client.change())["errors"] == ["Error 400: Bad Request, no primary key"]
        await db.execute("insert into notes (user_id, body, rank) values (%s, repeat('x', 1100000), 7)", (ALICE,))
        data = await client.change()
        assert data["errors"] == ["Error 413: Payload Too Large"]
        assert data["record"].keys() == {"id", "user_id", "rank"}

    play(database, scenario)


def test_an_unchanged_long_value_is_absent(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        await db.execute("alter table notes alter body set storage external")
        client = await sandbox.connect(token("service_role"))
        await client.subscribe("notes", of("notes", "UPDATE"))
        note = await add_note(db, ALICE, "x" * 20_000)
        await db.execute("update notes set rank = 1 where id = %s", (note,))
        assert "body" not in (await client.change())["record"]

    play(database, scenario)


@pytest.mark.parametrize(
    ("binding", "text"),
    [
        (
            of("unpublished", "INSERT"),
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the "
            "given connect parameters: [event: INSERT, schema: public, table: unpublished, filters: [], "
            "select: nil]",
        ),
        (
            of("notes", "INSERT", filter="nosuch=eq.1"),
            "Unable to subscribe to changes with given parameters. An exception happened so please check your "
            'connect parameters: [event: INSERT, schema: public, table: notes, filters: [{"nosuch", "eq", "1", '
            "false}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid column for filter nosuch",
        ),
        (
            of("notes", filter="amount=gt.abc"),
            "Unable to subscribe to changes with given parameters. An exception happened so please check your "
            'connect parameters: [event: *, schema: public, table: notes, filters: [{"amount", "gt", "abc", '
            "false}], select: nil]. Exception: ERROR 22P02 (invalid_text_representation) invalid input syntax "
            'for type numeric: "abc"',
        ),
        (of("notes", filter="body=foo.1"), 'Error parsing `filter` params: ["foo", "1"]'),
        (of("notes", filter="hey"), 'Error parsing `filter` params: ["hey"]'),
        (
            of("notes", filter="body=in.a,b"),
            "Error parsing `filter` params: `in` filter value must be wrapped by parentheses",
        ),
        (
            {"event": "INSERT"},
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
            '%{"event" => "INSERT"}',
        ),
    ],
)
def test_a_bad_binding_is_joined_told_and_stops_its_whole_channel(
    database: Server, binding: dict[str, Any], text: str
) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await sandbox.connect()
        reply = await client.join("bad", changes(of("notes"), binding))
        assert reply["status"] == "ok"
        assert len(reply["response"]["postgres_changes"]) == 2
        assert await client.expect("system") == {
            "message": text,
            "status": "error",
            "extension": "postgres_changes",
            "channel": "bad",
        }
        await client.subscribe("good", of("notes"), ref="2")
        note = await add_note(db, ALICE)
        frame = await client.receive()
        assert (frame["topic"], frame["payload"]["data"]["record"]["id"]) == ("realtime:good", note)

    play(database, scenario)


def test_a_role_that_does_not_exist_is_told_so(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await sandbox.connect(token("nobody-at-all"))
        assert (await client.join("x", changes(of("notes"))))["status"] == "ok"
        message = (await client.expect("system"))["message"]
        assert message.endswith('ERROR 42704 (undefined_object) role "nobody-at-all" does not exist')

    play(database, scenario)


def test_a_filter_on_an_array_stops_everybody_on_that_table(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        careless, other = await sandbox.connect(), await sandbox.connect()
        await other.subscribe("other", of("tagged", "INSERT"), of("whole", "INSERT"))
        await careless.subscribe("careless", of("tagged", filter="tags=eq.{a}"))
        await db.execute("truncate tagged, whole")
        await db.execute("insert into tagged values (1)")
        for number in range(100):
            await db.execute("insert into whole values (%s)", (number,))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    # What was committed first would have come first.
                    assert (await other.change())["table"] == "whole"
                    return
        raise AssertionError("nothing arrived at all")

    play(database, scenario)


def test_a_policy_that_fails_for_one_user_silences_that_user_alone(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        alice, bob = await sandbox.connect(), await sandbox.connect(token(user=BOB))
        for client in (alice, bob):
            await client.subscribe("fragile", of("fragile"))
        await db.execute("delete from fragile")
        await db.execute("insert into fragile values (1)")
        assert (await alice.change())["record"] == {"id": 1}
        await db.execute("delete from fragile")
        assert (await bob.change())["type"] == "DELETE"

    play(database, scenario)


def test_users_of_one_poll_are_looked_up_together(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        users = [str(uuid.uuid4()) for _ in range(20)]
        clients = [await sandbox.connect(token(user=user)) for user in users]
        for client in clients:
            await client.subscribe("notes", of("notes", "INSERT"))
        await db.execute("insert into notes (user_id, rank) select unnest(%s::uuid[]), 1", (users,))
        records = await asyncio.gather(*(client.change() for client in clients))
        assert [data["record"]["user_id"] for data in records] == users

    play(database, scenario)
