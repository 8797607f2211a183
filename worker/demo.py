"""A demonstration from nothing: an embedded Supabase and exchange, a worker, signals, and positions opening.

It uses the product as its users do: processes of their own, rows in by the service role, rows out under each
user's own rights.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

SYMBOLS = ("BTC", "ETH", "SOL", "BNB", "XRP", "ADA", "DOGE", "LTC", "LINK", "AVAX", "DOT", "TRX")
PLANTED = (
    {"symbol": "NOSUCHCOIN/USDT", "reasoning": "planted: a coin that no exchange knows"},
    {"symbol": "BTC/USDT", "side": "short", "reasoning": "planted: a short, which is not supported"},
)
ENDED = ("in_position", "completed", "rejected", "failed", "expired")
START_SECONDS = 90.0
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.1
PAUSE_SECONDS = 0.12  # between signals, so that each one's latency is its own
PR_SET_PDEATHSIG = 1


class DemoError(Exception):
    """The demonstration could not go on; the text says why."""


@dataclass
class Progress:
    """What is on screen: the signals by id, with what their owners see of them."""

    wanted: int
    signals: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    positions: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def ended(self) -> bool:
        """Whether every signal has been answered."""
        return len(self.signals) == self.wanted and all(one["status"] in ENDED for one in self.signals.values())

    def opened(self) -> int:
        """Signals that became open positions."""
        return sum(one["status"] in ("in_position", "completed") for one in self.signals.values())

    def refused(self) -> int:
        """Signals that a rule refused."""
        return sum(one["status"] == "rejected" for one in self.signals.values())

    def table(self) -> Table:
        """The live table: one line a signal, newest last."""
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, 1),
            caption="ms: from the signal's row to its open position",
            caption_justify="left",
        )
        for heading in ("signal", "status", "quantity", "entry", "stop", "target", "ms"):
            left = heading in ("signal", "status")
            table.add_column(heading, justify="left" if left else "right", no_wrap=True, min_width=4)
        for signal_id, row in self.signals.items():
            position = self.positions.get(signal_id, {})
            table.add_row(
                row["symbol"] if row["side"] == "long" else f"{row['symbol']} {row['side']}",
                _coloured(row, position),
                *(_shown(position.get(name)) for name in ("quantity", "price", "stop", "target")),
                "" if position.get("latency") is None else f"{position['latency']:.0f}",
            )
        return table


async def demonstrate(signals: int, mode: str, as_json: bool) -> int:
    """Run the demonstration. Returns the exit code: 0 where every signal ended as planned. Raises DemoError."""
    console = Console(stderr=as_json)
    with tempfile.TemporaryDirectory(prefix="fillstream-demo-") as folder:
        env_file = Path(folder) / "env"
        ports = [f"--{name}-port=0" for name in ("api", "db", "venue")]
        with console.status("starting the embedded Supabase and exchange …") as status:
            sandbox = ("-m", "sandbox", "up", *ports, f"--data={folder}/data", f"--env-file={env_file}")
            async with _process("the sandbox", sandbox, "stdout"):
                env = {name: value or "" for name, value in dotenv_values(env_file).items()}
                status.update("starting the worker …")
                worker = ("-m", "worker", "run", f"--env-file={env_file}", "--log-format=json")
                async with _process("the worker", worker, "stderr"):
                    status.stop()
                    progress = await _trade(env, signals, mode, console)
    return _summarise(progress, mode, as_json, console)


async def _trade(env: Mapping[str, str], count: int, mode: str, console: Console) -> Progress:
    progress = Progress(count)
    async with httpx.AsyncClient(base_url=f"{env['SUPABASE_URL']}/rest/v1/", timeout=10.0) as client:
        await _set_mode(client, env, mode)
        sending = asyncio.create_task(_send(client, env, count))
        with Live(progress.table(), console=console, refresh_per_second=10, transient=False) as live:
            try:
                async with asyncio.timeout(START_SECONDS):
                    while not progress.ended():
                        await asyncio.sleep(LOOK_SECONDS)
                        await _look(client, env, progress)
                        live.update(progress.table())
                        if sending.done():
                            sending.result()
            except TimeoutError:
                raise DemoError(f"only {progress.opened() + progress.refused()} of {count} signals ended") from None
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    return progress


async def _set_mode(client: httpx.AsyncClient, env: Mapping[str, str], mode: str) -> None:
    """Move both traders to the mode, as their owners do it."""
    for user in "AB":
        headers = {"apikey": env["SUPABASE_ANON_KEY"], "Authorization": f"Bearer {env[f'SANDBOX_USER_{user}_TOKEN']}"}
        wanted = {"p_trader_id": env[f"SANDBOX_USER_{user}_TRADER_ID"], "p_mode": mode}
        answer = await client.post("rpc/set_trader_mode", json=wanted, headers=headers)
        if answer.is_error:
            raise DemoError(f"user {user}'s trader could not be set to {mode}: {answer.json().get('message')}")


async def _send(client: httpx.AsyncClient, env: Mapping[str, str], count: int) -> None:
    """Insert the signals as a screener would: by the service role, one after another."""
    key = env["SUPABASE_SERVICE_ROLE_KEY"]
    headers = {"apikey": key, "Authorization": f"Bearer {key}", "Prefer": "return=minimal"}
    for number in range(count):
        user = "AB"[number % 2]
        planted = PLANTED[count - 1 - number] if number >= count - len(PLANTED) else {}
        row = {
            "user_id": env[f"SANDBOX_USER_{user}_ID"],
            "trader_id": env[f"SANDBOX_USER_{user}_TRADER_ID"],
            "symbol": f"{SYMBOLS[number % len(SYMBOLS)]}/USDT",
            "decision": "enter_trade",
            "reasoning": "demonstration",
            **planted,
        }
        (await client.post("signals", json=row, headers=headers)).raise_for_status()
        await asyncio.sleep(PAUSE_SECONDS)


async def _look(client: httpx.AsyncClient, env: Mapping[str, str], progress: Progress) -> None:
    """Read what each user sees, with that user's token."""
    for user in "AB":
        token = env[f"SANDBOX_USER_{user}_TOKEN"]
        headers = {"apikey": env["SUPABASE_ANON_KEY"], "Authorization": f"Bearer {token}"}
        fields = "id,seq,symbol,side,status,refusal_code,refusal_reason"
        for row in await _rows(client, f"signals?select={fields}&order=seq", headers):
            progress.signals[row["id"]] = row
        fields = "signal_id,status,entry_quantity::text,entry_price::text,stop_loss_price::text,take_profit_price::text"
        stamps = "execution_timeline?select=position_id,signal_ready_at,opened_at"
        timeline = {row["position_id"]: row for row in await _rows(client, stamps, headers)}
        for row in await _rows(client, f"positions?select=id,{fields}", headers):
            progress.positions[row["signal_id"]] = {
                "status": row["status"],
                "quantity": row["entry_quantity"],
                "price": row["entry_price"],
                "stop": row["stop_loss_price"],
                "target": row["take_profit_price"],
                "latency": _latency(timeline.get(row["id"], {})),
            }


