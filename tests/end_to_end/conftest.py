"""A project of each module's own, and workers on it that never outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import StartSandbox
from tests.end_to_end.product import Project, Worker, launch_worker

StartWorker = Callable[..., Worker]


@pytest.fixture(scope="module")
def project(start_sandbox: StartSandbox) -> Iterator[Project]:
    """A fresh project; Realtime without its waits, unless a test sets them."""
    sandbox = start_sandbox("--no-fsync")
    yield Project(sandbox.env)
    sandbox.end()


@pytest.fixture
def start_worker(project: Project, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers on the project, or on another; settings are environment variables."""
    started: list[Worker] = []

    def start(ready: bool = True, on: Project = project, **settings: str) -> Worker:
        worker = launch_worker(on.env, tmp_path / f"worker-{len(started)}.log", **settings)
        started.append(worker)
        if ready:
            worker.wait_for("ready")
        return worker

    yield start
    for worker in started:
        worker.end()


@pytest.fixture
def worker(start_worker: StartWorker) -> Worker:
    """One worker that serves."""
    return start_worker()
