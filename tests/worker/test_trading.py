"""Orders through real ccxt against a venue that answers as told: each request signed as its row says, sent once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from streams.domain.account import Account
from streams.domain.errors import ExecutionError, Refused, Rejected, Transient, Unknown
from streams.domain.order import Order, Stamp
from streams.ports import Keys
from tests.domain import specimens
from tests.worker.test_market_answers import LISTING, TICKER
from worker.adapters.ccxt_exchange import CcxtExchange, CcxtMarket, market, trading
from worker.adapters.clock import SystemClock

SECRET = "secret-of-anna"
SECONDS = 20.0
STAMP = Stamp(1767225600000, 1000)
Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


class Purse:
    """A keyring that holds an account's key until it is told to drop it, and notes that; `refusal` is its answer."""

    def __init__(self) -> None:
        self.dropped: list[Account] = []
        self.refusal: Refused | None = None
        self.stored = Keys("key-of-anna", SECRET, 1)
        self._held = self.stored

    async def keys(self, account: Account) -> Keys:
        if self.refusal is not None:
            raise self.refusal
        return self._held

    def drop(self, account: Account, version: int | None = None) -> None:
        self.dropped.append(account)
        self._held = self.stored


class Venue:
    """Answers signed requests by handlers, and keeps what it was sent."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Handler] = {}
        self.sent: list[tuple[str, str, dict[str, str]]] = []
        self.keys: list[str | None] = []
        self.notes: list[tuple[Account, int, str | None]] = []
        self.ahead_ms = 0
        self.asked_time = asyncio.Event()

    def note(self, account: Account, version: int, error: str | None) -> None:
        """Keep what is told of a key."""
        self.notes.append((account, version, error))

    def now_ms(self) -> int:
        """Its clock, in Unix milliseconds."""
        return round(SystemClock().now().timestamp() * 1000) + self.ahead_ms

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        if name == "exchangeInfo":
            return web.Response(text=LISTING, content_type="application/json")
        if name == "bookTicker":
            return web.Response(text=TICKER, content_type="application/json")
        if name == "time":
            self.asked_time.set()
            return web.json_response({"serverTime": self.now_ms()})
        written = await request.text() or request.query_string
        self.keys.append(request.headers.get("X-MBX-APIKEY"))
        self.sent.append((request.method, name, dict(parse_qsl(written))))
        handler = self.handlers.get((request.method, name))
        return web.Response(status=404) if handler is None else await handler(request)


def says(body: Any, status: int = 200, **headers: str) -> Handler:
    """Answer with this body, as JSON unless it is text."""

    async def handler(_: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if text.startswith("<") else "application/json"
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return handler


def refuses(code: int, text: str, status: int = 400) -> Handler:
    """Refuse as Binance does."""
    return says({"code": code, "msg": text}, status)


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def truncate(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"symbol": "BTCUSDT"')
    assert request.transport is not None
    request.transport.close()
    return response


Scenario = Callable[[Venue, CcxtExchange, Purse, Order], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    """Try an exchange on a venue of its own, with a fresh order of 0.02 BTC at 100 at most."""

    async def tried() -> None:
        venue, purse = Venue(), Purse()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", venue.answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        prices = CcxtMarket(SystemClock(), f"http://{host}:{port}")
        await prices.start()
        try:
            await asyncio.wait_for(prices.loaded.wait(), SECONDS)
            await prices.ask_time()
            order = specimens.order(
                mode="testnet",
                type="limit",
                time_in_force="IOC",
                quantity="0.02",
                price="100.5",
                signed_at_ms=prices.venue_ms(),
                recv_window_ms=5000,
            )
            exchange = CcxtExchange("testnet", prices, purse, SystemClock(), venue.note)
            try:
                await scenario(venue, exchange, purse, order)
            finally:
                await exchange.close()
        finally:
            await prices.close()
            await runner.cleanup()

    asyncio.run(tried())


def full(order: Order, **changed: Any) -> dict[str, Any]:
    """Binance's FULL answer to an order filled in two parts, its fees in base and in quote."""
    return {
        "symbol": "BTCUSDT",
        "orderId": 28,
        "clientOrderId": order.client_order_id,
        "transactTime": 1767225600123,
        "status": "FILLED",
        "origQty": "0.02000000",
        "executedQty": "0.02000000",
        "cummulativeQuoteQty": "2.00100000",
        "fills": [
            trade(56, "100.00000000", "0.01000000", "0.00001000", "BTC"),
            trade(57, "100.10000000", "0.01000000", "0.00100100", "USDT"),
        ],
    } | changed


