"""One prepared database for all Realtime tests on each PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.migrations import prepare
from sandbox.postgres import Installation, Server

SCHEMA = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  body text,
  amount numeric,
  rank int
);
alter table public.notes enable row level security;
create policy own on public.notes for select to authenticated using (user_id = auth.uid());

create table public.samples (
  id int primary key, i8 bigint, n numeric, f8 float8, b boolean, t text, c char(4), u uuid,
  ts timestamp, tz timestamptz, d date, iv interval, j json, jb jsonb, by bytea, ta text[], na numeric[],
  r int4range, ip inet
);
create table public.keyless (a int);
create table public.partly (id int primary key, shown text, hidden text);
revoke all on public.partly from authenticated;
grant select (id, shown) on public.partly to authenticated;
revoke all on public.partly from anon;
create table public.whole (id int primary key, a text, b text);
alter table public.whole replica identity full;
create table public.tagged (id int primary key, tags text[]);
create table public.fragile (id int primary key);
alter table public.fragile enable row level security;
create policy fails_for_bob on public.fragile for select to authenticated
  using (1 / (case when auth.uid() = 'bbbbbbbb-0000-0000-0000-000000000002' then 0 else 1 end) = 1);
create table public.unpublished (id int primary key);
alter publication supabase_realtime
  add table public.notes, public.samples, public.keyless, public.partly, public.whole, public.tagged,
  public.fragile;

create policy read_own on realtime.messages for select to authenticated
  using (realtime.topic() in ('room:' || auth.uid(), 'listen:' || auth.uid()));
create policy write_own on realtime.messages for insert to authenticated
  with check (realtime.topic() = 'room:' || auth.uid());
"""


@pytest.fixture(scope="session")
def database(installation: Installation, scratch: Path) -> Iterator[Server]:
    """A server with the tables of `SCHEMA`; a test leaves its rows behind and looks only for its own."""
    server = Server(installation, Path(tempfile.mkdtemp(dir=scratch)), fsync=False)
    server.start()
    try:
        prepare(server.superuser_dsn)
        with psycopg.connect(server.dsn) as connection:
            connection.execute(SCHEMA)
        yield server
    finally:
        server.stop()
