"""No byte leaves for a host that is not the exchange's: by name, by number, by redirect, by websocket, by proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from streams.domain.errors import Broken, Transient, Unknown
from streams.domain.order import Order
from streams.ports import Keys
from tests.domain import specimens
from tests.end_to_end.pinned_worker import Pin
from tests.sandbox.venue_client import play, serving
from tests.worker.test_trading import Venue, run
from tests.worker.test_user_stream import Purse
from worker.adapters.ccxt_exchange import CcxtExchange, CcxtMarket
from worker.adapters.ccxt_exchange.host_guard import (
    ForbiddenHost,
    GuardedConnector,
    Hosts,
    Redirected,
    guarded_session,
    hosts_of,
)
from worker.adapters.clock import SystemClock

Story = Callable[[aiohttp.ClientSession, str, str], Coroutine[Any, Any, None]]
REAL_URL = "https://api.binance.com/api/v3"


def between_two_servers(story: Story, requests: int = 0) -> None:
    """A session that may reach the first of two servers, which redirects where asked to, and is asked so often."""

    async def told() -> None:
        reached: list[str] = []

        async def answer(request: web.Request) -> web.StreamResponse:
            reached.append(request.host)
            if "to" in request.query:
                raise web.HTTPTemporaryRedirect(request.query["to"])
            return web.Response(text="here")

        async def stream(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket

        runners, origins = list[web.AppRunner](), list[str]()
        for _ in range(2):
            application = web.Application()
            application.router.add_route("*", "/", answer)
            application.router.add_get("/stream", stream)
            runner = web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            runners.append(runner)
            origins.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        allowed = urlsplit(origins[0])
        connector = GuardedConnector(frozenset({(str(allowed.hostname), int(allowed.port or 0))}))
        async with guarded_session(connector) as session:
            await story(session, *origins)
        assert reached == [allowed.netloc] * requests
        for runner in runners:
            await runner.cleanup()

    asyncio.run(told())


def test_the_exchanges_own_host_is_reached() -> None:
    async def story(session: aiohttp.ClientSession, own: str, _: str) -> None:
        async with session.get(own) as answer:
            assert await answer.text() == "here"

    between_two_servers(story, requests=1)


@pytest.mark.parametrize("how", ["straight", "by websocket", "by name", "by another name of it", "by proxy"])
def test_another_host_is_not(how: str) -> None:
    async def story(session: aiohttp.ClientSession, own: str, other: str) -> None:
        reach: dict[str, Callable[[], Any]] = {
            "straight": lambda: session.get(other),
            "by websocket": lambda: session.ws_connect(other),
            "by name": lambda: session.get("https://api.binance.com"),
            "by another name of it": lambda: session.get(own.replace("127.0.0.1", "localhost")),
            "by proxy": lambda: session.get(own, proxy=other),
        }
        with pytest.raises(ForbiddenHost) as raised:
            await reach[how]()
        assert "nothing was sent there" in str(raised.value)

    between_two_servers(story)


@pytest.mark.parametrize("method", ["GET", "POST", "websocket"])
@pytest.mark.parametrize("home", [True, False])
def test_no_redirect_is_followed_not_even_home(method: str, home: bool) -> None:
    async def story(session: aiohttp.ClientSession, own: str, other: str) -> None:
        to = {"to": own if home else other}
        ask: dict[str, Callable[[], Any]] = {
            "GET": lambda: session.get(own, params=to),
            "POST": lambda: session.post(own, params=to, data=b"an order"),
            "websocket": lambda: session.ws_connect(own, params=to),
        }
        with pytest.raises(Redirected):
            await ask[method]()

    between_two_servers(story, requests=1)


def test_no_number_of_streams_keeps_a_request_waiting() -> None:
    async def story(session: aiohttp.ClientSession, own: str, _: str) -> None:
        streams = [await session.ws_connect(f"{own}/stream") for _ in range(120)]
        async with asyncio.timeout(10), session.get(own) as answer:
            assert await answer.text() == "here"
        await asyncio.gather(*(stream.close() for stream in streams))

    between_two_servers(story, requests=1)


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
                inside._exchange.urls["api"]["public"] = REAL_URL
                with pytest.raises(Transient) as raised:
                    await market.book("BTC/USDT")
                assert isinstance(getattr(raised.value.__cause__, "__cause__", None), ForbiddenHost)
                assert pins[0].asked == []
            finally:
                await market.close()

    play(story())


def test_an_order_to_a_url_that_was_forgotten_was_surely_not_sent() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Any, order: Order) -> None:
        inside: Any = exchange
        inside._market._exchange.urls["api"]["private"] = REAL_URL
        with pytest.raises(Transient, match="never left"):
            await exchange.place(order)
        assert venue.sent == []

    run(scenario)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["/api/v3/order", "https://elsewhere.example/api/v3/order"])
def test_an_order_answered_with_a_redirect_may_have_been_placed_and_is_not_sent_again(status: int, to: str) -> None:
    async def lead(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    async def scenario(venue: Venue, exchange: CcxtExchange, _: Any, order: Order) -> None:
        venue.handlers["POST", "order"] = lead
        with pytest.raises(Unknown):
            await exchange.place(order)
        assert [(method, name) for method, name, _ in venue.sent] == [("POST", "order")]

    run(scenario)


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
        inside: Any = market
        assert hosts_of({"api": inside._exchange.urls["api"]}, testnet=False, base_url=None) == names  # those in use
        await market.close()

    play(story())
    assert asked == [frozenset(names)]


def test_a_repointed_exchange_has_one_host_whatever_its_urls_say() -> None:
    assert hosts_of({}, testnet=False, base_url="http://127.0.0.1:54400") == {("127.0.0.1", 54400)}
    assert hosts_of({}, testnet=True, base_url="https://exchange.example") == {("exchange.example", 443)}


def test_an_accounts_end_leaves_the_market_its_connections() -> None:
    async def story() -> None:
        async with serving() as served:
            market = CcxtMarket(SystemClock(), served.origin)
            await market.start()
            try:
                await market.loaded.wait()
                await market.instance(Keys("key", "secret", 1)).close()
                assert (await market.book("BTC/USDT")).asks
            finally:
                await market.close()

    play(story())


def test_nothing_is_reached_but_by_the_guarded_session() -> None:
    async def story() -> None:
        async with serving() as served:
            market = CcxtMarket(SystemClock(), served.origin)
            inside: Any = market
            for moment in ("before it starts", "after it closed"):
                inside._exchange.open()
                assert inside._exchange.session is None, moment
                await market.start()
                await market.loaded.wait()
                await market.close()

    play(story())


def test_an_account_of_another_mode_is_turned_away() -> None:
    async def story() -> None:
        exchange = CcxtExchange("live", CcxtMarket(SystemClock()), Purse(), SystemClock())
        brief, order = specimens.brief(mode="testnet"), specimens.order(mode="testnet")
        for ask in (exchange.funds(brief), exchange.place(order), exchange.owned(order.account, "BTC")):
            with pytest.raises(Broken, match="testnet"):
                await ask

    play(story())