def trade(number: int, price: str, quantity: str, commission: str, asset: str) -> dict[str, Any]:
    """One of the fills in a FULL answer."""
    return {"price": price, "qty": quantity, "commission": commission, "commissionAsset": asset, "tradeId": number}


def test_an_order_is_signed_with_exactly_what_its_row_says_and_read_to_the_digit() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        venue.handlers["POST", "order"] = says(full(order))
        report = await exchange.place(order)
        ((_, _, request),) = venue.sent
        assert {
            name: request[name] for name in ("timestamp", "recvWindow", "newClientOrderId", "newOrderRespType")
        } == {
            "timestamp": str(order.signed_at_ms),
            "recvWindow": "5000",
            "newClientOrderId": order.client_order_id,
            "newOrderRespType": "FULL",
        }
        assert (request["symbol"], request["side"], request["type"], request["timeInForce"]) == (
            "BTCUSDT",
            "BUY",
            "LIMIT",
            "IOC",
        )
        assert (request["quantity"], request["price"]) == ("0.02", "100.5")
        assert (report.status, report.exchange_order_id, report.ended) == ("filled", "28", True)
        first, second = report.fills
        assert (first.exchange_trade_id, first.price, first.quantity, first.value) == ("56", 100, Decimal("0.01"), 1)
        assert (first.fee, first.fee_asset, first.fee_usdt) == (Decimal("0.00001"), "BTC", Decimal("0.001"))
        assert (second.fee, second.fee_asset, second.fee_usdt) == (Decimal("0.001001"), "USDT", Decimal("0.001001"))
        assert not purse.dropped

    run(scenario)


UNKNOWN: dict[str, Handler] = {
    "hang": hang,
    "drop": drop,
    "truncate": truncate,
    "html": says("<html>Down</html>"),
    "empty": says(""),
    "503": says("", 503),
    "524": says("<html>", 524),
    "403 of a firewall": says("<html>", 403),
    "-1006": refuses(-1006, "An unexpected response was received from the message bus."),
    "-1007": refuses(-1007, "Timeout waiting for response from backend server.", 503),
    "-1008": refuses(-1008, "Server is currently overloaded with other requests.", 503),
    "a duplicate": refuses(-2010, "Duplicate order sent."),
    "another order": says({"orderId": 1, "clientOrderId": "somebody-elses", "status": "FILLED", "executedQty": "1"}),
    "no status": says({"orderId": 1, "clientOrderId": "{id}", "executedQty": "1"}),
}


@pytest.mark.parametrize("fault", UNKNOWN)
def test_whatever_may_hide_an_order_is_unknown_and_sent_once(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market, "ORDER_TIMEOUT_MS", 300)

    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.handlers["POST", "order"] = UNKNOWN[fault]
        with pytest.raises(Unknown):
            await exchange.place(order)
        assert [method for method, _, _ in venue.sent] == ["POST"]

    run(scenario)


REFUSED: dict[str, tuple[Handler, type[ExecutionError], str | None]] = {
    "no money": (
        refuses(-2010, "Account has insufficient balance for requested action."), Rejected, "insufficient_balance",
    ),
    "a filter": (refuses(-1013, "Filter failure: NOTIONAL"), Rejected, "venue_rejected"),
    "a symbol": (refuses(-1121, "Invalid symbol."), Rejected, "venue_rejected"),
    "a revoked key": (refuses(-2015, "Invalid API-key, IP, or permissions.", 401), Rejected, "keys_rejected"),
    "a signature": (refuses(-1022, "Signature for this request is not valid."), Rejected, "keys_rejected"),
    "a late clock": (refuses(-1021, "Timestamp for this request is outside of the recvWindow."), Transient, None),
    "too many": (says({"code": -1003, "msg": "Too many."}, 429, **{"Retry-After": "7"}), Transient, None),
}  # fmt: skip


@pytest.mark.parametrize("answer", REFUSED)
def test_what_is_surely_refused_says_so(answer: str) -> None:
    handler, kind, code = REFUSED[answer]

    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        venue.handlers["POST", "order"] = handler
        with pytest.raises(kind) as raised:
            await exchange.place(order)
        assert getattr(raised.value, "code", None) == code
        assert bool(purse.dropped) == (code == "keys_rejected")
        assert SECRET not in str(raised.value)
        assert len(venue.sent) == 1

    run(scenario)


def test_a_banned_address_sends_nothing_more_until_the_ban_is_over() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.handlers["POST", "order"] = says({"code": -1003, "msg": "Banned."}, 418, **{"Retry-After": "120"})
        for _try in range(3):
            with pytest.raises(Transient):
                await exchange.place(order)
        assert len(venue.sent) == 1

    run(scenario)


