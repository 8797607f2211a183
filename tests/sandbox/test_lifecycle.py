"""One command brings everything up, keeps it up, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from sandbox.rest import find_postgrest
from tests.conftest import SandboxProcess, StartSandbox
from tests.processes import descendants, left_after

_ENV = {
    "SUPABASE_URL",
    "SUPABASE_ANON_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_JWT_SECRET",
    "SUPABASE_DB_URL",
    "EXCHANGE_BASE_URL",
    *(
        f"SANDBOX_USER_{who}_{what}"
        for who in "AB"
        for what in ("ID", "EMAIL", "PASSWORD", "TOKEN", "TRADER_ID", "API_KEY")
    ),
}


def _all_answer(sandbox: SandboxProcess) -> None:
    assert httpx.get(f"{sandbox.url}/rest/v1/", headers=sandbox.headers()).status_code == 200
    assert httpx.get(f"{sandbox.url}/auth/v1/health", headers=sandbox.headers()).status_code == 200
    assert httpx.get(f"{sandbox.env['EXCHANGE_BASE_URL']}/api/v3/ping").json() == {}
    with psycopg.connect(sandbox.env["SUPABASE_DB_URL"]) as connection:
        assert connection.execute("select current_user").fetchone() == ("postgres",)


def test_when_ready_every_part_answers(stack: SandboxProcess) -> None:
    _all_answer(stack)


def test_the_env_file_is_whole_and_private(stack: SandboxProcess) -> None:
    assert set(stack.env) == _ENV
    assert stack.env_file.stat().st_mode & 0o777 == 0o600
    assert httpx.URL(stack.env["EXCHANGE_BASE_URL"]).path == "/"
    user = httpx.get(
        f"{stack.url}/auth/v1/user",
        headers={
            "apikey": stack.env["SUPABASE_ANON_KEY"],
            "Authorization": f"Bearer {stack.env['SANDBOX_USER_A_TOKEN']}",
        },
    ).json()
    assert (user["id"], user["email"]) == (stack.env["SANDBOX_USER_A_ID"], stack.env["SANDBOX_USER_A_EMAIL"])


def test_secrets_are_readable_by_their_owner_alone(stack: SandboxProcess) -> None:
    private = [stack.data / "credentials.json", stack.data / "postgres" / "password"]
    assert [file.stat().st_mode & 0o777 for file in private] == [0o600, 0o600]


def test_a_restart_keeps_data_users_and_keys(start_sandbox: StartSandbox) -> None:
    first = start_sandbox()
    with psycopg.connect(first.env["SUPABASE_DB_URL"]) as connection:
        connection.execute("create table public.kept as select 7 as n")
    children = list(descendants(first.process.pid))
    began = time.monotonic()
    assert first.end() == 0
    assert time.monotonic() - began < 3
    assert left_after(children, 0.5) == []

    second = start_sandbox(data=first.data)
    rows = httpx.get(f"{second.url}/rest/v1/kept", headers=second.headers()).json()
    assert rows == [{"n": 7}]
    same = {"SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_JWT_SECRET"}
    same |= {name for name in _ENV if name.startswith("SANDBOX_") and not name.endswith("_TOKEN")}
    assert {name: second.env[name] for name in same} == {name: first.env[name] for name in same}
    second.end()


def test_killed_it_leaves_no_process_and_starts_again(start_sandbox: StartSandbox) -> None:
    first = start_sandbox()
    with psycopg.connect(first.env["SUPABASE_DB_URL"]) as connection:
        connection.execute("create table public.kept as select 7 as n")
    coins = {"apiKey": first.env["SANDBOX_USER_A_API_KEY"], "asset": "BTC", "free": "0.5"}
    httpx.post(f"{first.env['EXCHANGE_BASE_URL']}/_control/balance", json=coins).raise_for_status()
    children = descendants(first.process.pid)
    assert any("postgrest" in command for command in children.values())
    first.process.kill()
    assert left_after(children, 3) == []

    second = start_sandbox(data=first.data)
    assert httpx.get(f"{second.url}/rest/v1/kept", headers=second.headers()).json() == [{"n": 7}]
    held = httpx.get(f"{second.env['EXCHANGE_BASE_URL']}/_control/ledger").json()["balances"][coins["apiKey"]]
    assert (held["BTC"]["free"], held["USDT"]["free"]) == ("0.5", "100000")
    second.end()


def test_a_second_start_on_one_directory_is_refused(stack: SandboxProcess, start_sandbox: StartSandbox) -> None:
    second = start_sandbox(data=stack.data, ready=False)
    assert second.process.wait(30) == 1
    [line] = second.said().splitlines()
    assert "in use by another sandbox" in line
    assert stack.env_file.exists()
    _all_answer(stack)


def test_two_live_side_by_side(stack: SandboxProcess, start_sandbox: StartSandbox) -> None:
    other = start_sandbox()
    _all_answer(other)
    _all_answer(stack)
    foreign = httpx.get(f"{other.url}/rest/v1/", headers=stack.headers())
    assert foreign.status_code == 401
    other.end()


@pytest.mark.parametrize("option", ["--api-port", "--db-port", "--venue-port"])
def test_a_busy_port_is_said_in_one_line(start_sandbox: StartSandbox, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sandbox = start_sandbox(f"{option}={port}", ready=False)
        assert sandbox.process.wait(60) == 1
    last = sandbox.said().splitlines()[-1]
    assert f"port {port} is busy" in last
    assert option in last
    assert "Traceback" not in sandbox.said()


@pytest.mark.parametrize("victim", ["postgrest", "postgres"])
def test_a_child_that_dies_is_started_again(start_sandbox: StartSandbox, victim: str) -> None:
    sandbox = start_sandbox()
    children = descendants(sandbox.process.pid)
    [pid] = [pid for pid, command in children.items() if re.match(rf"/\S*/{victim}(-[\d.]+)*\0", command)]
    os.kill(pid, signal.SIGKILL)
    assert left_after([pid], 5) == []
    deadline = time.monotonic() + 20
    while True:
        answer = httpx.get(f"{sandbox.url}/rest/v1/", headers=sandbox.headers(), timeout=20)
        if answer.status_code == 200 and "starting it again" in sandbox.said():
            break
        assert time.monotonic() < deadline, sandbox.said()
    _all_answer(sandbox)
    assert sandbox.end() == 0


def test_interrupted_while_starting_it_ends_cleanly(start_sandbox: StartSandbox) -> None:
    sandbox = start_sandbox(ready=False)
    while "PostgreSQL" not in sandbox.said():
        assert sandbox.process.poll() is None
    children = list(descendants(sandbox.process.pid))
    sandbox.process.send_signal(signal.SIGINT)
    assert sandbox.process.wait(10) in (0, -signal.SIGINT)
    assert left_after(children, 3) == []
    assert "Traceback" not in sandbox.said()
    again = start_sandbox(data=sandbox.data)
    again.end()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
def test_an_ordinary_user_can_run_it(scratch: Path, stack: SandboxProcess) -> None:
    account = pwd.getpwnam("nobody")
    become = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    here = Path(__file__).parent.parent.parent
    python = next(
        (
            candidate
            for candidate in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
            if subprocess.run([*become, candidate, "-c", ""], capture_output=True).returncode == 0
        ),
        None,
    )
    if python is None or subprocess.run([*become, "test", "-r", here / "sandbox"]).returncode != 0:
        pytest.skip("the interpreter or this checkout is where only root may go")
    home = Path(tempfile.mkdtemp(dir=scratch))
    os.chown(home, account.pw_uid, account.pw_gid)
    paths = [str(here), *(path for path in sys.path if path.endswith("site-packages"))]
    postgrest = shutil.copy(find_postgrest(), home / "postgrest")  # ours may lie where only root may go
    environment = os.environ | {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(paths),
        "SANDBOX_POSTGREST": str(postgrest),
    }
    log = (scratch / "ordinary.log").open("w+")
    command = [*become, python, "-m", "sandbox", "up", "--api-port=0", "--db-port=0", "--venue-port=0"]
    process = subprocess.Popen(
        [*command, f"--data={home}/data"], stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=here
    )
    try:
        sandbox = SandboxProcess(process, home / "data", home / "data" / "env", Path(log.name))
        sandbox.wait_ready()
        _all_answer(sandbox)
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in descendants(process.pid)}
        assert owners == {account.pw_uid}
        assert sandbox.end() == 0
    finally:
        process.kill()
        process.wait()
        log.close()


def test_version_is_told() -> None:
    told = subprocess.run([sys.executable, "-m", "sandbox", "version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("sandbox of fillstream ")


def test_the_credentials_file_is_json(stack: SandboxProcess) -> None:
    kept = json.loads((stack.data / "credentials.json").read_text())
    assert kept["anon_key"] == stack.env["SUPABASE_ANON_KEY"]
