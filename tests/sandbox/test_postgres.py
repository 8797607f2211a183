"""The database server belongs to one process, keeps its data, and runs as no superuser of the machine."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.lock import DirectoryInUse
from sandbox.postgres import Installation, PostgresError, Server, installations


@pytest.fixture
def own_server(installation: Installation, scratch: Path) -> Iterator[Server]:
    """A server that the test may stop, kill and spoil."""
    server = Server(installation, Path(tempfile.mkdtemp(dir=scratch)), fsync=False)
    server.start()
    yield server
    server.stop()


def test_serves_on_loopback_alone_with_logical_replication(server: Server) -> None:
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("show wal_level").fetchone() == ("logical",)
        row = connection.execute("select rolsuper, rolcreaterole from pg_roles where rolname = 'postgres'")
        assert row.fetchone() == (False, True)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")


def test_never_runs_as_root(server: Server) -> None:
    assert server.pid is not None
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_keeps_its_data_and_port_over_a_restart(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn) as connection:
        connection.execute("create table kept as select 7 as n")
    before = own_server.dsn
    own_server.stop()
    own_server.start()
    assert own_server.dsn == before
    with psycopg.connect(own_server.dsn) as connection:
        assert connection.execute("select n from kept").fetchone() == (7,)


def test_starts_at_once_after_its_server_was_killed(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn) as connection:
        connection.execute("create table kept as select 7 as n")
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGKILL)
    own_server.stop()
    own_server.start()
    with psycopg.connect(own_server.dsn) as connection:
        assert connection.execute("select n from kept").fetchone() == (7,)


def test_a_second_start_on_one_directory_is_refused(server: Server) -> None:
    with pytest.raises(DirectoryInUse, match="in use by another sandbox"):
        Server(server.installation, server.data).start()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_busy_port_is_named(server: Server, scratch: Path) -> None:
    second = Server(server.installation, Path(tempfile.mkdtemp(dir=scratch)), server.port, fsync=False)
    with pytest.raises(PostgresError, match=f"port {server.port} is busy"):
        second.start()


def test_a_database_of_another_version_is_left_alone(own_server: Server) -> None:
    other = next((each for each in installations() if each.major != own_server.installation.major), None)
    if other is None:
        pytest.skip("this machine has PostgreSQL of one major version only")
    own_server.stop()
    with pytest.raises(PostgresError, match=f"holds a PostgreSQL {own_server.installation.major} database"):
        Server(other, own_server.data).start()


def test_a_creation_cut_short_is_begun_anew(own_server: Server) -> None:
    own_server.stop()
    (own_server.data / "complete").unlink()
    own_server.start()
    with psycopg.connect(own_server.dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is dropped to another account")
def test_data_where_only_root_may_go(installation: Installation, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = Server(installation, tmp_path / "below", fsync=False)
    server.start()
    server.stop()
    place = (tmp_path / "below" / "cluster").resolve()
    assert not place.is_relative_to(tmp_path)
    server.start()
    server.stop()
    shutil.rmtree(place.parent)


def test_a_setting_without_a_server_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SANDBOX_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(PostgresError, match="SANDBOX_POSTGRES_BIN"):
        installations()