def test_a_venue_that_is_not_there_is_surely_not_reached() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        exchange_urls: Any = exchange
        exchange_urls._market._exchange.urls["api"]["private"] = "http://127.0.0.1:1/api/v3"
        with pytest.raises(Transient, match="never left"):
            await exchange.place(order)
        assert not venue.sent

    run(scenario)


def test_a_request_whose_window_is_over_is_not_sent() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        late = order.model_copy(update={"signed_at_ms": order.signed_at_ms - 6000})
        with pytest.raises(Rejected) as raised:
            await exchange.place(late)
        assert raised.value.code == "entry_not_accepted"
        assert not venue.sent

    run(scenario)


def test_a_look_up_brings_the_fees_from_the_accounts_trades() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        found = full(order, updateTime=1767225600123)
        del found["fills"]
        venue.handlers["GET", "order"] = says(found)
        bought = {
            "price": "100.05",
            "qty": "0.02",
            "commission": "0.00002",
            "commissionAsset": "BTC",
            "time": 1767225600100,
        }
        venue.handlers["GET", "myTrades"] = says([{"id": 9, "orderId": 28, **bought}])
        report = await exchange.look_up(order)
        assert report is not None
        (fill,) = report.fills
        assert (report.status, fill.exchange_trade_id, fill.fee_asset) == ("filled", "9", "BTC")
        assert {query.get("origClientOrderId") for _, name, query in venue.sent if name == "order"} == {
            order.client_order_id
        }

    run(scenario)


def test_trades_that_lag_behind_their_order_are_asked_for_again() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        found = full(order)
        del found["fills"]
        venue.handlers["GET", "order"] = says(found)
        venue.handlers["GET", "myTrades"] = says([])
        with pytest.raises(Transient):
            await exchange.look_up(order)

    run(scenario)


def test_an_order_that_the_venue_does_not_know_is_none() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.handlers["GET", "order"] = refuses(-2013, "Order does not exist.")
        venue.handlers["DELETE", "order"] = refuses(-2011, "Unknown order sent.")
        assert await exchange.look_up(order) is None
        assert await exchange.cancel(order, STAMP) is None

    run(scenario)


def test_a_cancel_tells_what_was_filled_before_it() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.handlers["DELETE", "order"] = says({"orderId": 28, "status": "CANCELED"})
        venue.handlers["GET", "order"] = says(full(order, status="CANCELED", executedQty="0.01"))
        bought = {"price": "100", "qty": "0.01", "commission": "0.001", "commissionAsset": "USDT", "time": 1}
        venue.handlers["GET", "myTrades"] = says([{"id": 9, "orderId": 28, **bought}])
        report = await exchange.cancel(order, STAMP)
        assert report is not None
        (asked,) = [sent for method, _, sent in venue.sent if method == "DELETE"]
        assert (asked["timestamp"], asked["recvWindow"]) == (str(STAMP.signed_at_ms), str(STAMP.recv_window_ms))
        assert (report.status, [fill.quantity for fill in report.fills]) == ("cancelled", [Decimal("0.01")])
        assert report.failure_code is None

    run(scenario)


def test_questions_state_the_venues_time() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        venue.ahead_ms = 30_000
        inside: Any = exchange
        await inside._market.ask_time()
        venue.handlers["GET", "order"] = refuses(-2013, "Order does not exist.")
        await exchange.look_up(order)
        ((_, _, asked),) = venue.sent
        assert abs(int(asked["timestamp"]) - venue.now_ms()) < 5000

    run(scenario)


def test_a_clock_that_is_off_is_set_right_by_the_refusal_that_tells_of_it() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.ahead_ms = 30_000
        venue.asked_time.clear()
        venue.handlers["POST", "order"] = refuses(-1021, "Timestamp for this request is outside of the recvWindow.")
        with pytest.raises(Transient):
            await exchange.place(order)
        async with asyncio.timeout(SECONDS):
            await venue.asked_time.wait()
            inside: Any = exchange
            async with inside._market._learning_time:  # until what was answered is learnt
                assert abs((exchange.now_ms() or 0) - venue.now_ms()) < 1000

    run(scenario)


