"""Broadcasts from clients, over HTTP and from SQL, on public and private topics."""

from __future__ import annotations

import json
import struct
import uuid
from typing import Any

import psycopg

from sandbox.postgres import Server
from tests.sandbox.realtime_server.client import ALICE, BOB, Client, Json, Sandbox, play, token

Db = psycopg.AsyncConnection[Any]
MINE = f"room:{ALICE}"


def config(private: bool = False, own: bool = False, ack: bool = False) -> Json:
    return {"presence": {"enabled": False}, "private": private, "broadcast": {"self": own, "ack": ack}}


async def joined(sandbox: Sandbox, name: str, version: str = "1.0.0", key: str | None = None, **more: bool) -> Client:
    client = await sandbox.connect(key, version)
    reply = await client.join(name, config(**more))
    assert reply["status"] == "ok", reply
    return client


async def say(client: Client, name: str, event: str, **payload: Any) -> None:
    await client.send(f"realtime:{name}", "broadcast", {"type": "broadcast", "event": event, "payload": payload}, "5")


async def post(sandbox: Sandbox, messages: object, key: str | None = None) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {key or token()}"}
    url = f"{sandbox.url}/realtime/v1/api/broadcast"
    async with sandbox.session.post(url, json={"messages": messages}, headers=headers) as answer:
        return answer.status, await answer.text()


def test_a_client_reaches_the_others_and_itself_only_on_request(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        sender = await joined(sandbox, "room", ack=True)
        echoing = await joined(sandbox, "room", own=True)
        await say(sender, "room", "first", n=1)
        assert await sender.expect("phx_reply") == {"status": "ok", "response": {}}
        assert await echoing.expect("broadcast") == {"type": "broadcast", "event": "first", "payload": {"n": 1}}
        await say(echoing, "room", "second")
        assert (await echoing.expect("broadcast"))["event"] == "second"
        assert (await sender.expect("broadcast"))["event"] == "second"

    play(database, scenario)


def test_sql_reaches_private_and_public_joins_apart_with_every_digit(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        private = await joined(sandbox, MINE, private=True)
        public = await joined(sandbox, MINE)
        await db.execute("""select realtime.send('{"n": 1.50, "id": "x"}', 'secret', %s, true)""", (MINE,))
        await db.execute("""select realtime.send('{"n": 2.50}', 'open', %s, false)""", (MINE,))
        frame = await private.raw()
        meta = json.loads(frame)["payload"]["meta"]["id"]
        assert frame == (
            '{"ref":null,"event":"broadcast","payload":{"event":"secret",'
            f'"meta":{{"id":"{uuid.UUID(meta)}"}},"payload":{{"n": 1.50, "id": "x"}},"type":"broadcast"}},'
            f'"topic":"realtime:{MINE}"}}'
        )
        told = await public.expect("broadcast")
        assert (told["event"], told["payload"]["id"]) == ("open", told["meta"]["id"])

    play(database, scenario)


def test_a_send_that_is_rolled_back_is_never_heard_and_a_thousand_arrive_in_order(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        client = await joined(sandbox, MINE, private=True)
        async with db.transaction(force_rollback=True):
            await db.execute("select realtime.send('{}', 'never', %s)", (MINE,))
        await db.execute(
            "select realtime.send(jsonb_build_object('n', n), 'e', %s) from generate_series(1, 1000) n", (MINE,)
        )
        numbers = [(await client.expect("broadcast"))["payload"]["n"] for _ in range(1000)]
        assert numbers == list(range(1, 1001))

    play(database, scenario)


def test_policies_decide_who_joins_and_who_speaks(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        stranger = await sandbox.connect(token(user=BOB))
        assert await stranger.join(MINE, config(private=True)) == {
            "status": "error",
            "response": {
                "reason": f"Unauthorized: You do not have permissions to read from this Channel topic: {MINE}"
            },
        }
        assert (await (await sandbox.connect(token("anon"))).join(MINE, config(private=True)))["status"] == "error"
        service = await joined(sandbox, MINE, key=token("service_role"), private=True)
        owner = await joined(sandbox, MINE, private=True, ack=True)
        await say(owner, MINE, "hello")
        await owner.expect("phx_reply")
        assert (await service.expect("broadcast"))["event"] == "hello"
        # A topic one may only listen to: what one says there is dropped without a word.
        listen = f"listen:{ALICE}"
        service = await joined(sandbox, listen, key=token("service_role"), private=True)
        listener = await joined(sandbox, listen, private=True, ack=True)
        await say(listener, listen, "dropped")
        await listener.send("phoenix", "heartbeat", {}, "hb", None)
        assert (await listener.receive())["ref"] == "hb"
        await say(service, listen, "allowed")
        assert (await listener.expect("broadcast"))["event"] == "allowed"

    play(database, scenario)


def test_a_new_token_without_the_right_to_read_ends_a_private_channel(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await joined(sandbox, MINE, private=True)
        await client.send(f"realtime:{MINE}", "access_token", {"access_token": token(user=BOB)}, None)
        message = (await client.expect("system"))["message"]
        assert message == f"You do not have permissions to read from this Channel topic: {MINE}"
        await client.expect("phx_close")

    play(database, scenario)


def test_http_is_accepted_and_what_the_policies_forbid_is_dropped(database: Server) -> None:
    async def scenario(sandbox: Sandbox, _db: Db) -> None:
        client = await joined(sandbox, MINE, private=True)
        forbidden: Json = {"topic": MINE, "event": "forged", "payload": {}, "private": True}
        assert await post(sandbox, [forbidden], token(user=BOB)) == (202, "")
        allowed = forbidden | {"event": "mine", "payload": {"n": 1}}
        assert await post(sandbox, [allowed]) == (202, "")
        assert await client.expect("broadcast") == {"event": "mine", "payload": {"n": 1}, "type": "broadcast"}
        status, body = await post(sandbox, [{"event": "x"}])
        assert (status, json.loads(body)) == (
            422,
            {"errors": {"messages": [{"payload": ["can't be blank"], "topic": ["can't be blank"]}]}},
        )
        assert (await post(sandbox, [allowed], "garbage"))[0] == 401

    play(database, scenario)


def test_version_two_carries_broadcasts_as_binary(database: Server) -> None:
    async def scenario(sandbox: Sandbox, db: Db) -> None:
        name = "bin"
        first, second = await joined(sandbox, name, "2.0.0"), await joined(sandbox, name, "2.0.0")
        old = await joined(sandbox, name)
        topic, event, body = b"realtime:bin", "é".encode(), b'{"n":1.50}'
        push = struct.pack(">7B", 3, 1, 1, len(topic), len(event), 0, 1) + b"12" + topic + event + body
        await first.websocket.send_bytes(push)
        received = await second.websocket.receive_bytes(timeout=10)
        assert received == struct.pack(">5B", 4, len(topic), len(event), 0, 1) + topic + event + body
        assert '"payload":{"n":1.50}' in await old.raw()
        await db.execute("""select realtime.send('{"id": "i"}', 'sql', 'bin', false)""")
        received = await second.websocket.receive_bytes(timeout=10)
        assert received[:3] == bytes((4, len(topic), 3))
        assert received.endswith(b'{"id": "i"}')
        # What a client of version 1 says stays text for everybody.
        await say(old, name, "text")
        assert (await second.expect("broadcast"))["event"] == "text"

    play(database, scenario)
