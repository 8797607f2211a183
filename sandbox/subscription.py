"""Whether a subscription to row changes can be made, and the texts that say why not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import LiteralString, cast

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from sandbox.change_filter import IS_VALUES, TEXT_OPERATORS, Binding, BindingRefused, Filter
from sandbox.table_columns import Column, Table, describe, published

_MOST_VALUES = 100
_REFUSED = "Unable to subscribe to changes with given parameters."


async def check(
    connection: AsyncConnection[TupleRow], publication: str, role: str, bindings: Iterable[Binding]
) -> None:
    """Return if every one of the bindings can be served; one bad binding spoils all of its channel.

    Raises:
        BindingRefused: the first that cannot.
        psycopg.OperationalError: the database is away.
    """
    for binding in bindings:
        tables = await published(connection, publication, binding.schema, binding.table)
        if not tables:
            raise BindingRefused(
                f"{_REFUSED} Please check Realtime is enabled for the given connect parameters: {binding}"
            )
        for oid in tables:
            table = await describe(connection, oid, (role,))
            if table is None:
                continue
            try:
                await _check_table(connection, table, role, binding)
            except psycopg.OperationalError:
                raise
            except _Refusal as error:
                raise _refused(binding, f"ERROR P0001 (raise_exception) {error}") from None
            except psycopg.Error as error:
                state = error.sqlstate or "XX000"
                text = error.diag.message_primary or str(error)
                raise _refused(binding, f"ERROR {state} ({_condition(state)}) {text}") from None


class _Refusal(Exception):
    """What the platform's own check of a subscription says."""


async def _check_table(connection: AsyncConnection[TupleRow], table: Table, role: str, binding: Binding) -> None:
    if role not in table.readable:
        raise psycopg.errors.UndefinedObject(f'role "{role}" does not exist')
    readable = table.readable[role]
    for condition in binding.filters:
        column = table.column(condition.column)
        if column is None or column.name not in readable:
            raise _Refusal(f"invalid column for filter {condition.column}")
        await _check_filter(connection, condition, column)
    for name in binding.select or ():
        if name not in readable:
            raise _Refusal(f"invalid column for select {name}")


async def _check_filter(connection: AsyncConnection[TupleRow], condition: Filter, column: Column) -> None:
    operator, value = condition.operator, condition.value
    if operator == "is":
        if value not in IS_VALUES:
            raise _Refusal("invalid value for is filter: must be null, true, false, or unknown")
        if value != "null" and column.category != "B":
            raise _Refusal(f"is {value} filter requires a boolean column, got {column.cast}")
        return
    if operator in TEXT_OPERATORS and column.category != "S":
        raise _Refusal(f"operator {operator} requires a text-compatible column type, got {column.cast}")
    if operator in ("match", "imatch"):
        try:
            await connection.execute(sql.SQL("select '' ~ {}").format(sql.Literal(value)))
        except psycopg.DataError as error:
            raise _Refusal(f"invalid regular expression for {operator} filter: {error.diag.message_primary}") from None
        return
    if operator == "in":
        counted = await connection.execute(
            sql.SQL("select cardinality({}::{})").format(
                sql.Literal(value), sql.SQL(cast("LiteralString", f"{column.cast}[]"))
            )
        )
        row = await counted.fetchone()
        if row and row[0] > _MOST_VALUES:
            raise _Refusal(f"too many values for `in` filter. Maximum {_MOST_VALUES}")
        return
    await connection.execute(
        sql.SQL("select {}::{}").format(sql.Literal(value), sql.SQL(cast("LiteralString", column.cast)))
    )


def _refused(binding: Binding, exception: str) -> BindingRefused:
    return BindingRefused(
        f"{_REFUSED} An exception happened so please check your connect parameters: {binding}. Exception: {exception}"
    )


def _condition(state: str) -> str:
    """Return PostgreSQL's name of an error state, e.g. 22P02 -> invalid_text_representation."""
    try:
        name = psycopg.errors.lookup(state).__name__
    except KeyError:
        return "unknown"
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
