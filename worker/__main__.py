"""The command line: `python -m worker …`, installed as `fillstream`."""

from __future__ import annotations

import asyncio
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from worker import config, log

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

BAD_SETTINGS = 2
INTERRUPTED = 130
LogFormat = Literal["auto", "text", "json"]
EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Read settings from this file instead of .env.")]


@app.command()
def run(
    env_file: EnvFile = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Instead of LOG_FORMAT.")] = None,
) -> None:
    """Serve the project at SUPABASE_URL until stopped."""
    settings = _settings(env_file)
    log.configure(
        settings.log_level, log_format or settings.log_format, [settings.supabase_service_role_key.get_secret_value()]
    )
    from worker.app import serve  # its libraries take a second to import, which no bad setting should wait for

    try:
        code = serve(settings)
    except config.SettingsError as error:
        code = _say_bad_settings(error)
    raise typer.Exit(code)


@app.command()
def demo(
    signals: Annotated[
        int, typer.Option(min=3, max=1000, help="How many signals; the last two are planted bad ones.")
    ] = 20,
    mode: Annotated[str, typer.Option(help="paper or testnet.")] = "paper",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON last, for programs.")] = False,
) -> None:
    """Show it all: an embedded Supabase and exchange, a worker, signals, and positions opening live."""
    from worker.demo import DemoError, demonstrate

    if mode not in config.SHOWN:
        typer.echo(f"fillstream: --mode {mode}: only {', '.join(config.SHOWN)} can be demonstrated", err=True)
        raise typer.Exit(BAD_SETTINGS)
    try:
        code = asyncio.run(demonstrate(signals, mode, as_json))
    except DemoError as error:
        typer.echo(f"fillstream: the demonstration ended early: {error}", err=True)
        code = 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"fillstream {metadata.version('fillstream')}")


def _settings(env_file: Path | None) -> config.Settings:
    try:
        return config.read_settings(env_file)
    except config.SettingsError as error:
        raise typer.Exit(_say_bad_settings(error)) from None


def _say_bad_settings(error: config.SettingsError) -> int:
    typer.echo(f"fillstream: {error}", err=True)
    return BAD_SETTINGS


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
