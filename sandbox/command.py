"""The sandbox's command line: `python -m sandbox up`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.markup import escape

from sandbox.lock import DirectoryInUse
from sandbox.migrations import MigrationError
from sandbox.ports import PortBusy
from sandbox.postgres import PostgresError
from sandbox.replication import ReplicationError
from sandbox.rest import RestError
from sandbox.stack import PROJECT, Options, Stack, StackFailed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A Supabase and an exchange on this machine, without Docker.",
)
_progress = Console(stderr=True, highlight=False)

_FAILURES = (
    DirectoryInUse,
    MigrationError,
    OSError,
    PortBusy,
    PostgresError,
    ReplicationError,
    RestError,
    StackFailed,
    psycopg.Error,
)

_Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")]


@app.callback()
def _commands() -> None:
    """Keep `up` a command of its own."""


@app.command()
def up(
    api_port: _Port = 54321,
    db_port: _Port = 54322,
    venue_port: _Port = 54400,
    data: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".sandbox"),
    env_file: Annotated[
        Path | None, typer.Option(help="Where the addresses and keys are written; DATA/env if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the venue's prices.")] = 1,
    symbols: Annotated[int, typer.Option(min=1, max=3000, help="How many the venue lists.")] = 24,
    pace: Annotated[
        int | None,
        typer.Option(min=1, help="Milliseconds between two moves of any price; without it, its own."),
    ] = None,
    fsync: Annotated[bool, typer.Option(help="Survive a power cut.")] = True,
    project: Annotated[
        Path, typer.Option(envvar="SANDBOX_PROJECT", help="The folder of migrations, functions and seed.sql.")
    ] = PROJECT,
) -> None:
    """Start everything, print `ready`, and run until interrupted."""
    place = (env_file or data / "env").resolve()
    options = Options(
        data.resolve(), api_port, db_port, venue_port, seed, symbols, pace, fsync, place, project.resolve()
    )
    raise typer.Exit(asyncio.run(_run(options)))


@app.command()
def version() -> None:
    """Print the version."""
    try:
        number = installed_version("fillstream")
    except PackageNotFoundError:
        number = "0 (not installed)"
    sys.stdout.write(f"sandbox of fillstream {number}\n")


async def _run(options: Options) -> int:
    began = time.monotonic()
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted.set)

    stack = Stack(options, _say)
    stopping = asyncio.create_task(interrupted.wait())
    try:
        starting = asyncio.create_task(stack.start())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return 0
        starting.result()
        _say(f"{stack.env['SUPABASE_URL']}, settings in {options.env_file}")
        _say(f"up after {time.monotonic() - began:.1f} s; Ctrl-C ends it")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        watching = asyncio.create_task(stack.watch())
        await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        watching.cancel()
    except _FAILURES as error:
        _progress.print(f"[red]sandbox[/] {escape(str(error))}", soft_wrap=True)
        return 1
    finally:
        stopping.cancel()
        await stack.stop()
    _say("stopped")
    return 0


def _say(line: str) -> None:
    _progress.print(f"[dim]sandbox[/] {escape(line)}", soft_wrap=True)
