"""An account's own stream at the venue, through unmodified ccxt: it says when to look, and is made anew on a doubt."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from streams.domain.account import Account
from streams.domain.order import Order
from streams.ports import Keys
from tests.domain import specimens
from tests.sandbox.venue_client import play
from tests.sandbox.venue_trader import KEY, SECRET, Trader, trading
from worker.adapters.ccxt_exchange import CcxtExchange, CcxtMarket, user_stream
from worker.adapters.clock import SystemClock

ANNA = specimens.account(mode="testnet")
SECONDS = 15.0


class Purse:
    """A keyring with the venue's one key."""

    def __init__(self, secret: str = SECRET) -> None:
        self._secret = secret
        self.asked = 0

    async def keys(self, account: Account) -> Keys:
        self.asked += 1
        return Keys(KEY, self._secret, 1)

    def drop(self, account: Account, version: int | None = None) -> None:
        """There is only the one."""


class Ear:
    """What was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.told: list[str | None] = []
        self._more = asyncio.Event()

    def __call__(self, client_order_id: str | None, status: str | None) -> None:
        self.told.append(client_order_id)
        self._more.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def unalarmed() -> AsyncGenerator[None]:
    """Nothing inside makes the loop complain, as of a failure that nobody heard of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    gc.collect()
    assert complaints == []


@asynccontextmanager
async def listening(trader: Trader, purse: Purse | None = None) -> AsyncGenerator[tuple[CcxtExchange, Ear]]:
    """An exchange with somebody who listens to the account's orders."""
    market = CcxtMarket(SystemClock(), trader.served.origin)
    await market.start()
    exchange = CcxtExchange("testnet", market, purse or Purse(), SystemClock())
    ear = Ear()
    try:
        await asyncio.wait_for(market.loaded.wait(), SECONDS)
        stop = exchange.listen(ANNA, ear)
        yield exchange, ear
        stop()
    finally:
        await exchange.close()
        await market.close()


def resting(placed: Any) -> Order:
    """Our order, as placed by hand at the venue."""
    return specimens.order(
        mode="testnet",
        client_order_id=placed["clientOrderId"],
        quantity=placed["origQty"],
        price=placed["price"],
        status="submitted",
    )


def test_each_change_of_an_order_is_told_by_its_own_id() -> None:
    async def story() -> None:
        async with trading() as trader, listening(trader) as (_, ear):
            await ear.until(lambda: ear.told == [None])  # what came before now was not heard
            placed = await trader.limit("BUY", "0.01", "99000", newClientOrderId="ours")
            await ear.until(lambda: ear.told.count("ours") == 1)
            await trader.send("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"])
            await ear.until(lambda: ear.told.count("ours") == 2)
            assert set(ear.told) == {None, "ours"}

    play(story())


async def comes_to(balance: Decimal, exchange: CcxtExchange, trader: Trader) -> None:
    """Wait until so much can be spent, one round trip to the venue after the other."""
    async with asyncio.timeout(SECONDS):
        while (await exchange.funds(specimens.brief(mode="testnet"))).balance != balance:
            await trader.served.get("/api/v3/time")


def test_what_can_be_spent_is_asked_for_once_and_then_heard() -> None:
    def asked(trader: Trader) -> int:
        return sum(trader.served.venue.asked.document()["requests"].get("GET /api/v3/account", {}).values())

    async def story() -> None:
        async with trading() as trader, listening(trader) as (exchange, ear):
            await ear.until(lambda: ear.told == [None])
            brief = specimens.brief(mode="testnet")
            first = (await exchange.funds(brief)).balance
            assert (await exchange.funds(brief)).balance == first
            assert asked(trader) == 1
            placed = await trader.limit("BUY", "0.01", "99000", newClientOrderId="ours")
            await ear.until(lambda: "ours" in ear.told)
            await comes_to(first - 990, exchange, trader)
            assert asked(trader) == 1
            await trader.send("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"])
            await comes_to(first, exchange, trader)
            await trader.served.control("streams", user="drop")
            await ear.until(lambda: ear.told.count(None) == 2)
            assert (await exchange.funds(brief)).balance == first
            assert asked(trader) == 2

    play(story())


