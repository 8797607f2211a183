"""Doors to the functions on the shared project; each test brings users of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SandboxProcess
from tests.end_to_end.product import Project, User
from tests.functions.door import Door, data_key, data_keys, open_door


@pytest.fixture(scope="session")
def project(stack: SandboxProcess) -> Project:
    """The shared project."""
    return Project(stack.env)


@pytest.fixture(scope="session")
def first_key() -> str:
    """The data key of the shared door."""
    return data_key()


@pytest.fixture(scope="session")
def door(stack: SandboxProcess, first_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The functions with one data key."""
    with open_door(stack.env, tmp_path_factory.mktemp("door"), data_keys(v1=first_key)) as door:
        yield door


@pytest.fixture
def alice(project: Project) -> User:
    """Somebody new."""
    return project.sign_up()


@pytest.fixture
def bob(project: Project) -> User:
    """Somebody else."""
    return project.sign_up()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a door of a test's own keeps its logs."""
    return tmp_path
