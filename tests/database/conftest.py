"""One migrated database for each PostgreSQL of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from sandbox.migrations import migrate, prepare
from sandbox.postgres import Installation, Server, installations
from tests.database.project import Project

MIGRATIONS = Path(__file__).parents[2] / "supabase" / "migrations"


def _named(installation: Installation) -> str:
    return f"{installation.name}-{installation.version}"


@pytest.fixture(scope="session", params=installations(), ids=_named)
def server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Server]:
    """A running server whose database is migrated as a hosted project's would be."""
    installation: Installation = request.param
    server = Server(installation, scratch / f"database-{_named(installation)}", fsync=False)
    server.start()
    try:
        prepare(server.superuser_dsn)
        migrate(server.dsn, MIGRATIONS)
        yield server
    finally:
        server.stop()


@pytest.fixture
def project(server: Server) -> Iterator[Project]:
    """The project, without a row."""
    project = Project(server)
    project.clean()
    yield project
    project.close()


@pytest.fixture
def alice(project: Project) -> UUID:
    return project.sign_up()


@pytest.fixture
def bob(project: Project) -> UUID:
    return project.sign_up()