@pytest.mark.parametrize("disturbance", ["drop", "terminate"])
def test_a_stream_that_ends_is_made_anew_and_says_that_it_heard_nothing_meanwhile(disturbance: str) -> None:
    async def story() -> None:
        async with trading() as trader, listening(trader) as (_, ear):
            await ear.until(lambda: ear.told == [None])
            await trader.served.control("streams", user=disturbance)
            await ear.until(lambda: ear.told == [None, None])
            await trader.limit("BUY", "0.01", "99000", newClientOrderId="ours")
            await ear.until(lambda: "ours" in ear.told)
            assert len(trader.served.venue.events.listening()) == 1

    play(story())


def test_a_stream_that_was_silent_about_what_a_look_finds_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stream, "DEAF_AFTER_SECONDS", 0.0)

    async def story() -> None:
        async with trading() as trader, listening(trader) as (exchange, ear):
            await ear.until(lambda: ear.told == [None])
            await trader.served.control("streams", user="silent")
            order = resting(await trader.limit("BUY", "0.01", "99000", newClientOrderId="ours"))
            await trader.price("98000")
            report = await exchange.look_up(order)
            assert report is not None
            assert report.status == "filled"
            await ear.until(lambda: ear.told == [None, None])

    play(story())


def test_a_look_that_finds_what_the_stream_told_leaves_the_stream_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stream, "DEAF_AFTER_SECONDS", 0.0)

    async def story() -> None:
        async with trading() as trader, listening(trader) as (exchange, ear):
            await ear.until(lambda: ear.told == [None])
            (heard_by,) = trader.served.venue.events.listening()
            order = resting(await trader.limit("BUY", "0.01", "99000", newClientOrderId="ours"))
            await trader.price("98000")
            await ear.until(lambda: ear.told.count("ours") >= 2)
            await exchange.look_up(order)
            await trader.limit("BUY", "0.01", "90000", newClientOrderId="another")
            await ear.until(lambda: "another" in ear.told)
            assert trader.served.venue.events.listening() == [heard_by]

    play(story())


def test_all_who_listen_to_an_account_share_one_stream_which_outlasts_them_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_stream, "LINGER_SECONDS", 0.2)

    async def story() -> None:
        async with trading() as trader, listening(trader) as (exchange, ear):
            events = trader.served.venue.events
            another = Ear()
            stop = exchange.listen(ANNA, another)
            await ear.until(lambda: ear.told == [None])
            assert len(events.listening()) == 1
            await trader.limit("BUY", "0.01", "99000", newClientOrderId="ours")
            await another.until(lambda: "ours" in another.told)
            stop()
            await trader.limit("BUY", "0.01", "99000", newClientOrderId="later")
            await ear.until(lambda: "later" in ear.told)
            assert "later" not in another.told

    play(story())


def test_a_stream_to_which_nobody_listens_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stream, "LINGER_SECONDS", 0.05)

    async def story() -> None:
        async with trading() as trader, listening(trader) as (exchange, _):
            events = trader.served.venue.events
            brief_ear = Ear()
            stop = exchange.listen(specimens.account(specimens.BEN, "testnet"), brief_ear)
            await brief_ear.until(lambda: brief_ear.told)
            assert len(events.listening()) == 2
            stop()
            async with asyncio.timeout(SECONDS):
                while len(events.listening()) == 2:
                    await trader.served.get("/api/v3/ping")

    play(story())


def test_a_refused_key_is_tried_again_at_growing_pauses_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        purse = Purse("a wrong secret")
        async with unalarmed(), trading() as trader, listening(trader, purse) as (_, ear):
            async with asyncio.timeout(SECONDS):
                while purse.asked < 3:
                    await trader.served.get("/api/v3/ping")
            assert ear.told == []

    play(story())
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 503}, {"kind": "drop"}, {"kind": "hang", "seconds": 0.1}]
)
def test_a_venue_without_streams_is_tried_again_and_raises_no_alarm(
    fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with unalarmed(), trading() as trader:
            await trader.served.control("faults", path="/ws-api/v3", times=2, **fault)
            async with listening(trader) as (_, ear):
                await ear.until(lambda: ear.told == [None])
            assert (await trader.served.get("/_control/faults"))["faults"] == []

    play(story())
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
