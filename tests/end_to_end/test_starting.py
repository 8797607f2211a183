"""Starting a worker: on wrong settings, on a project out of reach, on signals too old to trade."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import jwt
import pytest

from sandbox.ports import free_port
from tests.conftest import StartSandbox
from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, launch_worker

SWEEP_SECONDS = 2.0
WRONG = {
    "no address and no key": ({"SUPABASE_URL": "", "SUPABASE_SERVICE_ROLE_KEY": ""}, "SUPABASE_SERVICE_ROLE_KEY"),
    "a mode that there is not": ({"ALLOWED_MODES": "demo"}, "ALLOWED_MODES"),
    "live on another exchange": ({"ALLOWED_MODES": "paper,live"}, "EXCHANGE_BASE_URL"),
    "a time without end": ({"POLL_INTERVAL": "inf"}, "POLL_INTERVAL"),
    "slippage that is no number": ({"DEFAULT_SLIPPAGE": "nan"}, "DEFAULT_SLIPPAGE"),
}


@pytest.mark.parametrize(("settings", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    project: Project, tmp_path: Path, settings: Mapping[str, str], named: str
) -> None:
    code, said = _run(project, tmp_path, **settings)
    assert code == 2
    [line] = said
    assert line.startswith("fillstream: ")
    assert named in line


@pytest.mark.parametrize("key", ["anon", "of another project"])
def test_a_key_that_the_project_refuses_is_named_and_ends_it(project: Project, tmp_path: Path, key: str) -> None:
    now = int(time.time())
    claims = {"role": "service_role", "iss": "supabase", "iat": now, "exp": now + 3600}
    keys = {
        "anon": project.env["SUPABASE_ANON_KEY"],
        "of another project": jwt.encode(claims, "another-secret-of-another-project", "HS256"),
    }
    code, said = _run(project, tmp_path, SUPABASE_SERVICE_ROLE_KEY=keys[key])
    assert code == 2
    [line] = [line for line in said if not line.startswith("{")]
    assert "SUPABASE_SERVICE_ROLE_KEY" in line
    assert keys[key] not in "".join(said)


def test_an_env_file_that_is_a_folder_is_one_line(project: Project, tmp_path: Path) -> None:
    code, said = _run(project, tmp_path, "--env-file", str(tmp_path))
    assert code == 2
    [line] = said
    assert str(tmp_path) in line


def test_a_project_out_of_reach_is_waited_for(start_sandbox: StartSandbox, start_worker: StartWorker) -> None:
    ports = [f"--{name}-port={free_port()}" for name in ("api", "venue")]
    first = start_sandbox("--no-fsync", *ports)
    user = Project(first.env).sign_up()
    assert first.end() == 0
    worker = start_worker(on=Project(first.env), ready=False)
    worker.wait_for("the database is out of reach; signals wait in their table")
    back = Project(start_sandbox("--no-fsync", *ports, data=first.data).env)
    signal = back.signal(user)
    worker.wait_for("ready")
    back.wait_for([signal], seconds=SWEEP_SECONDS + 2)
    assert_books(back, user)
    assert worker.stop() == 0


def test_a_worker_told_to_stop_while_it_waits_ends_at_once(project: Project, start_worker: StartWorker) -> None:
    worker = start_worker(ready=False, SUPABASE_URL=f"http://127.0.0.1:{free_port()}")
    worker.wait_for("the database is out of reach; signals wait in their table")
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < 5


def test_a_signal_that_waited_too_long_expires(project: Project, start_worker: StartWorker) -> None:
    user = project.sign_up()
    old = project.signal(user)
    start_worker(MAX_SIGNAL_AGE="0.2")  # which is less than a worker takes to start
    project.wait_for([old], "expired")
    [row] = project.rows("select refusal_code, refusal_reason from signals where id = %s", old)
    assert row["refusal_code"] == "signal_expired"
    assert "limit of 0.2 s" in row["refusal_reason"]
    assert_books(project, user)


def _run(project: Project, folder: Path, *arguments: str, **settings: str) -> tuple[int, list[str]]:
    """Start a worker that is to end by itself; returns its exit code and the lines it wrote to stderr."""
    worker = launch_worker(project.env, folder / "log", *arguments, **settings)
    try:
        code = worker.process.wait(30)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise
    return code, worker.log.read_text().splitlines()
