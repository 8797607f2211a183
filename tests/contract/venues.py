"""Markets to try contracts on: one in memory in virtual time, and the sandbox's through ccxt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from streams.ports import Market
from tests.end_to_end.product import Project
from tests.streams.fakes import FakeMarket
from tests.streams.virtual_loop import VirtualLoop
from worker.adapters.ccxt_exchange import CcxtMarket
from worker.adapters.clock import SystemClock

LOAD_SECONDS = 30.0
Scenario = Callable[[Market], Coroutine[Any, Any, None]]
Venue = Callable[[Scenario], None]
"""Runs a scenario on its market."""


def fake_venue(scenario: Scenario) -> None:
    """On a market in memory."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario(FakeMarket()))


def sandbox_venue(project: Project) -> Venue:
    """On the sandbox's exchange."""

    def run(scenario: Scenario) -> None:
        asyncio.run(_on_ccxt(project.env["EXCHANGE_BASE_URL"], scenario))

    return run


async def _on_ccxt(base_url: str, scenario: Scenario) -> None:
    market = CcxtMarket(SystemClock(), base_url)
    await market.start()
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            await market.loaded.wait()
        await scenario(market)
    finally:
        await market.close()
