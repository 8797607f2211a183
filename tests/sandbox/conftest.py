"""Databases for tests of the sandbox's parts."""

from __future__ import annotations

import shutil
import subprocess
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


@pytest.fixture(scope="session")
def pristine(installation: Installation, scratch: Path) -> Path:
    """The data of a prepared database, to be copied: making one takes most of a second."""
    server = Server(installation, Path(tempfile.mkdtemp(dir=scratch)), fsync=False)
    server.start()
    try:
        prepare(server.superuser_dsn)
    finally:
        server.stop()
    return server.data


@pytest.fixture
def prepared(installation: Installation, pristine: Path, scratch: Path) -> Iterator[Server]:
    """A server of the test's own whose database is as a hosted project's before any migration."""
    data = Path(tempfile.mkdtemp(dir=scratch))
    subprocess.run(["cp", "-a", f"{pristine}/.", data], check=True)  # with the owner of each file
    server = Server(installation, data, fsync=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(data)
