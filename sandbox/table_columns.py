"""What the catalogue says of a table: its columns, its key, and who may read which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.rows import TupleRow


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `cast` is the type as SQL writes it, `type` its name in `pg_type`."""

    name: str
    cast: str
    type: str
    category: str
    """`pg_type.typcategory`: A array, N numeric, S string, B boolean, …"""
    in_key: bool


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table in attribute order."""

    schema: str
    name: str
    row_security: bool
    columns: tuple[Column, ...]
    readable: dict[str, frozenset[str]]
    """The columns each asked role may select; a role that does not exist is absent."""

    @property
    def key(self) -> tuple[Column, ...]:
        """The primary key's columns."""
        return tuple(column for column in self.columns if column.in_key)

    def column(self, name: str) -> Column | None:
        """Return the column of that name."""
        return next((column for column in self.columns if column.name == name), None)


async def describe(connection: AsyncConnection[TupleRow], oid: int, roles: Collection[str]) -> Table | None:
    """Return the table as it is now, or None where it is gone."""
    found = await connection.execute(
        """
        select n.nspname, c.relname, c.relrowsecurity, a.attname,
               format_type(a.atttypid, a.atttypmod), t.typname, t.typcategory::text,
               coalesce(a.attnum = any (i.indkey), false),
               array(select r.rolname::text from pg_roles r
                     where r.rolname = any (%(roles)s)
                       and has_column_privilege(r.oid, c.oid, a.attnum, 'select')),
               array(select r.rolname::text from pg_roles r where r.rolname = any (%(roles)s))
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        join pg_type t on t.oid = a.atttypid
        left join pg_index i on i.indrelid = c.oid and i.indisprimary
        where c.oid = %(oid)s
        order by a.attnum
        """,
        {"oid": oid, "roles": list(roles)},
    )
    rows = await found.fetchall()
    if not rows:
        return None
    schema, name, row_security = rows[0][:3]
    columns = tuple(Column(*row[3:8]) for row in rows)
    readable = {role: frozenset(row[3] for row in rows if role in row[8]) for role in rows[0][9]}
    return Table(schema, name, row_security, columns, readable)


async def published(connection: AsyncConnection[TupleRow], publication: str, schema: str, table: str) -> list[int]:
    """Return the published tables that a schema and a table name, either of them `*`, stand for."""
    found = await connection.execute(
        """
        select format('%%I.%%I', schemaname, tablename)::regclass::oid from pg_publication_tables
        where pubname = %s and %s::text in ('*', schemaname::text) and %s::text in ('*', tablename::text)
        """,
        (publication, schema, table),
    )
    return [row[0] for row in await found.fetchall()]
