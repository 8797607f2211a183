"""Databases for tests of the sandbox's parts."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from sandbox.migrations import prepare
from sandbox.postgres import SUPERUSER, Installation, Server, installations


@pytest.fixture(scope="session", params=installations(), ids=lambda each: f"{each.name}-{each.version}")
def installation(request: pytest.FixtureRequest) -> Installation:
    """Every PostgreSQL of this machine in turn."""
    return request.param


@pytest.fixture(scope="session")
def server(installation: Installation, scratch: Path) -> Iterator[Server]:
    """One server for all tests that leave it running."""
    server = Server(installation, Path(tempfile.mkdtemp(dir=scratch)), fsync=False)
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Database:
    """A database of the test's own, prepared as a hosted project's is before any migration."""

    dsn: str
    superuser_dsn: str


@pytest.fixture
def prepared(server: Server) -> Iterator[Database]:
    name = f"project_{uuid.uuid4().hex}"
    with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
        connection.execute(SQL("create database {} owner postgres").format(Identifier(name)))
        database = Database(server.dsn_of("postgres", name), server.dsn_of(SUPERUSER, name))
        prepare(database.superuser_dsn)
        yield database
        connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))