async def _rows(client: httpx.AsyncClient, query: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    answer = await client.get(query, headers=headers)
    answer.raise_for_status()
    return answer.json()


def _latency(stamps: Mapping[str, Any]) -> float | None:
    """Milliseconds from the signal's row being ready to its position being open, by the database's clock."""
    if not stamps.get("signal_ready_at") or not stamps.get("opened_at"):
        return None
    begun, opened = (datetime.fromisoformat(stamps[name]) for name in ("signal_ready_at", "opened_at"))
    return round((opened - begun).total_seconds() * 1000, 1)


def _summarise(progress: Progress, mode: str, as_json: bool, console: Console) -> int:
    latencies = sorted(one["latency"] for one in progress.positions.values() if one["latency"] is not None)
    latency = {"p50": _percentile(latencies, 50), "p99": _percentile(latencies, 99)}
    result = {
        "signals": progress.wanted,
        "opened": progress.opened(),
        "refused": progress.refused(),
        "latency_ms": latency,
    }
    for row in progress.signals.values():
        if row["refusal_code"]:
            said = f"\nrefused: [bold]{row['refusal_code']}[/] {row['refusal_reason']}"
            console.print(said, highlight=False, soft_wrap=True, end="")
    console.print()
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        console.print(
            f"[bold green]{result['opened']} of {result['signals']} signals became open {mode} positions[/], "
            f"{result['refused']} were refused for a stated reason.\n"
            f"From the signal's row to the open position: p50 {latency['p50']} ms, p99 {latency['p99']} ms.",
            soft_wrap=True,
        )
    planted = min(len(PLANTED), progress.wanted)
    return 0 if result["opened"] == progress.wanted - planted and result["refused"] == planted else 1


def _percentile(ordered: list[float], percent: int) -> float | None:
    return ordered[min(len(ordered) - 1, round((len(ordered) - 1) * percent / 100))] if ordered else None


@asynccontextmanager
async def _process(name: str, arguments: tuple[str, ...], ready_on: str) -> AsyncGenerator[None]:
    """Run a process of ours until the block ends; entered once it says `ready`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours: they are ended in their order
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    said: list[str] = []
    ready = asyncio.Event()
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        asyncio.create_task(_read(process.stdout, said, ready if ready_on == "stdout" else None)),
        asyncio.create_task(_read(process.stderr, said, ready if ready_on == "stderr" else None)),
    ]
    ended = asyncio.create_task(process.wait())
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait([ended, waiting], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            raise DemoError(f"{name} did not start: " + (said[-1] if said else "it said nothing"))
        yield
    finally:
        waiting.cancel()
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(ended), STOP_SECONDS)
            except TimeoutError:
                process.kill()
        await asyncio.gather(ended, waiting, *readers, return_exceptions=True)


async def _read(stream: asyncio.StreamReader, said: list[str], ready: asyncio.Event | None) -> None:
    async for raw in stream:
        line = raw.decode(errors="replace").strip()
        if line:
            said[:] = [*said[-20:], line]
        if ready is not None and (line == "ready" or '"event": "ready"' in line):
            ready.set()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _coloured(row: Mapping[str, Any], position: Mapping[str, Any]) -> str:
    status = "refused" if row["refusal_code"] else str(position.get("status") or row["status"])
    colour = {"open": "green", "monitoring": "green", "submitting": "yellow", "ready": "dim"}.get(status, "red")
    return f"[{colour}]{status}[/]"


def _shown(value: object) -> str:
    return "" if value is None else str(value)
