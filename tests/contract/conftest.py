"""The project and the venue that the real adapters are tried against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import StartSandbox
from tests.end_to_end.product import Project


@pytest.fixture(scope="session")
def project(start_sandbox: StartSandbox) -> Iterator[Project]:
    """A fresh project for all contracts: each test brings users of its own."""
    sandbox = start_sandbox("--no-fsync")
    yield Project(sandbox.env)
    sandbox.end()
