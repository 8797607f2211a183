"""Runs the venue alone: `python -m sandbox.venue --port 54400 --seed 7 --symbols 24`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web

from sandbox.venue.exchange import Venue


def main() -> int:
    """Serves until interrupted; 2 where it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.venue", description="A Binance-Spot-compatible exchange.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=54400, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="prices follow from it (default: %(default)s)")
    parser.add_argument("--symbols", type=int, default=24, help="how many to list (default: %(default)s)")
    parser.add_argument("--pace", type=int, help="ms between two moves of every market (default: each its own)")
    parser.add_argument("--journal", type=Path, help="file that keeps accounts and orders over a restart")
    asked = parser.parse_args()
    try:
        venue = Venue(asked.seed, asked.symbols, asked.journal, pace_ms=asked.pace)
        asyncio.run(_serve(venue, asked.host, asked.port))
    except (ValueError, OverflowError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"cannot listen on {asked.host}:{asked.port}: {error.strerror}; choose another --port\n")
        return 2
    return 0


async def _serve(venue: Venue, host: str, port: int) -> None:
    stopping = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    runner = web.AppRunner(venue.application(), access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        sys.stdout.write(f"ready http://{host}:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
