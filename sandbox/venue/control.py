"""The control endpoints under /_control, for tests and demonstrations alone.

Beside price, book, clock, fills, faults, balance, reset and ledger there are `POST accounts {apiKey, secret,
balances}`, `POST keys {apiKey, revoked}`, `POST commission {apiKey, bnb, rate}`, `POST streams {"drop": true}` for
public streams and `{"user": mode, "seconds"}` for user data streams, `GET streams` (how many listen to each public
stream), `GET requests` (counts by endpoint and key; DELETE forgets them), and `DELETE weight`, which forgives every
address and account what it has used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiohttp import web

from sandbox.venue.accounts import STANDARD_RATE, Account
from sandbox.venue.book import Level
from sandbox.venue.clock import VenueClock
from sandbox.venue.faults import Fault, Faults
from sandbox.venue.fill_plan import FillPlan
from sandbox.venue.fixed_point import ONE, decimal, exact, plain, text
from sandbox.venue.ledger import Ledger
from sandbox.venue.market import Market
from sandbox.venue.matching_engine import MatchingEngine
from sandbox.venue.order_count import OrderCount
from sandbox.venue.request_counts import RequestCounts
from sandbox.venue.request_weight import RequestWeight
from sandbox.venue.user_events import MODES, UserEvents

__all__ = ["Control"]

_LONGEST_OFFSET_MS = 7 * 24 * 3_600_000


class Exchange(Protocol):
    """What of the venue there is to control."""

    markets: dict[str, Market]
    clock: VenueClock
    faults: Faults
    ledger: Ledger
    weight: RequestWeight
    counts: OrderCount
    events: UserEvents
    asked: RequestCounts
    engine: MatchingEngine


class Control:
    """Sets what a test wants set. Wrong input is answered with 400 and a sentence, and changes nothing."""

    def __init__(
        self, exchange: Exchange, subscribers: Callable[[], dict[str, int]], cut_streams: Callable[[], int]
    ) -> None:
        self.fills: dict[str, FillPlan] = {}
        self._exchange = exchange
        self._markets = exchange.markets
        self._clock = exchange.clock
        self._faults = exchange.faults
        self._ledger = exchange.ledger
        self._subscribers = subscribers
        self._cut_streams = cut_streams

    def add_routes(self, application: web.Application) -> None:
        router = application.router
        router.add_get("/_control/ledger", self._show_ledger)
        router.add_get("/_control/requests", self._show_requests)
        router.add_get("/_control/streams", self._show_streams)
        router.add_delete("/_control/requests", self._forget_requests)
        router.add_get("/_control/faults", self._show_faults)
        router.add_delete("/_control/faults", self._clear_faults)
        router.add_delete("/_control/weight", self._forgive)
        changes: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "price": self._price,
            "book": self._book,
            "clock": self._set_clock,
            "fills": self._fills,
            "accounts": self._open_account,
            "balance": self._balance,
            "keys": self._keys,
            "commission": self._commission,
            "faults": self._plan_fault,
            "reset": self._reset,
            "streams": self._streams,
        }
        for name, change in changes.items():
            router.add_post(f"/_control/{name}", _carrying_out(change))

    async def _show_ledger(self, request: web.Request) -> web.Response:
        del request
        self._exchange.engine.refresh()
        return web.json_response(self._ledger.document())

    async def _show_requests(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(self._exchange.asked.document())

    async def _show_streams(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"streams": self._subscribers()})

    async def _forget_requests(self, request: web.Request) -> web.Response:
        del request
        self._exchange.asked.clear()
        return web.json_response({})

    async def _show_faults(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"faults": [fault.document() for fault in self._faults.planned]})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        del request
        self._faults.clear()
        return web.json_response({"faults": []})

    async def _forgive(self, request: web.Request) -> web.Response:
        del request
        self._exchange.weight.forgive()
        self._exchange.counts.clear()
        return web.json_response({})

    def _price(self, body: dict[str, Any]) -> dict[str, Any]:
        market = self._market(body)
        if "price" not in body:
            raise ValueError("price is missing: a price as text, or null to let it move")
        price = body["price"]
        set_ns = time.time_ns()  # by the clock of an order's receivedNs
        market.hold(None if price is None else _amount(price, "price"))
        held = None if market.held is None else text(market.held)
        return {"symbol": market.instrument.symbol, "price": held, "setNs": set_ns}

    def _book(self, body: dict[str, Any]) -> dict[str, Any]:
        market = self._market(body)
        market.set_book(_levels(body.get("bids"), "bids"), _levels(body.get("asks"), "asks"))
        return {"symbol": market.instrument.symbol}

    def _set_clock(self, body: dict[str, Any]) -> dict[str, Any]:
        offset = body.get("offset_ms")
        if not isinstance(offset, int) or isinstance(offset, bool) or abs(offset) > _LONGEST_OFFSET_MS:
            raise ValueError("offset_ms is a whole number of milliseconds, a week either way at most")
        self._clock.offset_ms = offset
        return {"offset_ms": offset, "serverTime": self._clock.now_ms()}

    def _fills(self, body: dict[str, Any]) -> dict[str, Any]:
        symbol = self._market(body).instrument.symbol
        plan = self.fills[symbol] = FillPlan.read(body)
        return {"symbol": symbol} | plan.document()

    def _open_account(self, body: dict[str, Any]) -> dict[str, Any]:
        api_key, secret, balances = body.get("apiKey"), body.get("secret"), body.get("balances", {})
        if not isinstance(api_key, str) or not isinstance(secret, str) or not isinstance(balances, dict):
            raise ValueError("an account has an apiKey, a secret and balances such as {'USDT': '1000'}")
        held = {asset: decimal(_amount(free, asset)) for asset, free in cast("dict[str, Any]", balances).items()}
        self._ledger.open(api_key, secret, held)
        return {"apiKey": api_key}

    def _balance(self, body: dict[str, Any]) -> dict[str, Any]:
        account, asset = self._account(body), body.get("asset")
        if not isinstance(asset, str) or not asset:
            raise ValueError("asset is an asset's name, such as USDT")
        free = body.get("free")
        more = _amount(free, "free") - account.free(asset)
        account.receive(asset, more)
        self._exchange.events.deposit(account, asset, more)
        self._exchange.engine.finish()
        return {"apiKey": account.api_key, "asset": asset, "free": free}

    def _keys(self, body: dict[str, Any]) -> dict[str, Any]:
        account, revoked = self._account(body), body.get("revoked")
        if not isinstance(revoked, bool):
            raise ValueError("revoked is true or false")
        account.revoked = revoked
        self._ledger.note_account(account)
        return {"apiKey": account.api_key, "revoked": revoked}

    def _commission(self, body: dict[str, Any]) -> dict[str, Any]:
        account, bnb = self._account(body), body.get("bnb", False)
        rate = _amount(body.get("rate", plain(STANDARD_RATE)), "rate")
        if not isinstance(bnb, bool) or rate > ONE // 10:
            raise ValueError("bnb is true or false, rate a part as text, such as '0.001', and '0.1' at most")
        account.pays_in_bnb, account.rate = bnb, rate
        self._ledger.note_account(account)
        return {"apiKey": account.api_key, "bnb": bnb, "rate": plain(rate)}

    def _account(self, body: dict[str, Any]) -> Account:
        api_key = body.get("apiKey")
        account = self._ledger.accounts.get(api_key) if isinstance(api_key, str) else None
        if account is None:
            raise ValueError("apiKey is none of the venue's accounts")
        return account

    def _plan_fault(self, body: dict[str, Any]) -> dict[str, Any]:
        fault = Fault.read(body)
        self._faults.plan(fault)
        return fault.document()

    def _reset(self, body: dict[str, Any]) -> dict[str, Any]:
        del body
        self._ledger.reset()
        return {}

    def _streams(self, body: dict[str, Any]) -> dict[str, Any]:
        if body == {"drop": True}:
            return {"dropped": self._cut_streams()}
        mode, seconds = body.get("user"), body.get("seconds", 1)
        if not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
            raise ValueError("seconds is a number from 0 to 3600")
        if mode not in MODES or set(body) - {"user", "seconds"}:
            raise ValueError(
                f'public streams know {{"drop": true}}, user data streams {{"user": …}}: {", ".join(MODES)}'
            )
        return {"user": mode, "subscriptions": self._exchange.events.disturb(mode, seconds)}

    def _market(self, body: dict[str, Any]) -> Market:
        symbol = body.get("symbol")
        market = self._markets.get(symbol.replace("/", "").upper()) if isinstance(symbol, str) else None
        if market is None:
            raise ValueError(f"symbol {symbol!r} is not listed; name one such as BTCUSDT or BTC/USDT")
        return market


def _carrying_out(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[[web.Request], Any]:
    async def carry_out(request: web.Request) -> web.Response:
        sent = await request.text()
        try:
            body: Any = json.loads(sent) if sent else {}
            if not isinstance(body, dict):
                raise ValueError("the body is a JSON object")
            return web.json_response(change(cast("dict[str, Any]", body)))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    return carry_out


def _amount(value: Any, name: str) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{name} is an amount as text, such as '0.25'")
    return exact(value)


def _levels(value: Any, name: str) -> list[Level] | None:
    if value is None:
        return None
    wrong = f"{name} is a list of pairs of texts, price and quantity, or null"
    if not isinstance(value, list):
        raise ValueError(wrong)
    levels: list[Level] = []
    for pair in cast("list[Any]", value):
        if not isinstance(pair, list) or len(cast("list[Any]", pair)) != 2:
            raise ValueError(wrong)
        price, quantity = cast("list[Any]", pair)
        levels.append((_amount(price, "a price"), _amount(quantity, "a quantity")))
    return levels
