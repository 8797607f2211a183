"""A worker as `python -m worker run` starts it, in a world where every name of the internet is this machine.

PINNED_PORT is where all of it answers, PINNED_CA the file of the authority that vouches for it. PINNED_DENIED takes a
host from those of the exchange, as if the worker had no business there.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from pathlib import Path

from aiohttp.abc import AbstractResolver, ResolveResult

from worker.adapters.ccxt_exchange import GuardedConnector
from worker.adapters.ccxt_exchange.host_guard import Hosts
from worker.app import serve
from worker.config import read_settings
from worker.log import configure


class Pin(AbstractResolver):
    """Every name is on loopback, at one port; `asked` is what was looked up."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=self._port, family=family, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def pinned(hosts: Hosts, port: int, authority: Path) -> GuardedConnector:
    """A guarded connector of that world: the guard is the product's own, and stays on."""
    trusting = ssl.create_default_context(cafile=str(authority))
    return GuardedConnector(hosts, resolver=Pin(port), ssl=trusting, use_dns_cache=False)


def main() -> int:
    """Run until stopped."""
    settings = read_settings()
    configure(settings.log_level, settings.log_format, [settings.supabase_service_role_key.get_secret_value()])
    port, authority = int(os.environ["PINNED_PORT"]), Path(os.environ["PINNED_CA"])
    denied = os.environ.get("PINNED_DENIED")
    return serve(settings, lambda hosts: pinned(frozenset(one for one in hosts if one[0] != denied), port, authority))


if __name__ == "__main__":
    sys.exit(main())
