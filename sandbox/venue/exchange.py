"""The venue as a whole: a Binance-Spot-compatible exchange to run on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

from aiohttp import web
from multidict import CIMultiDict

from sandbox.venue.clock import VenueClock, unix_ms
from sandbox.venue.connection import Connection
from sandbox.venue.control import Control
from sandbox.venue.faults import Faults
from sandbox.venue.fill_plan import FillPlan
from sandbox.venue.fixed_point import exact
from sandbox.venue.ledger import Ledger
from sandbox.venue.listing import listing
from sandbox.venue.market import Market
from sandbox.venue.market_data import Endpoint, MarketData, encode
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_weight import RequestWeight, TooMuch
from sandbox.venue.streams import Streams

__all__ = ["Venue"]

_JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Venue:
    """An exchange with `symbols` markets whose prices follow from `seed` and the time alone.

    Serve `application()` with aiohttp, between `start()` and `stop()`. Two venues of one seed show the same
    prices at the same moment. Raises ValueError for a number of symbols that cannot be listed.
    """

    def __init__(self, seed: int, symbols: int = 24, *, now_ms: Callable[[], int] = unix_ms) -> None:
        self.clock = VenueClock(now_ms)
        self.markets = {instrument.symbol: Market(instrument, seed, self.clock) for instrument in listing(symbols)}
        self.ledger = Ledger()
        self.faults = Faults()
        self.weight = RequestWeight(self.clock.now_ms)
        self._data = MarketData(self.markets, self.clock)
        self._streams = Streams(self.markets, self.clock)
        self._connections: set[Connection] = set()
        self._control = Control(self.markets, self.clock, self.faults, self.ledger, self.weight, self._cut_streams)

    def add_account(self, api_key: str, secret: str, balances: dict[str, Decimal]) -> None:
        """Opens an account with free balances by asset. Raises ValueError for a key in use."""
        self.ledger.open(api_key, secret, balances)

    def set_price(self, symbol: str, price: Decimal | None) -> None:
        """Holds the price of a symbol such as BTCUSDT; None lets it move. Raises ValueError for one off the tick."""
        self.markets[symbol].hold(None if price is None else exact(price))

    def fill_plan(self, symbol: str) -> FillPlan:
        """How orders of that symbol are to be filled."""
        return self._control.fills.get(symbol, FillPlan())

    async def start(self) -> None:
        """Makes the venue ready; prices need no work between questions, so there is none to start."""

    async def stop(self) -> None:
        """Closes every stream and lets go of every request that hangs."""
        self.faults.clear()
        farewell = encode({"e": "serverShutdown", "E": self.clock.now_ms()})
        await asyncio.gather(
            *(connection.close(farewell) for connection in tuple(self._connections)), return_exceptions=True
        )
        self._streams.close()

    def application(self) -> web.Application:
        """The venue's web application; its shutdown stops the venue."""
        application = web.Application(middlewares=[self._failing])
        for path, endpoint in self._data.endpoints().items():
            application.router.add_get(path, self._public(endpoint), allow_head=False)
        for path in ("/ws", "/ws/{rest:.*}", "/stream", "/stream/{rest:.*}"):
            application.router.add_get(path, self._stream, allow_head=False)
        self._control.add_routes(application)
        application.on_startup.append(self._on_startup)
        application.on_shutdown.append(self._on_shutdown)
        return application

    async def _on_startup(self, application: web.Application) -> None:
        del application
        await self.start()

    async def _on_shutdown(self, application: web.Application) -> None:
        del application
        await self.stop()

    @web.middleware
    async def _failing(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.faults.planned and not request.path.startswith("/_control"):
            fault = self.faults.take(request.method, request.path)
            if fault is not None:
                return await self.faults.befall(fault, request, handler)
        return await handler(request)

    def _public(self, endpoint: Endpoint) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            address = request.remote or ""
            try:
                self.weight.charge(address, endpoint.weigh(request.query))
                response = web.Response(text=endpoint.answer(request.query), content_type=_JSON)
            except VenueError as error:
                response = _refused(error)
            self._show_weight(address, response.headers)
            return response

        return answer

    def _show_weight(self, address: str, headers: CIMultiDict[str]) -> None:
        used = str(self.weight.used(address))
        headers["X-MBX-USED-WEIGHT"] = used
        headers["X-MBX-USED-WEIGHT-1M"] = used

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        try:
            self.weight.connect(request.remote or "")
        except VenueError as error:
            return _refused(error)
        # clients number their connections: /ws/3, /stream/0, /stream/ws/2
        parts = [part for part in request.path.split("/") if part]
        names = [part for part in parts[1:] if part != "ws" and not part.isdecimal()]
        names += [name for name in request.query.get("streams", "").split("/") if name]
        connection = Connection(self._streams, combined=parts[0] == "stream" and "ws" not in parts)
        self._connections.add(connection)
        try:
            return await connection.serve(request, names)
        finally:
            self._connections.discard(connection)

    def _cut_streams(self) -> int:
        connections = tuple(self._connections)
        for connection in connections:
            connection.cut()
        return len(connections)


def _refused(error: VenueError) -> web.Response:
    response = error.response()
    if isinstance(error, TooMuch):
        response.headers["Retry-After"] = str(error.retry_after)
    return response
