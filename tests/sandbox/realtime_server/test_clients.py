"""The unmodified clients that users have: PyPI's `realtime` and npm's supabase-js."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from realtime import AsyncRealtimeClient
from realtime.types import RealtimePostgresChangesListenEvent

from sandbox.postgres import Server
from tests.sandbox.realtime_server.client import ALICE, BOB, Sandbox, play, token

Db = psycopg.AsyncConnection[Any]

SCRIPT = """
const { createClient } = require('@supabase/supabase-js')
const [url, key, user] = process.argv.slice(2)
const supabase = createClient(url, key, { realtime: { transport: require('ws') } })
const say = (what, value) => console.log(JSON.stringify({ what, value }))
supabase.realtime.setAuth(key)
const room = supabase.channel('room:' + user, { config: { private: true, broadcast: { self: true, ack: true } } })
  .on('broadcast', { event: '*' }, (message) => say('broadcast', { event: message.event, payload: message.payload }))
  .on('presence', { event: 'sync' }, () => say('presence', room.presenceState()))
  .subscribe(async (status, error) => {
    if (status !== 'SUBSCRIBED') return say('room ' + status, String(error))
    say('sent', await room.send({ type: 'broadcast', event: 'own', payload: { n: 1 } }))
    await room.httpSend('http', { n: 2 })
    say('room', status)
  })
supabase.channel('notes')
  .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'notes', filter: 'rank=gt.1' },
    (change) => say('row', { type: change.eventType, rank: change.new.rank, errors: change.errors }))
  .on('system', {}, (message) => say('system', message.message))
  .subscribe((status, error) => { if (status !== 'SUBSCRIBED') say('notes ' + status, String(error)) })
process.stdin.resume()
process.stdin.on('end', async () => { await supabase.removeAllChannels(); process.exit(0) })
"""


def test_the_python_client_hears_rows_and_broadcasts(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

        def put(what: str) -> Callable[[Any], None]:
            return lambda value: heard.put_nowait((what, value))

        client = AsyncRealtimeClient(f"{sandbox.url}/realtime/v1", token(), auto_reconnect=False)
        await client.connect()
        try:
            rows = client.channel("notes")
            rows.on_postgres_changes(
                RealtimePostgresChangesListenEvent.Insert, put("row"), "notes", "public", "rank=eq.5"
            ).on_system(put("system"))
            await rows.subscribe()
            what, system = await heard.get()
            assert (what, system.message) == ("system", "Subscribed to PostgreSQL")
            await db.execute("insert into notes (user_id, rank) values (%s, 4), (%s, 5)", (ALICE, ALICE))
            what, change = await heard.get()
            assert (what, change["data"]["record"]["rank"]) == ("row", 5)
            room = client.channel(f"room:{ALICE}", {"config": {"private": True, "broadcast": {"self": True}}})  # pyright: ignore[reportArgumentType]
            room.on_broadcast("sql", put("sql")).on_broadcast("own", put("own"))
            await room.subscribe()
            await db.execute("""select realtime.send('{"n": 1}', 'sql', %s)""", (f"room:{ALICE}",))
            what, message = await heard.get()
            assert (what, message["payload"]["n"]) == ("sql", 1)
            await room.send_broadcast("own", {"n": 2})
            assert await heard.get() == ("own", {"event": "own", "payload": {"n": 2}})
        finally:
            await client.close()

    play(database, scenario)


def test_the_python_client_is_refused_on_a_topic_of_another_user(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        states: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        client = AsyncRealtimeClient(f"{sandbox.url}/realtime/v1", token(), auto_reconnect=False)
        await client.connect()
        try:
            room = client.channel(f"room:{BOB}", {"config": {"private": True}})  # pyright: ignore[reportArgumentType]
            await room.subscribe(lambda state, error: states.put_nowait((state.value, str(error))))
            state, error = await states.get()
            assert state == "CHANNEL_ERROR"
            assert "Unauthorized: You do not have permissions to read from this Channel topic" in error
        finally:
            await client.close()

    play(database, scenario)


# The client reads attributes that its websocket library has deprecated; as an error that would end its reader.
@pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")
def test_the_python_client_joins_again_after_a_cut_line(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        states: asyncio.Queue[str] = asyncio.Queue()
        client = AsyncRealtimeClient(f"{sandbox.url}/realtime/v1", token(), initial_backoff=0.01)
        await client.connect()
        try:
            public = client.channel("public")
            await public.subscribe(lambda state, _error: states.put_nowait(state.value))
            assert await states.get() == "SUBSCRIBED"
            sandbox.realtime.control({"broadcast": {"drop": True}})
            assert [await states.get() for _ in range(2)] == ["CHANNEL_ERROR", "SUBSCRIBED"]
        finally:
            await client.close()

    play(database, scenario)


@pytest.fixture(scope="session")
def node_project(supabase_js: Path) -> Path:
    """A directory with the script and what it needs."""
    (supabase_js / "client.js").write_text(SCRIPT)
    return supabase_js


@asynccontextmanager
async def javascript(
    project: Path, *arguments: str
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamReader]]:
    """Run the script and give its output and errors; it ends when its input does."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", "client.js", *arguments, cwd=project, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process.stdout, process.stderr
        process.stdin.close()
        async with asyncio.timeout(10):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_the_javascript_client_hears_rows_and_broadcasts(database: Server, node_project: Path) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        async with javascript(node_project, sandbox.url, token(), ALICE) as (output, errors):
            told: dict[str, Any] = {}

            async def until(*wanted: str) -> None:
                while not told.keys() >= set(wanted):
                    line = await output.readline()
                    assert line, (told, await errors.read())
                    message = json.loads(line)
                    name = message["what"]
                    if name == "broadcast":
                        name = message["value"]["event"]
                    told[name] = message["value"]

            await until("room", "presence", "system", "sent", "own", "http")
            assert told["system"] == "Subscribed to PostgreSQL"
            assert told["sent"] == "ok"
            assert told["own"]["payload"] == {"n": 1}
            assert told["http"]["payload"] == {"n": 2}
            await db.execute("insert into notes (user_id, rank) values (%s, 2), (%s, 1)", (ALICE, ALICE))
            await db.execute("""select realtime.send('{"n": 3, "id": "i"}', 'sql', %s)""", (f"room:{ALICE}",))
            await until("row", "sql")
            assert told["row"] == {"type": "INSERT", "rank": 2, "errors": None}
            assert told["sql"]["payload"] == {"n": 3, "id": "i"}

    play(database, scenario)
