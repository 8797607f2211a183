"""The command line as a user meets it: its own process, its exit codes, one line for a mistake."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import worker

ROOT = Path(worker.__file__).parents[1]


def said_by(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with nothing but this environment."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_without_settings_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    run = said_by("run", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert "SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY" in line


@pytest.mark.parametrize(
    "wrong",
    [
        {"SUPABASE_URL": "nonsense"},
        {"SUPABASE_URL": "http://127.0.0.1:99999"},
        {"SUPABASE_URL": "http://127.0.0.1:9/rest/v1"},
        {"SUPABASE_SERVICE_ROLE_KEY": "two keys"},
        {"SUPABASE_SERVICE_ROLE_KEY": "kéy"},
        {"SUPABASE_SERVICE_ROLE_KEY": "a\nkey"},
        {"EXCHANGE_BASE_URL": "http://127.0.0.1:port"},
        {"RECV_WINDOW_MS": "9000"},
        {"ALLOWED_MODES": "all"},
        {"POLL_INTERVAL": "x"},
    ],
)
def test_a_worker_with_a_wrong_setting_says_in_one_line_which(tmp_path: Path, wrong: dict[str, str]) -> None:
    sound = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_ROLE_KEY": "key"}
    run = said_by("run", cwd=tmp_path, **(sound | wrong))
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    assert next(iter(wrong)) in line


class NoProject(BaseHTTPRequestHandler):
    """A web server that knows nothing of Supabase."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@pytest.fixture
def no_project() -> Iterator[str]:
    """The address of a web server that is no project."""
    with ThreadingHTTPServer(("127.0.0.1", 0), NoProject) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_where_no_project_is_ends_the_worker_in_one_line(tmp_path: Path, no_project: str) -> None:
    run = said_by(
        "run", cwd=tmp_path, SUPABASE_URL=no_project, SUPABASE_SERVICE_ROLE_KEY="key", EXCHANGE_BASE_URL=no_project
    )
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith("{")]  # the rest is the log
    assert "SUPABASE_URL" in line


def test_an_env_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    run = said_by("run", "--env-file", "none.env", cwd=tmp_path)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "none.env" in line


def test_no_demonstration_trades_with_real_money(tmp_path: Path) -> None:
    run = said_by("demo", "--mode", "live", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    assert "--mode live" in line
    assert "paper, testnet" in line


def test_the_version_is_said(tmp_path: Path) -> None:
    run = said_by("version", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("fillstream 0.")
