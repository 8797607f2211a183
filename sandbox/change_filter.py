"""What a subscriber asked to hear of: the bindings of a join and their filters.

Grammar and texts: the `postgres_changes` part of Supabase's Realtime protocol. A filter is
`column=[not.]operator.value`, several are joined by commas and all must hold; it fails closed on NULL.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import LiteralString, cast

from psycopg import sql

_COMPARISONS: dict[str, LiteralString] = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
}
OPERATORS = (*_COMPARISONS, "in", "is")
TEXT_OPERATORS = ("like", "ilike", "match", "imatch")
IS_VALUES = ("null", "true", "false", "unknown")


class BindingRefused(ValueError):
    """A binding that cannot be subscribed to; the text is what the client is told."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison of a column with a value in PostgreSQL's text form."""

    column: str
    operator: str
    value: str
    negated: bool = False

    def predicate(self, operand: sql.Composable, type_name: str) -> sql.Composable:
        """Return the SQL condition on an operand of that type; it may be null."""
        if self.operator == "is":
            test: sql.Composable = sql.SQL("{} is {}").format(operand, sql.SQL(cast("LiteralString", self.value)))
        elif self.operator == "in":
            test = sql.SQL("{} = any ({}::{})").format(
                operand, sql.Literal(self.value), sql.SQL(cast("LiteralString", type_name + "[]"))
            )
        else:
            test = sql.SQL("{} {} {}::{}").format(
                operand,
                sql.SQL(_COMPARISONS[self.operator]),
                sql.Literal(self.value),
                sql.SQL(cast("LiteralString", type_name)),
            )
        return sql.SQL("not ({})").format(test) if self.negated else test

    def __str__(self) -> str:
        parts = ", ".join(_quoted(part) for part in (self.column, self.operator, self.value))
        return f"{{{parts}, {str(self.negated).lower()}}}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One entry of a join's `postgres_changes`."""

    id: int
    event: str
    """INSERT, UPDATE, DELETE or `*`."""
    schema: str
    table: str
    filters: tuple[Filter, ...] = ()
    select: tuple[str, ...] | None = None
    """The columns wanted beside the primary key, or None for all."""

    def concerns(self, schema: str, table: str, action: str) -> bool:
        """Whether a change of that table is of interest, filters aside."""
        return self.event in ("*", action) and self.schema in ("*", schema) and self.table in ("*", table)

    def __str__(self) -> str:
        filters = ", ".join(str(item) for item in self.filters)
        select = "nil" if self.select is None else f"[{', '.join(map(_quoted, self.select))}]"
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table}, filters: [{filters}], select: {select}]"
        )


def binding_id(params: dict[str, object]) -> int:
    """Return the id by which client and server name a binding: stable, and never 0."""
    return zlib.crc32(json.dumps(params, sort_keys=True).encode()) % (2**27 - 1) + 1


def read_binding(params: dict[str, object]) -> Binding:
    """Return the binding these join parameters ask for.

    Raises:
        BindingRefused: no schema or table, or a filter that cannot be read.
    """
    event = params.get("event")
    event = event.upper() if isinstance(event, str) else "*"
    if event not in ("INSERT", "UPDATE", "DELETE"):
        event = "*"
    select = _select(params.get("select"))
    schema, table, filters = params.get("schema"), params.get("table"), params.get("filter")
    filtered = "filter" in params
    if isinstance(schema, str) and isinstance(table, str) and (isinstance(filters, str) or not filtered):
        pass
    elif isinstance(schema, str) and "table" not in params and not filtered:
        table = "*"
    elif isinstance(table, str) and "schema" not in params and not filtered:
        schema = "public"
    else:
        asked = ", ".join(f"{_quoted(key)} => {_term(value)}" for key, value in sorted(params.items()))
        raise BindingRefused(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
            f"%{{{asked}}}"
        )
    if select is not None and "*" in (schema, table):
        raise BindingRefused(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
        )
    read = read_filters(filters) if isinstance(filters, str) else ()
    return Binding(binding_id(params), event, str(schema), str(table), read, select)


def read_filters(text: str) -> tuple[Filter, ...]:
    """Return the conditions of a filter text, none for a blank one.

    Raises:
        BindingRefused: it does not follow the grammar.
    """
    if not text.strip():
        return ()
    return tuple(_filter(segment.strip()) for segment in _segments(text.strip()))


def _segments(text: str) -> list[str]:
    """Split at the commas outside parentheses and quotes."""
    segments, start, depth, quoted, index = list[str](), 0, 0, False, 0
    while index < len(text):
        char = text[index]
        if quoted:
            if char == "\\":
                index += 1
            elif char == '"':
                quoted = False
        elif char == '"' and index > start and text[index - 1] in ".(,":
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == "," and depth == 0:
            segments.append(text[start:index])
            start = index + 1
        index += 1
    return [*segments, text[start:]]


def _filter(segment: str) -> Filter:
    if not segment:
        raise _unreadable("filter must not contain empty segments (check for extra commas)")
    column, equals, condition = segment.partition("=")
    if not equals:
        raise _unreadable(f"[{_quoted(segment)}]")
    negated = condition.startswith("not.")
    operator, dot, value = condition.removeprefix("not.").partition(".")
    if not dot:
        raise _unreadable(f"[{_quoted(operator)}]")
    if operator not in OPERATORS:
        raise _unreadable(f"[{_quoted(operator)}, {_quoted(value)}]")
    if operator == "in":
        if len(value) < 2 or value[0] != "(" or value[-1] != ")":
            raise _unreadable("`in` filter value must be wrapped by parentheses")
        value = "{" + value[1:-1] + "}"
    else:
        value = _unquoted(value)
    return Filter(column, operator, value, negated)


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    text, index, inside = "", 0, value[1:-1]
    while index < len(inside):
        if inside[index] == '"':
            return value
        if inside[index] == "\\":
            index += 1
            if index == len(inside):
                return value
        text += inside[index]
        index += 1
    return text


def _select(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise BindingRefused(
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]'
        )
    if not isinstance(value, list):
        return None
    names = tuple(name for name in cast("list[object]", value) if isinstance(name, str))
    return names or None


def _unreadable(what: str) -> BindingRefused:
    return BindingRefused(f"Error parsing `filter` params: {what}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _term(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else "nil" if value is None else json.dumps(value)
