"""A project that answers as told."""

from __future__ import annotations

import pytest

from tests.worker.rest import Project, answered_by


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project at which every connection of the test ends."""
    project = Project()
    answered_by(monkeypatch, project)
    return project
