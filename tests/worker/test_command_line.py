"""The command line as a user meets it: its own process, its exit codes, one line for a mistake."""

from __future__ import annotations

import subprocess
import sys
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


def test_an_env_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    run = said_by("run", "--env-file", "none.env", cwd=tmp_path)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "none.env" in line


def test_the_version_is_said(tmp_path: Path) -> None:
    run = said_by("version", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("fillstream 0.")
