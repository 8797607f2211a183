"""Databases for tests of the sandbox's parts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.migrations import prepare
from sandbox.postgres import Installation, Server, installations


@pytest.fixture(scope="session", params=installations(), ids=lambda each: f"{each.name}-{each.version}")
def installation(request: pytest.FixtureRequest) -> Installation:
    """Every PostgreSQL of this machine in turn."""
    return request.param


@pytest.fixture
def prepared(installation: Installation, scratch: Path) -> Iterator[Server]:
    """A server whose database is as a hosted project's before any migration."""
    server = Server(installation, Path(tempfile.mkdtemp(dir=scratch)), fsync=False)
    server.start()
    try:
        prepare(server.superuser_dsn)
        yield server
    finally:
        server.stop()
