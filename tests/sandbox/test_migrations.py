"""A plain database becomes a project's, and migrations are applied once, as the Supabase CLI would."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from sandbox.migrations import MigrationError, migrate, prepare
from sandbox.stack import PROJECT
from tests.sandbox.conftest import Database

_TABLE = """-- A note of a user.
create table public.notes (id bigint primary key, user_id uuid references auth.users (id), text text);
alter publication supabase_realtime add table public.notes;
create policy own_topic on realtime.messages for select to authenticated
  using (realtime.topic() = 'user:' || (select auth.uid())::text);
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "supabase" / "migrations"
    folder.mkdir(parents=True)
    (folder / "20260101000000_notes.sql").write_text(_TABLE)
    (tmp_path / "supabase" / "config.toml").write_text('project_id = "notes"\n')
    (tmp_path / "supabase" / "seed.sql").write_text("insert into public.notes (id, text) values (1, 'seeded');\n")
    return folder


def test_preparing_twice_changes_nothing(prepared: Database) -> None:
    assert prepare(prepared.superuser_dsn) is False


def test_the_roles_are_the_platforms(prepared: Database) -> None:
    with psycopg.connect(prepared.superuser_dsn) as connection:
        rows = connection.execute("select rolname, rolsuper, rolbypassrls, rolcanlogin from pg_roles").fetchall()
    roles = {name: rest for name, *rest in rows}
    assert roles["postgres"] == [False, True, True]
    assert roles["anon"] == roles["authenticated"] == [False, False, False]
    assert roles["service_role"] == [False, True, False]
    assert roles["authenticator"] == [False, False, True]


def test_each_file_is_applied_once_and_recorded(prepared: Database, migrations: Path) -> None:
    assert migrate(prepared.dsn, migrations).applied == ["20260101000000"]
    again = migrate(prepared.dsn, migrations)
    assert (again.applied, again.changed) == ([], [])
    with psycopg.connect(prepared.dsn) as connection:
        rows = connection.execute("select version, name, statements from supabase_migrations.schema_migrations")
        [(version, name, statements)] = rows.fetchall()
        assert (version, name, len(statements)) == ("20260101000000", "notes", 3)
        assert connection.execute("select text from notes").fetchall() == [("seeded",)]


def test_a_file_changed_after_it_was_applied_is_told(prepared: Database, migrations: Path) -> None:
    migrate(prepared.dsn, migrations)
    (migrations / "20260101000000_notes.sql").write_text(_TABLE + "select 1;\n")
    assert migrate(prepared.dsn, migrations).changed == ["20260101000000_notes.sql"]


def test_a_failing_file_is_named_with_its_line_and_undone(prepared: Database, migrations: Path) -> None:
    (migrations / "20260102000000_wrong.sql").write_text(
        "create table public.half (id int);\n\n-- then\nselect\n  no;\n"
    )
    with pytest.raises(MigrationError, match=r'^20260102000000_wrong\.sql:5: column "no" does not exist \(42703\)$'):
        migrate(prepared.dsn, migrations)
    with psycopg.connect(prepared.dsn) as connection:
        assert connection.execute(
            "select to_regclass('public.half'), to_regclass('public.notes')::text"
        ).fetchone() == (
            None,
            "notes",
        )


def test_a_file_name_without_a_version_is_refused(prepared: Database, migrations: Path) -> None:
    (migrations / "later.sql").write_text("select 1;\n")
    with pytest.raises(MigrationError, match=r"later\.sql: a migration is named"):
        migrate(prepared.dsn, migrations)


def test_sending_a_message_adds_its_id_and_never_fails(prepared: Database) -> None:
    with psycopg.connect(prepared.dsn, autocommit=True) as connection:
        connection.execute("select realtime.send('{\"n\": 1.50}', 'evt', 'room', true)")
        connection.execute("select realtime.send('{\"id\": \"mine\"}', 'evt', 'room', false)")
        connection.execute("select realtime.send('[1]', 'evt', 'room', true)")
        connection.execute("select realtime.send('{}', 'evt', null, true)")
        rows = connection.execute(
            "select id::text, payload::text, private, extension from realtime.messages order by private desc"
        ).fetchall()
    (first, sent, *_), (_, own, *rest) = rows
    assert json.loads(sent)["id"] == first
    assert "1.50" in sent
    assert (json.loads(own), rest) == ({"id": "mine"}, [False, "broadcast"])


def test_a_row_change_is_broadcast(prepared: Database) -> None:
    with psycopg.connect(prepared.dsn, autocommit=True) as connection:
        connection.execute("""
            create table public.t (id int primary key);
            create function public.tell() returns trigger language plpgsql as $$
            begin
              perform realtime.broadcast_changes('t', 'made', tg_op, tg_table_name, tg_table_schema, new, old);
              return null;
            end $$;
            create trigger tell after insert on public.t for each row execute function public.tell();
            insert into public.t values (3);
        """)
        row = connection.execute("select payload - 'id', event, topic from realtime.messages").fetchone()
    change = {"schema": "public", "table": "t", "operation": "INSERT", "record": {"id": 3}, "old_record": None}
    assert row == (change, "made", "t")


def test_messages_are_closed_without_a_policy(prepared: Database, migrations: Path) -> None:
    migrate(prepared.dsn, migrations)
    with psycopg.connect(prepared.dsn) as connection:
        connection.execute("select realtime.send('{}', 'evt', 'user:00000000-0000-0000-0000-00000000000a', true)")
        counts: list[object] = []
        for user in ("a", "b"):
            claims = json.dumps({"sub": f"00000000-0000-0000-0000-00000000000{user}"})
            connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
            connection.execute("select set_config('realtime.topic', 'user:00000000-0000-0000-0000-00000000000a', true)")
            connection.execute("set local role authenticated")
            counts.append(connection.execute("select count(*) from realtime.messages").fetchone())
            connection.execute("reset role")
    assert counts == [(1,), (0,)]


_needs_npx = pytest.mark.skipif(
    shutil.which("npx") is None, reason="the Supabase CLI comes from npm, and there is no npx"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this product's own project, where the CLI may leave its notes."""
    folder = tmp_path / "project" / "supabase"
    shutil.copytree(PROJECT, folder)
    return folder


@_needs_npx
@pytest.mark.timeout(180)
def test_after_our_migrations_the_supabase_cli_has_nothing_to_do(prepared: Database, project: Path) -> None:
    migrate(prepared.dsn, project / "migrations")
    assert _push(prepared, project).strip() == "Remote database is up to date."


@_needs_npx
@pytest.mark.timeout(180)
def test_after_the_supabase_cli_we_have_nothing_to_do(prepared: Database, project: Path) -> None:
    _push(prepared, project)
    outcome = migrate(prepared.dsn, project / "migrations")
    assert (outcome.applied, outcome.changed) == ([], [])


def _push(server: Database, project: Path) -> str:
    command = ["npx", "--yes", "supabase@3.1.0", "db", "push", "--yes", f"--remote={server.dsn}?sslmode=disable"]
    pushed = subprocess.run(command, cwd=project.parent, capture_output=True, text=True, timeout=170)
    if "npm error" in pushed.stderr:
        pytest.skip("the Supabase CLI could not be fetched from npm")
    assert pushed.returncode == 0, pushed.stderr
    return pushed.stdout
