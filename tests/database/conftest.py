"""One migrated database for each PostgreSQL of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest

from sandbox.migrations import migrate, prepare
from sandbox.postgres import Installation, Server, installations
from tests.database.project import Project

MIGRATIONS = Path(__file__).parents[2] / "supabase" / "migrations"


def _named(installation: Installation) -> str:
    return f"{installation.name}-{installation.version}"


@pytest.fixture(scope="session")
def servers(scratch: Path) -> Iterator[Callable[[Installation], Server]]:
    """The running server of each PostgreSQL, migrated as a hosted project's would be; made when first asked for.

    Kept until the end: tests that come file by file, each for every PostgreSQL, would else begin anew with each file.
    """
    with ExitStack() as exits:

        @cache
        def serving(installation: Installation) -> Server:
            server = Server(installation, scratch / f"database-{_named(installation)}", fsync=False)
            exits.callback(server.stop)
            server.start()
            prepare(server.superuser_dsn)
            migrate(server.dsn, MIGRATIONS)
            return server

        yield serving


@pytest.fixture(scope="session", params=installations(), ids=_named)
def server(request: pytest.FixtureRequest, servers: Callable[[Installation], Server]) -> Server:
    """A running, migrated server."""
    return servers(request.param)


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
