"""Clients that trade at a venue: the unmodified ccxt class, and signed requests made by hand."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from ccxt.pro import binance  # pyright: ignore[reportMissingTypeStubs]
from yarl import URL

from sandbox.venue.exchange import Venue
from tests.sandbox.venue_client import SEED, Served, receive, serving

KEY, SECRET = "a" * 64, "b" * 64
COINS = {"USDT": Decimal(100_000), "BTC": Decimal(2), "ETH": Decimal(10)}
BTC, ETH = "BTC/USDT", "ETH/USDT"


def turned(addresses: Any, origin: str) -> Any:
    """A tree of ccxt's addresses, each on the origin, its path kept."""
    if isinstance(addresses, dict):
        tree = cast("dict[str, Any]", addresses)
        return {name: turned(address, origin) for name, address in tree.items()}
    parts = urlsplit(str(addresses))
    if not parts.scheme.startswith("ws"):
        return origin + parts.path
    # the class tells spot streams by `/stream` in their address
    prefix = "/stream" if (parts.hostname or "").startswith(("stream.", "demo-stream")) else ""
    return origin.replace("http", "ws") + prefix + parts.path


@asynccontextmanager
async def client(served: Served, key: str = "", secret: str = "") -> AsyncGenerator[Any]:
    """A ccxt.pro.binance with every one of its addresses turned to the venue."""
    options = {
        "fetchCurrencies": False,
        "fetchMargins": False,
        "fetchMarkets": {"types": ["spot"]},
        "fetchOpenOrders": {"warnWithoutSymbol": False},
    }
    exchange: Any = binance({"enableRateLimit": False, "apiKey": key, "secret": secret, "options": options})
    exchange.timeout_on_exit = 0
    exchange.urls["api"] = turned(exchange.urls["api"], served.origin)
    # on its own hosts the class finds these by the address
    exchange.exceptions["exact"] = {**exchange.exceptions["exact"], **exchange.exceptions["spot"]["exact"]}
    try:
        yield exchange
    finally:
        await exchange.close()


def signature(payload: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


@dataclass
class Answer:
    """What a request made by hand was answered with."""

    status: int
    body: Any
    headers: Any

    @property
    def code(self) -> int:
        return int(self.body.get("code", 0))

    @property
    def message(self) -> str:
        return str(self.body["msg"])


@dataclass
class Trader:
    """One account at a served venue."""

    served: Served
    ccxt: Any

    async def send(self, method: str, path: str, *, key: str = KEY, secret: str = SECRET, **sent: Any) -> Answer:
        """A signed request to /api/v3/`path`; a parameter of None is left out, `timestamp` too."""
        sent = {"timestamp": int(time.time() * 1000)} | sent
        query = urlencode({name: value for name, value in sent.items() if value is not None})
        query += f"&signature={signature(query, secret)}"
        return await self.send_as_is(method, path, query, key=key)

    async def send_as_is(
        self, method: str, path: str, query: str, *, body: str | None = None, key: str | None = KEY
    ) -> Answer:
        address = URL(f"{self.served.origin}/api/v3/{path}?{query}", encoded=True)
        headers = {"X-MBX-APIKEY": key} if key is not None else {}
        headers |= {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        async with self.served.http.request(method, address, headers=headers, data=body) as answer:
            return Answer(answer.status, await answer.json(), answer.headers)

    async def order(self, symbol: str = "BTCUSDT", side: str = "BUY", **terms: Any) -> Any:
        """Places an order that is taken."""
        answer = await self.send("POST", "order", symbol=symbol, side=side, **terms)
        assert answer.status == 200, answer.body
        return answer.body

    async def limit(self, side: str, quantity: str, price: str, **terms: Any) -> Any:
        """Places a limit order in BTCUSDT that is taken."""
        return await self.order(
            side=side, quantity=quantity, price=price, **{"type": "LIMIT", "timeInForce": "GTC", **terms}
        )

    async def get(self, path: str, **sent: Any) -> Any:
        answer = await self.send("GET", path, **sent)
        assert answer.status == 200, answer.body
        return answer.body

    async def query(self, order_id: int, symbol: str = "BTCUSDT") -> Any:
        return await self.get("order", symbol=symbol, orderId=order_id)

    async def balances(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Free and locked by asset, what is nothing left out."""
        held = (await self.get("account", omitZeroBalances="true"))["balances"]
        return {each["asset"]: (Decimal(each["free"]), Decimal(each["locked"])) for each in held}

    @asynccontextmanager
    async def hearing(self) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
        """Subscribes to the account's events; what is given waits for the next."""
        async with self.served.stream("/ws-api/v3") as socket:
            parameters: dict[str, Any] = {"apiKey": KEY, "timestamp": self.served.venue.clock.now_ms()}
            payload = urlencode(sorted(parameters.items()))
            parameters["signature"] = signature(payload)
            await socket.send_json({"id": 1, "method": "userDataStream.subscribe.signature", "params": parameters})
            answer = await receive(socket)
            assert answer["status"] == 200, answer

            async def hear() -> Any:
                return (await receive(socket))["event"]

            yield hear

    async def price(self, price: str, symbol: str = "BTCUSDT") -> None:
        await self.served.control("price", symbol=symbol, price=price)

    async def fills(self, symbol: str = "BTCUSDT", **plan: Any) -> None:
        await self.served.control("fills", symbol=symbol, **plan)


@asynccontextmanager
async def trading(venue: Venue | None = None, **coins: str) -> AsyncGenerator[Trader]:
    """A trader at a venue where BTCUSDT is held at 100000, with the usual coins or those named."""
    venue = venue or Venue(SEED)
    if KEY not in venue.ledger.accounts:
        venue.add_account(KEY, SECRET, {name: Decimal(amount) for name, amount in coins.items()} or COINS)
    async with serving(venue) as served, client(served, KEY, SECRET) as exchange:
        venue.set_price("BTCUSDT", Decimal(100_000))
        yield Trader(served, exchange)
