"""The platform's bootstrap, a project's migrations and its seed, each applied once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from sandbox.statements import Statement, split

_BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
_NAME = re.compile(r"(?P<version>\d+)_(?P<name>.+)\.sql")
_PASSWORD_ROLES = ("authenticator", "supabase_auth_admin")

# As the Supabase CLI keeps them, so that each finds what the other did.
_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
create table if not exists supabase_migrations.seed_files (path text not null primary key, hash text not null);
"""


class MigrationError(RuntimeError):
    """A migration or the seed was refused; the text names file, line and the database's own words."""


@dataclass(slots=True)
class Outcome:
    """What one run did: versions applied now, and files that changed after they were applied."""

    applied: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])


def prepare(superuser_dsn: str) -> bool:
    """Make a plain database what a hosted project is before any migration; False where it was already.

    The roles that servers log in with take the password of `superuser_dsn`.
    """
    script = _BOOTSTRAP.read_text(encoding="utf-8")
    password = str(conninfo_to_dict(superuser_dsn).get("password") or "")
    digest = hashlib.sha256(f"{script}{password}".encode()).hexdigest()
    with psycopg.connect(superuser_dsn) as connection:
        # The platform keeps messages for three days.
        known = connection.execute("select to_regclass('realtime.messages') is not null").fetchone()
        if known == (True,):
            connection.execute("delete from realtime.messages where inserted_at < now() - interval '72 hours'")
        done = connection.execute("select obj_description(to_regnamespace('extensions'))").fetchone()
        if done == (f"bootstrap {digest}",):
            return False
        connection.execute(script.encode())
        for role in _PASSWORD_ROLES:
            connection.execute(
                sql.SQL("alter role {} login password {}").format(sql.Identifier(role), sql.Literal(password))
            )
        connection.execute(sql.SQL("comment on schema extensions is {}").format(f"bootstrap {digest}"))
    return True


def migrate(dsn: str, directory: Path) -> Outcome:
    """Apply the `*.sql` of `directory` not yet applied, in order, then the seed.sql beside the directory.

    Each file is one transaction, recorded with its statements.

    Raises:
        MigrationError: a file was refused; those before it stay applied.
    """
    outcome = Outcome()
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Two starts may meet here; the second waits and then finds nothing to do.
        connection.execute("select pg_advisory_lock(hashtext('supabase_migrations'))")
        with connection.transaction():
            connection.execute("set local client_min_messages = warning")
            connection.execute(_HISTORY)
        rows = connection.execute("select version, statements from supabase_migrations.schema_migrations")
        known = {str(version): list[str](statements or ()) for version, statements in rows.fetchall()}
        for file in sorted(directory.glob("*.sql")):
            parts = _NAME.fullmatch(file.name)
            if parts is None:
                raise MigrationError(f"{file.name}: a migration is named <version>_<name>.sql, version in digits")
            version = parts["version"]
            statements = list(split(file.read_text(encoding="utf-8")))
            if version in known:
                if known[version] and known[version] != [statement.text for statement in statements]:
                    outcome.changed.append(file.name)
                continue
            with connection.transaction():
                _apply(connection, file, statements)
                connection.execute(
                    "insert into supabase_migrations.schema_migrations (version, statements, name) values (%s, %s, %s)",
                    (version, [statement.text for statement in statements], parts["name"]),
                )
            outcome.applied.append(version)
        _seed(connection, directory.parent / "seed.sql")
    return outcome


def _seed(connection: psycopg.Connection, file: Path) -> None:
    if not file.exists():
        return
    content = file.read_bytes()
    path, digest = f"supabase/{file.name}", hashlib.sha256(content).hexdigest()
    known = connection.execute("select from supabase_migrations.seed_files where path = %s", (path,))
    if known.fetchone() is not None:
        return
    with connection.transaction():
        _apply(connection, file, list(split(content.decode())))
        connection.execute("insert into supabase_migrations.seed_files values (%s, %s)", (path, digest))


def _apply(connection: psycopg.Connection, file: Path, statements: list[Statement]) -> None:
    for statement in statements:
        try:
            connection.execute(statement.text.encode())
        except psycopg.Error as error:
            position = error.diag.statement_position
            line = statement.line
            if position is not None:
                line = statement.top + statement.text.count("\n", 0, int(position) - 1)
            code = f" ({error.sqlstate})" if error.sqlstate else ""
            raise MigrationError(f"{file.name}:{line}: {error.diag.message_primary or error}{code}") from error
