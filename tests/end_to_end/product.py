"""The product as its users have it: worker processes, signed-up users, rows in and rows out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.connections import HTTP, database

READY_SECONDS = 30.0
STOP_SECONDS = 25.0
LOOK_SECONDS = 0.02


def wait_until(what: str, holds: Callable[[], object], seconds: float = 15.0) -> float:
    """Look until something holds, and return how many seconds that took; fail when it does not in time."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - begun


@dataclass
class Worker:
    """`python -m worker run` as a child, its log in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def events(self) -> list[dict[str, Any]]:
        """What it logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def alarms(self) -> list[dict[str, Any]]:
        """What it logged so far that somebody would have to look at."""
        return [one for one in self.events() if one["level"] in ("error", "critical")]

    def wait_for(self, event: str, seconds: float = READY_SECONDS) -> None:
        """Wait until it has logged an event."""

        def logged() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.log.read_text()}"
            return any(one["event"] == event for one in self.events())

        wait_until(f"the worker logs {event!r}", logged, seconds)

    def live_for(self, seconds: float) -> None:
        """Let it live for so long; it is not to end meanwhile."""
        with pytest.raises(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def cpu_seconds(self) -> float:
        """What it has used of processors so far, in the user's time and in the kernel's."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """What it has in memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> int:
        """End it as an operator does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it whatever state it is in, in order where it can: what it held is free for the next one then."""
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()


def launch_worker(
    env: Mapping[str, str], log: Path, *arguments: str, module: str | None = None, **settings: str
) -> Worker:
    """Start a worker on a project, or a module that runs one; settings are environment variables."""
    wanted = {name: env[name] for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "EXCHANGE_BASE_URL")}
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", *((module,) if module else ("worker", "run")), *arguments],
            env={**inherited, **wanted, "LOG_FORMAT": "json", **settings},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    return Worker(process, log)


@dataclass(frozen=True)
class User:
    """Somebody who signed up, with a paper trader of theirs."""

    id: str
    token: str
    trader_id: str
    email: str
    password: str


@dataclass
class Project:
    """A Supabase project as its clients reach it, and its database as the operator does."""

    env: Mapping[str, str]

    def headers(self, token: str | None = None) -> dict[str, str]:
        """Headers of a user with this token, or of the service role."""
        if token is None:
            key = self.env["SUPABASE_SERVICE_ROLE_KEY"]
            return {"apikey": key, "Authorization": f"Bearer {key}"}
        return {"apikey": self.env["SUPABASE_ANON_KEY"], "Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, token: str | None = None, **arguments: Any) -> httpx.Response:
        """One request to the project, as a user or as the service role."""
        headers = {**self.headers(token), **arguments.pop("headers", {})}
        url = f"{self.env['SUPABASE_URL']}{path}"
        return HTTP.request(method, url, headers=headers, **arguments)

    def sign_up(self, risk_config: Mapping[str, Any] | None = None, **limits: Any) -> User:
        """Sign a user up with a trader; limits are set by themselves, generous unless told."""
        email, password = f"{uuid.uuid4().hex[:12]}@example.com", uuid.uuid4().hex
        anonymous = {"apikey": self.env["SUPABASE_ANON_KEY"]}
        answer = HTTP.post(
            f"{self.env['SUPABASE_URL']}/auth/v1/signup",
            headers=anonymous,
            json={"email": email, "password": password},
        ).raise_for_status()
        session = answer.json()
        token, user_id = session["access_token"], session["user"]["id"]
        row = {
            "user_id": user_id,
            "name": "trader",
            "risk_config": risk_config or {"position_size": {"type": "fixed", "value": "100"}},
        }
        made = self.request(
            "POST", "/rest/v1/traders", token, json=row, headers={"Prefer": "return=representation"}
        ).raise_for_status()
        generous = {"max_position_size_usdt": "100000", "max_total_exposure_usdt": "1000000", **limits}
        self.request(
            "PATCH", f"/rest/v1/risk_limits?user_id=eq.{user_id}&trader_id=is.null", token, json=generous
        ).raise_for_status()
        return User(user_id, token, made.json()[0]["id"], email, password)

    def signal(self, user: User, symbol: str = "BTC/USDT", **columns: Any) -> str:
        """Insert one signal as the service role; returns its id."""
        return self.signals([{"user_id": user.id, "trader_id": user.trader_id, "symbol": symbol, **columns}])[0]

    def signals(self, rows: list[dict[str, Any]]) -> list[str]:
        """Insert signals in one statement; returns their ids."""
        full = [{"id": str(uuid.uuid4()), "decision": "enter_trade", **row} for row in rows]
        self.request("POST", "/rest/v1/signals", json=full, headers={"Prefer": "return=minimal"}).raise_for_status()
        return [row["id"] for row in full]

    def rows(self, query: str, *parameters: object, **named: object) -> list[dict[str, Any]]:
        """Rows as they stand in the database; numerics are Decimal."""
        return database(self.env["SUPABASE_DB_URL"]).execute(query.encode(), named or parameters).fetchall()

    def execute(self, statements: str) -> None:
        """Run statements as the database's owner."""
        with psycopg.connect(self.env["SUPABASE_DB_URL"], autocommit=True) as connection:
            connection.execute(statements.encode())

    def statuses(self, ids: list[str]) -> list[str]:
        """The status of each signal, in the order of their ids as given."""
        found = {
            str(row["id"]): row["status"]
            for row in self.rows("select id, status from signals where id = any(%s)", [uuid.UUID(one) for one in ids])
        }
        return [found[one] for one in ids]

    def wait_for(self, ids: list[str], status: str = "in_position", seconds: float = 15.0) -> float:
        """Wait until every signal has a status; returns the seconds it took."""
        return wait_until(f"{len(ids)} signals {status}", lambda: set(self.statuses(ids)) == {status}, seconds)

    def control(self, path: str, body: Mapping[str, Any]) -> Any:
        """Turn a knob of the gateway, `realtime` or `rest`; returns all its knobs as they stand now."""
        return self.request("POST", f"/_control/{path}", json=body).raise_for_status().json()

    def venue(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Turn a knob of the exchange, or read its ledger."""
        return HTTP.request(method, f"{self.env['EXCHANGE_BASE_URL']}/_control/{path}", json=body).raise_for_status()