def test_an_order_is_never_signed_with_keys_older_than_its_admission() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        venue.handlers["POST", "order"] = says(full(order))
        await exchange.place(order.model_copy(update={"credential_version": 1}))
        purse.stored = Keys("new-key-of-anna", "new-secret", 2)
        await exchange.place(order.model_copy(update={"credential_version": 1}))
        await exchange.place(order.model_copy(update={"credential_version": 2}))
        assert venue.keys == ["key-of-anna", "key-of-anna", "new-key-of-anna"]
        with pytest.raises(Transient):
            await exchange.place(order.model_copy(update={"credential_version": 3}))
        assert len(venue.sent) == 3

    run(scenario)


def test_the_owner_is_told_when_their_key_is_refused_and_when_it_works_again() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        brief = specimens.brief(mode="testnet")
        venue.handlers["GET", "account"] = refuses(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        with pytest.raises(Refused) as raised:
            await exchange.funds(brief)
        assert raised.value.code == "keys_rejected"
        venue.handlers["GET", "account"] = says({"balances": [], "commissionRates": {"taker": "0.001"}})
        for _again in range(2):
            await exchange.funds(brief)
        (account, version, refusal), cleared = venue.notes
        assert (account, version) == (order.account, 1)
        assert refusal is not None
        assert refusal.endswith("store another.")
        assert cleared == (order.account, 1, None)
        assert SECRET not in refusal

    run(scenario)


def test_a_refusal_of_old_keys_says_nothing_of_those_that_took_their_place() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def refuse_late(request: web.Request) -> web.StreamResponse:
            asked.set()
            await answered.wait()
            return await refuses(-2015, "Invalid API-key, IP, or permissions for action.", 401)(request)

        venue.handlers["GET", "order"] = refuse_late
        venue.handlers["POST", "order"] = says(full(order))
        looking = asyncio.create_task(exchange.look_up(order))
        async with asyncio.timeout(SECONDS):
            await asked.wait()
            purse.stored = Keys("new-key-of-anna", "new-secret", 2)
            await exchange.place(order.model_copy(update={"credential_version": 2}))
            dropped = len(purse.dropped)
            answered.set()
            with pytest.raises(Rejected):
                await looking
        assert venue.notes == []
        assert len(purse.dropped) == dropped
        await exchange.place(order)
        assert venue.keys[-1] == "new-key-of-anna"

    run(scenario)


def test_a_key_that_works_is_told_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trading, "PROVEN_SECONDS", -1.0)

    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.handlers["GET", "account"] = says({"balances": [], "commissionRates": {"taker": "0.001"}})
        for _again in range(2):
            await exchange.funds(specimens.brief(mode="testnet"))
        assert venue.notes == [(order.account, 1, None)] * 2

    run(scenario)


@pytest.mark.parametrize("code", ["keys_missing", "keys_rejected"])
def test_without_keys_nothing_is_sent_and_surely_nothing_is_placed(code: str) -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        purse.refusal = Refused(code, "Store your exchange keys for testnet first.")
        asked: list[Coroutine[Any, Any, object]] = [
            exchange.place(order),
            exchange.place_list(order, order),
            exchange.look_up(order),
            exchange.cancel(order, STAMP),
            exchange.owned(order.account, "BTC"),
        ]
        for answer in asked:
            with pytest.raises(Rejected) as raised:
                await answer
            assert (raised.value.code, raised.value.reason) == ("keys_rejected", purse.refusal.reason)
        with pytest.raises(Refused) as refused:
            await exchange.funds(specimens.brief(mode="testnet"))
        assert refused.value.code == code
        assert not venue.sent

    run(scenario)


def test_a_window_that_ends_while_keys_are_had_sends_nothing() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, purse: Purse, order: Order) -> None:
        given, kept = Keys("new-key-of-anna", "new-secret", 2), purse.keys

        async def slow(account: Account) -> Keys:
            keys = await kept(account)
            if keys == given:
                inside: Any = exchange
                inside._market._venue_ahead_ms += order.recv_window_ms + 1
            return keys

        purse.stored = given
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(purse, "keys", slow)
            with pytest.raises(Rejected, match="window"):
                await exchange.place(order.model_copy(update={"credential_version": 2}))
        assert not venue.sent

    run(scenario)


def test_a_venue_that_does_not_answer_is_asked_little_and_sent_orders_all_the_same() -> None:
    async def scenario(venue: Venue, exchange: CcxtExchange, _: Purse, order: Order) -> None:
        venue.handlers["GET", "account"] = says("<html>Down</html>", 503)
        venue.handlers["POST", "order"] = says(full(order))
        for _again in range(50):
            with pytest.raises(Transient):
                await exchange.funds(specimens.brief(mode="testnet"))
        assert len(venue.sent) < 6
        assert (await exchange.place(order)).status == "filled"

    run(scenario)
