"""The command line: `python -m worker …`, installed as `fillstream`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from worker import config, log

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

BAD_SETTINGS = 2
EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Read settings from this file instead of .env.")]


@app.command()
def run(env_file: EnvFile = None) -> None:
    """Serve the project at SUPABASE_URL until stopped."""
    settings = _settings(env_file)
    log.configure(settings.log_level, settings.log_format, [settings.supabase_service_role_key.get_secret_value()])
    from worker.app import serve  # its libraries take a second to import, which no bad setting should wait for

    raise typer.Exit(serve(settings))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"fillstream {metadata.version('fillstream')}")


def _settings(env_file: Path | None) -> config.Settings:
    try:
        return config.read_settings(env_file)
    except config.SettingsError as error:
        typer.echo(f"fillstream: {error}", err=True)
        raise typer.Exit(BAD_SETTINGS) from None


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
