"""Which exchange each mode trades at: the worlds of the testnet and of real money never touch."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from worker.adapters.ccxt_exchange import CcxtMarket, GuardedConnector
from worker.adapters.ccxt_exchange.host_guard import Hosts
from worker.adapters.clock import SystemClock
from worker.app import App
from worker.config import Settings

SANDBOX = "http://127.0.0.1:54400"
LIVE = frozenset({("api.binance.com", 443), ("stream.binance.com", 9443), ("ws-api.binance.com", 443)})
TESTNET = frozenset(
    {("testnet.binance.vision", 443), ("stream.testnet.binance.vision", 443), ("ws-api.testnet.binance.vision", 443)}
)


def markets_of(modes: tuple[str, ...], base_url: str | None = None) -> tuple[dict[str, CcxtMarket], list[Hosts]]:
    """The market of each mode as the worker makes them, and the hosts that each connection may reach."""
    asked: list[Hosts] = []

    def connect(hosts: Hosts) -> GuardedConnector:
        asked.append(hosts)
        return GuardedConnector(frozenset())  # the test itself reaches nothing

    async def made() -> dict[str, CcxtMarket]:
        settings = Settings.model_validate(
            {
                "supabase_url": "http://127.0.0.1:9",
                "supabase_service_role_key": "key",
                "allowed_modes": modes,
                "exchange_base_url": base_url,
            }
        )
        app: Any = App(settings, connect)
        async with AsyncExitStack() as open_:
            return await app._markets(SystemClock(), open_)

    return asyncio.run(made()), asked


@pytest.mark.parametrize("modes", [("live",), ("paper", "live"), ("live", "paper"), ("paper",)])
def test_paper_and_live_share_the_live_market(modes: tuple[str, ...]) -> None:
    markets, hosts = markets_of(modes)
    assert markets.keys() == set(modes)
    assert len(set(markets.values())) == 1
    assert hosts == [LIVE]


@pytest.mark.parametrize("modes", [("testnet", "live"), ("live", "testnet"), ("paper", "testnet", "live")])
def test_the_testnet_is_a_world_of_its_own(modes: tuple[str, ...]) -> None:
    markets, hosts = markets_of(modes)
    assert markets["testnet"] is not markets["live"]
    assert set(hosts) == {LIVE, TESTNET}
    urls: Any = {mode: vars(market)["_exchange"].urls["api"]["private"] for mode, market in markets.items()}
    assert urls["testnet"] == "https://testnet.binance.vision/api/v3"
    assert urls["live"] == "https://api.binance.com/api/v3"


def test_an_exchange_set_by_hand_is_the_only_one_there_is() -> None:
    markets, hosts = markets_of(("paper", "testnet"), SANDBOX)
    assert markets["paper"] is markets["testnet"]
    assert hosts == [{("127.0.0.1", 54400)}]
