"""The JSON of changed rows, written by PostgreSQL itself so that every digit survives.

Formats: `to_jsonb` of each value in a UTC session, except that a number which is none becomes null,
bytea is bare hex and blank-padded text is unpadded, as Supabase's Realtime sends them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, cast

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from sandbox.change_filter import Filter
from sandbox.table_columns import Column, Table

Values = dict[str, str | None]


class UnusableFilter(RuntimeError):
    """A filter that was accepted and cannot be evaluated: it stops the delivery to everybody."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One row: its JSON for each set of columns asked for, and whether each filter lets it through."""

    records: tuple[str, ...]
    passed: tuple[bool, ...]


async def render(
    connection: AsyncConnection[TupleRow],
    table: Table,
    present: Sequence[str],
    rows: Sequence[Values],
    column_sets: Sequence[frozenset[str]],
    filters: Sequence[tuple[Filter, ...]],
) -> list[Rendered]:
    """Return the rows, all of which have the same columns `present`, in one query.

    Raises:
        UnusableFilter: a filter on an array column.
    """
    columns = [column for column in table.columns if column.name in present]
    values = {column.name: _value(index, column) for index, column in enumerate(columns)}
    records = [
        _record([(column, values[column.name]) for column in columns if column.name in wanted])
        for wanted in column_sets
    ]
    tests = [_test(columns, values, conditions) for conditions in filters]
    data = json.dumps([[row[column.name] for column in columns] for row in rows], ensure_ascii=False)
    query = sql.SQL("select {} from jsonb_array_elements({}::jsonb) with ordinality as e(v, n) order by e.n").format(
        sql.SQL(", ").join([*records, *tests, sql.SQL("e.n")]), sql.Literal(data)
    )
    found = await connection.execute(query)
    return [Rendered(tuple(row[: len(records)]), tuple(row[len(records) : -1])) for row in await found.fetchall()]


def columns_json(table: Table, wanted: frozenset[str]) -> str:
    """Return the description of the columns that goes with a record."""
    return json.dumps(
        [{"name": column.name, "type": column.type} for column in table.columns if column.name in wanted],
        ensure_ascii=False,
    )


def _value(index: int, column: Column) -> sql.Composable:
    text = sql.SQL("(e.v ->> {})").format(sql.Literal(index))
    match column.type:
        case "numeric" | "float4" | "float8":
            return sql.SQL("case when {} in ('NaN', 'Infinity', '-Infinity') then null else {}::{} end").format(
                text, text, _cast(column)
            )
        case "bytea":
            return sql.SQL("substr({}, 3)").format(text)
        case "bpchar":
            return sql.SQL("rtrim({})").format(text)
        case _:
            return sql.SQL("{}::{}").format(text, _cast(column))


def _record(columns: list[tuple[Column, sql.Composable]]) -> sql.Composable:
    if not columns:
        return sql.SQL("'{{}}'").format()
    fields = sql.SQL(", ").join(
        sql.SQL("{} as {}").format(value, sql.Identifier(column.name)) for column, value in columns
    )
    return sql.SQL("(select to_jsonb(r.*)::text from (select {}) r)").format(fields)


def _test(columns: list[Column], values: dict[str, sql.Composable], conditions: tuple[Filter, ...]) -> sql.Composable:
    known = {column.name: column for column in columns}
    tests: list[sql.Composable] = []
    for condition in conditions:
        column = known.get(condition.column)
        if column is None:
            return sql.SQL("false")
        if column.category == "A":
            raise UnusableFilter(f"a filter on the array column {column.name} loses everybody's changes")
        tests.append(sql.SQL("({})").format(condition.predicate(values[column.name], column.cast)))
    return sql.SQL("coalesce({}, false)").format(sql.SQL(" and ").join(tests)) if tests else sql.SQL("true")


def _cast(column: Column) -> sql.SQL:
    return sql.SQL(cast("LiteralString", column.cast))
