"""The schema goes into a project by the Supabase CLI, and a worker runs on what it made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.stack import PROJECT
from tests.conftest import StartSandbox
from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, wait_until

CLI = "supabase@3.1.0"

pytestmark = [
    pytest.mark.skipif(shutil.which("npx") is None, reason="the Supabase CLI comes from npm, and there is no npx"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of this product's own project, where the CLI may leave its notes."""
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy / "supabase")
    return copy


def test_the_cli_finds_nothing_to_do_on_the_sandbox(project: Project, folder: Path) -> None:
    assert _push(project, folder).strip() == "Remote database is up to date."


def test_the_cli_makes_an_empty_project_one_that_a_worker_runs_on(
    start_sandbox: StartSandbox, start_worker: StartWorker, folder: Path, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing"
    (nothing / "migrations").mkdir(parents=True)
    empty = Project(start_sandbox("--no-fsync", f"--project={nothing}").env)
    assert empty.rows("select to_regclass('public.signals') as signals") == [{"signals": None}]

    early = start_worker(on=empty, ready=False)
    assert early.process.wait(30) == 2
    assert "run `supabase db push`" in early.log.read_text().splitlines()[-1]

    assert "Finished supabase db push." in _push(empty, folder)
    applied = [row["version"] for row in empty.rows("select version from supabase_migrations.schema_migrations")]
    assert sorted(applied) == sorted(file.name.partition("_")[0] for file in (PROJECT / "migrations").glob("*.sql"))

    # PostgREST reads the schema again while it grows; what the last migration makes is served last.
    served = "/rest/v1/execution_timeline?limit=1"
    wait_until("REST serves the whole schema", lambda: empty.request("GET", served).is_success)
    user = empty.sign_up()
    worker = start_worker(on=empty)
    for line in ("broadcast", "rows"):
        worker.wait_for(f"realtime line '{line}' is up")
    empty.wait_for([empty.signal(user)])
    assert_books(empty, user)
    assert worker.stop() == 0


def _push(project: Project, folder: Path) -> str:
    """`supabase db push` of a project folder; what it says on standard output."""
    remote = f"--remote={project.env['SUPABASE_DB_URL']}?sslmode=disable"
    pushed = subprocess.run(
        ["npx", "--yes", CLI, "db", "push", "--yes", remote], cwd=folder, capture_output=True, text=True, timeout=170
    )
    if "npm error" in pushed.stderr:
        pytest.skip("the Supabase CLI could not be fetched from npm")
    assert pushed.returncode == 0, pushed.stderr
    return pushed.stdout
