"""Looking for secrets where none may be: in logs, in rows and in the arguments of processes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
from psycopg import sql

from tests.processes import descendants

_SCHEMAS = ("public", "fillstream", "auth", "realtime", "supabase_migrations")


def forms(secret: str) -> set[str]:
    """How a secret may be written: plainly, in a URL, in hexadecimal, and in base64 wherever it stands in it."""
    raw = secret.encode()
    written = {
        secret,
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        quote_plus(secret),
        "".join(f"%{byte:02X}" for byte in raw),
        "".join(f"%{byte:02x}" for byte in raw),
        raw.hex(),
        raw.hex().upper(),
    }
    for before in range(3):  # base64 turns three bytes into four characters: three ways to begin
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * before + raw).decode().rstrip("=")
            first = -(-before * 8 // 6)  # characters in which the bytes before it have a part
            last = len(encoded) if (before + len(raw)) % 3 == 0 else len(encoded) - 1
            written.add(encoded[first:last])
    return written


def leaks(secrets: Mapping[str, str], texts: Iterable[tuple[str, str]]) -> list[str]:
    """Which secret stands in which text, by their names."""
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    return [
        f"{name} in {where}"
        for where, text in texts
        for name, written in wanted.items()
        if any(form in text for form in written)
    ]


def logs(folder: Path) -> Iterable[tuple[str, str]]:
    """Every log below a folder."""
    for file in sorted(folder.rglob("*.log")):
        yield str(file.relative_to(folder)), file.read_text(errors="replace")


def rows(dsn: str) -> Iterable[tuple[str, str]]:
    """Every row of every table of the project."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables where schemaname = any(%s)"
            " and has_table_privilege(format('%%I.%%I', schemaname, tablename), 'select')",
            (list(_SCHEMAS),),
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("select string_agg(to_jsonb(one)::text, E'\\n') from {} as one")
            found = connection.execute(query.format(sql.Identifier(schema, table))).fetchone()
            yield f"{schema}.{table}", str(found[0] if found else "")


def arguments(pid: int) -> Iterable[tuple[str, str]]:
    """The command line of every process below one."""
    for child, command in descendants(pid).items():
        yield f"process {child}", command
