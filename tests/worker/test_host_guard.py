"""No byte leaves for a host that is not the exchange's: by name, by number, by redirect, by websocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from streams.domain.errors import Broken, Transient
from tests.domain import specimens
from tests.end_to_end.pinned_worker import Pin
from tests.sandbox.venue_client import play, serving
from tests.worker.test_user_stream import Purse
from worker.adapters.ccxt_exchange import CcxtExchange, CcxtMarket
from worker.adapters.ccxt_exchange.host_guard import ForbiddenHost, GuardedConnector, Hosts, spot_hosts
from worker.adapters.clock import SystemClock

Story = Callable[[aiohttp.ClientSession, str, str], Coroutine[Any, Any, None]]


def between_two_servers(story: Story) -> None:
    """A session that may reach the first of two servers; the first redirects to the second where asked to."""

    async def told() -> None:
        reached: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            reached.append(request.host)
            if "to" in request.query:
                raise web.HTTPFound(request.query["to"])
            return web.Response(text="here")

        runners, origins = list[web.AppRunner](), list[str]()
        for _ in range(2):
            application = web.Application()
            application.router.add_get("/", answer)
            runner = web.AppRunner(application)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            runners.append(runner)
            origins.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        allowed = urlsplit(origins[0])
        connector = GuardedConnector(frozenset({(str(allowed.hostname), int(allowed.port or 0))}))
        async with aiohttp.ClientSession(connector=connector) as session:
            await story(session, *origins)
        assert f"{urlsplit(origins[1]).netloc}" not in reached
        for runner in runners:
            await runner.cleanup()

    asyncio.run(told())


def test_the_exchanges_own_host_is_reached() -> None:
    async def story(session: aiohttp.ClientSession, own: str, _: str) -> None:
        async with session.get(own) as answer:
            assert await answer.text() == "here"

    between_two_servers(story)


@pytest.mark.parametrize("how", ["straight", "redirected", "by websocket", "by name"])
def test_another_host_is_not(how: str) -> None:
    async def story(session: aiohttp.ClientSession, own: str, other: str) -> None:
        reach: dict[str, Callable[[], Any]] = {
            "straight": lambda: session.get(other),
            "redirected": lambda: session.get(own, params={"to": other}),
            "by websocket": lambda: session.ws_connect(other),
            "by name": lambda: session.get("https://api.binance.com"),
        }
        with pytest.raises(ForbiddenHost) as raised:
            await reach[how]()
        assert "nothing was sent there" in str(raised.value)

    between_two_servers(story)


def test_a_url_that_was_forgotten_costs_a_question_and_reaches_nobody() -> None:
    async def story() -> None:
        pins: list[Pin] = []

        def pinned(hosts: Hosts) -> GuardedConnector:
            pins.append(Pin(1))
            return GuardedConnector(hosts, resolver=pins[-1])

        async with serving() as served:
            market = CcxtMarket(SystemClock(), served.origin, connect=pinned)
            await market.start()
            try:
                await market.loaded.wait()
                inside: Any = market
                inside._exchange.urls["api"]["public"] = "https://api.binance.com/api/v3"
                with pytest.raises(Transient) as raised:
                    await market.book("BTC/USDT")
                assert isinstance(getattr(raised.value.__cause__, "__cause__", None), ForbiddenHost)
                assert pins[0].asked == []
            finally:
                await market.close()

    play(story())


@pytest.mark.parametrize(
    ("testnet", "names"),
    [
        (False, {("api.binance.com", 443), ("stream.binance.com", 9443), ("ws-api.binance.com", 443)}),
        (
            True,
            {
                ("testnet.binance.vision", 443),
                ("stream.testnet.binance.vision", 443),
                ("ws-api.testnet.binance.vision", 443),
            },
        ),
    ],
)
def test_each_environment_has_its_own_hosts(testnet: bool, names: set[tuple[str, int]]) -> None:
    asked: list[Hosts] = []

    def noted(hosts: Hosts) -> GuardedConnector:
        asked.append(hosts)
        return GuardedConnector(frozenset())

    async def story() -> None:
        market = CcxtMarket(SystemClock(), testnet=testnet, connect=noted)
        await market.start()
        await market.close()

    play(story())
    assert asked == [frozenset(names)]


def test_a_repointed_exchange_has_one_host() -> None:
    market: Any = CcxtMarket(SystemClock(), "http://127.0.0.1:54400")
    assert spot_hosts(market._exchange.urls["api"]) == frozenset({("127.0.0.1", 54400)})


def test_an_account_of_another_mode_is_turned_away() -> None:
    async def story() -> None:
        exchange = CcxtExchange("live", CcxtMarket(SystemClock()), Purse(), SystemClock())
        with pytest.raises(Broken, match="testnet"):
            await exchange.funds(specimens.brief(mode="testnet"))

    play(story())
