"""Who may see a row and who may use a private topic, decided by the database's own policies."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Collection, Sequence
from typing import LiteralString, cast

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from sandbox.realtime_token import Identity
from sandbox.table_columns import Table

_WRAP = 2**32
_SETTLE_TRIES = 500

Key = tuple[str | None, ...]
"""The primary key's values in PostgreSQL's text form."""


async def visible(
    connection: AsyncConnection[TupleRow], table: Table, identity: Identity, keys: Sequence[Key]
) -> set[Key]:
    """Return which of these rows the identity sees now; a row that is gone is seen by nobody.

    Raises:
        psycopg.Error: a policy fails, or the role is unknown.
    """
    same = sql.SQL(" and ").join(
        sql.SQL("t.{} = (e.v ->> {})::{}").format(
            sql.Identifier(column.name), sql.Literal(index), sql.SQL(cast("LiteralString", column.cast))
        )
        for index, column in enumerate(table.key)
    )
    query = sql.SQL(
        "select e.n from jsonb_array_elements({}::jsonb) with ordinality as e(v, n) "
        "where exists (select from {} t where {})"
    ).format(sql.Literal(json.dumps(list(keys), ensure_ascii=False)), sql.Identifier(table.schema, table.name), same)
    async with connection.pipeline(), connection.transaction(force_rollback=True):
        await connection.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            (identity.role, identity.claims),
        )
        found = await connection.execute(query)
        rows = await found.fetchall()
    return {keys[row[0] - 1] for row in rows}


async def settled(connection: AsyncConnection[TupleRow], transactions: Collection[int]) -> None:
    """Return when queries see what these transactions did.

    The replication stream tells of a commit once it is flushed, a moment before it shows to others.
    """
    for _ in range(_SETTLE_TRIES):
        found = await connection.execute(
            "select pg_snapshot_xmax(s)::text, array(select pg_snapshot_xip(s)::text) from pg_current_snapshot() s"
        )
        row = await found.fetchone()
        assert row is not None
        first_unseen = int(row[0])
        running = {int(each) % _WRAP for each in row[1]}
        if all(each not in running and 0 < (first_unseen - each) % _WRAP < _WRAP // 2 for each in transactions):
            return
        await asyncio.sleep(0.001)


async def may_read_topic(connection: AsyncConnection[TupleRow], topic: str, identity: Identity) -> bool:
    """Whether the identity may join a private topic: could it select a broadcast of it?

    A message is inserted, looked for in the identity's role, and rolled back.
    """
    probe = uuid.uuid4()
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(
                "insert into realtime.messages (id, topic, extension) values (%s, %s, 'broadcast')",
                (probe, topic),
            )
            await _become(connection, topic, identity)
            found = await connection.execute("select from realtime.messages where id = %s", (probe,))
            return await found.fetchone() is not None
    except psycopg.OperationalError:
        raise
    except psycopg.Error:  # no such role, no right to the table, a policy that fails
        return False


async def may_write_topic(connection: AsyncConnection[TupleRow], topic: str, identity: Identity) -> bool:
    """Whether the identity may broadcast to a private topic: could it insert a message of it?"""
    try:
        async with connection.transaction(force_rollback=True):
            await _become(connection, topic, identity)
            await connection.execute(
                "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", (topic,)
            )
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    return True


async def _become(connection: AsyncConnection[TupleRow], topic: str, identity: Identity) -> None:
    await connection.execute(
        """
        select set_config('role', %(role)s, true),
               set_config('realtime.topic', %(topic)s, true),
               set_config('request.jwt.claims', %(claims)s, true),
               set_config('request.jwt.claim.sub', %(sub)s, true),
               set_config('request.jwt.claim.role', %(role)s, true),
               set_config('request.headers', '{}', true)
        """,
        {"role": identity.role, "topic": topic, "claims": identity.claims, "sub": identity.subject},
    )
