"""A connection to the project as its REST interface makes one: one role, one user's claims."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb, set_json_loads

_EXACT_JSON = partial(json.loads, parse_float=Decimal)


class Client:
    """Logged in as authenticator, then one role; autocommit. Numbers in JSON come as int and Decimal."""

    def __init__(self, dsn: str, role: str, user_id: UUID | None = None) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        set_json_loads(_EXACT_JSON, self.connection)
        claims = {"role": role} | ({"sub": str(user_id)} if user_id else {})
        self.connection.execute("select set_config('request.jwt.claims', %s, false)", (json.dumps(claims),))
        self.connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))

    def execute(self, query: LiteralString | sql.Composed, *values: object) -> int:
        """Run a statement; the answer is how many rows it touched."""
        return self.connection.execute(query, values or None).rowcount

    def rows(self, query: LiteralString | sql.Composed, *values: object) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self.connection.execute(query, values or None).fetchall()

    def value(self, query: LiteralString | sql.Composed, *values: object) -> Any:
        """The first column of the only row."""
        found = self.rows(query, *values)
        assert len(found) == 1, found
        return found[0][0]

    def column(self, query: LiteralString | sql.Composed, *values: object) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.rows(query, *values)]

    def call(self, function: str, **arguments: object) -> Any:
        """Call a function of the public schema by argument names, as a request to /rpc does."""
        named = sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder()) for name in arguments
        )
        query = sql.SQL("select public.{}({})").format(sql.Identifier(function), named)
        return self.value(query, *(_adapted(value) for value in arguments.values()))

    def close(self) -> None:
        self.connection.close()


def _adapted(value: object) -> object:
    """Objects and lists of objects are jsonb; other lists are arrays."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    if isinstance(value, dict) or any(isinstance(item, dict) for item in items):
        return Jsonb(cast("object", value))
    return cast("object", value)
