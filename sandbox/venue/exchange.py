"""The venue as a whole: a Binance-Spot-compatible exchange to run on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

from aiohttp import web

from sandbox.venue.account_queries import AccountQueries
from sandbox.venue.arrival import Arrival, arrival
from sandbox.venue.clock import VenueClock, unix_ms
from sandbox.venue.connection import Connection
from sandbox.venue.control import Control
from sandbox.venue.faults import Faults
from sandbox.venue.fill_plan import FillPlan
from sandbox.venue.fixed_point import exact
from sandbox.venue.journal import Journal
from sandbox.venue.ledger import Ledger
from sandbox.venue.ledger_record import replay
from sandbox.venue.listing import listing
from sandbox.venue.market import Market
from sandbox.venue.market_data import Endpoint, MarketData, encode
from sandbox.venue.matching_engine import MatchingEngine
from sandbox.venue.operations import Operation
from sandbox.venue.order_count import OrderCount
from sandbox.venue.order_list_trading import OrderListTrading
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_counts import RequestCounts
from sandbox.venue.request_weight import RequestWeight
from sandbox.venue.signatures import Signatures
from sandbox.venue.signed_requests import SignedRequests
from sandbox.venue.streams import Streams
from sandbox.venue.trading import Trading
from sandbox.venue.user_events import UserEvents
from sandbox.venue.websocket_api import ApiConnection, WebsocketApi

__all__ = ["Venue"]

_JSON = "application/json"
_WEBSOCKET_API = "/ws-api/v3"
_CONNECTION_WEIGHT = 2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Venue:
    """An exchange with `symbols` markets whose prices follow from `seed` and the time alone.

    Serve `application()` with aiohttp, between `start()` and `stop()`. Two venues of one seed show the same
    prices at the same moment. With a `journal`, accounts, orders and balances outlive the venue; it belongs to one
    venue at a time. `pace_ms` is how often every market moves; without it, each has its own. Raises ValueError for
    symbols that cannot be listed, and for a damaged journal.
    """

    def __init__(
        self,
        seed: int,
        symbols: int = 24,
        journal: Path | None = None,
        *,
        pace_ms: int | None = None,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self.clock = VenueClock(now_ms)
        self.markets = {one.symbol: Market(one, seed, self.clock) for one in listing(symbols, pace_ms)}
        self._journal = Journal(journal) if journal else None
        self.ledger = Ledger(self._journal)
        if self._journal:
            replay(self.ledger, self._journal.read(), self.markets)
            self._journal.begin_anew(self.ledger.state())
        self.faults = Faults()
        self.weight = RequestWeight(self.clock.now_ms)
        self.counts = OrderCount(self.clock.now_ms)
        self.events = UserEvents(self.clock.now_ms)
        self.asked = RequestCounts()
        self.engine = MatchingEngine(
            self.markets, self.clock, self.ledger, self.events, self.counts, lambda symbol: self.fill_plan(symbol)
        )
        self._data = MarketData(self.markets, self.clock)
        self._streams = Streams(self.markets, self.clock)
        self._connections: set[Connection | ApiConnection] = set()
        signatures = Signatures(lambda: self.ledger.accounts, self.clock.now_ms)
        self._requests = SignedRequests(self.markets, signatures, self.engine, self.weight, self.counts, self.faults)
        self._operations = self._signed_operations()
        self._api = WebsocketApi(
            self._data.endpoints(),
            {operation.name: operation for operation in self._operations},
            self._requests,
            signatures,
            self.events,
            self.weight,
            self.counts,
            self.asked,
            self.clock.now_ms,
        )
        self._control = Control(self, self._streams.subscribers, self._cut_streams)

    def add_account(self, api_key: str, secret: str, balances: dict[str, Decimal]) -> None:
        """Opens an account with free balances by asset; one that the journal knows goes on with what it held.

        Raises ValueError for a key in use.
        """
        self.ledger.open(api_key, secret, balances)

    def set_price(self, symbol: str, price: Decimal | None) -> None:
        """Holds the price of a symbol such as BTCUSDT; None lets it move. Raises ValueError for one off the tick."""
        self.markets[symbol].hold(None if price is None else exact(price))

    def fill_plan(self, symbol: str) -> FillPlan:
        """How orders of that symbol are to be filled."""
        return self._control.fills.get(symbol, FillPlan())

    async def start(self) -> None:
        """Makes the venue ready. Prices need no work between questions; orders that rest are watched."""
        self.engine.start()

    async def stop(self) -> None:
        """Closes every stream and lets go of every request that hangs."""
        self.faults.clear()
        self.engine.stop()
        now = self.clock.now_ms()
        farewell = encode({"e": "serverShutdown", "E": now})
        wrapped = encode({"event": {"e": "serverShutdown", "E": now}})
        await asyncio.gather(
            *(
                connection.close(wrapped if isinstance(connection, ApiConnection) else farewell)
                for connection in tuple(self._connections)
            ),
            return_exceptions=True,
        )
        self._streams.close()

    def close(self) -> None:
        """Lets go of the journal, once nothing is served any more."""
        if self._journal:
            self._journal.close()

    def application(self) -> web.Application:
        """The venue's web application; its shutdown stops the venue."""
        application = web.Application(middlewares=[self._receiving])
        for path, endpoint in self._data.endpoints().items():
            application.router.add_get(path, self._public(endpoint), allow_head=False)
        for operation in self._operations:
            application.router.add_route(operation.method, operation.path, self._requests.handler(operation))
        for path in ("/ws", "/ws/{rest:.*}", "/stream", "/stream/{rest:.*}"):
            application.router.add_get(path, self._stream, allow_head=False)
        application.router.add_get(_WEBSOCKET_API, self._websocket_api, allow_head=False)
        self._control.add_routes(application)
        application.on_startup.append(self._on_startup)
        application.on_shutdown.append(self._on_shutdown)
        application.on_cleanup.append(self._on_cleanup)
        return application

    def _signed_operations(self) -> list[Operation]:
        shared = (self.clock, self.ledger, self.engine, self.counts)
        return [
            *Trading(self.markets, *shared).operations(),
            *OrderListTrading(*shared).operations(),
            *AccountQueries(self.markets, *shared).operations(),
        ]

    async def _on_startup(self, application: web.Application) -> None:
        del application
        await self.start()

    async def _on_shutdown(self, application: web.Application) -> None:
        del application
        await self.stop()

    async def _on_cleanup(self, application: web.Application) -> None:
        del application
        self.close()  # not before: until now a request could still be carried out

    @web.middleware
    async def _receiving(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_control"):
            return await handler(request)
        arrival.set(Arrival())
        api_key = request.headers.get("X-MBX-APIKEY", "")
        self.asked.count(f"{request.method} {request.path}", api_key)
        fault = self.faults.take(request.method, request.path, api_key) if self.faults.planned else None
        return await (self.faults.befall(fault, request, handler) if fault else handler(request))

    def _public(self, endpoint: Endpoint) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            address = request.remote or ""
            await self.faults.wait(arrival.get().held_seconds)
            try:
                self.weight.charge(address, endpoint.weigh(request.query))
                response = web.Response(text=endpoint.answer(request.query), content_type=_JSON)
            except VenueError as error:
                response = error.response()
            self.weight.show(address, response.headers)
            return response

        return answer

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        # clients number their connections: /ws/3, /stream/0, /stream/ws/2
        parts = [part for part in request.path.split("/") if part]
        names = [part for part in parts[1:] if part != "ws" and not part.isdecimal()]
        names += [name for name in request.query.get("streams", "").split("/") if name]
        connection = Connection(self._streams, combined=parts[0] == "stream" and "ws" not in parts)
        return await self._connected(request, connection, lambda: connection.serve(request, names))

    async def _websocket_api(self, request: web.Request) -> web.StreamResponse:
        shows_limits = request.query.get("returnRateLimits", "true") == "true"
        connection = ApiConnection(self._api, request.remote or "", shows_limits=shows_limits)
        return await self._connected(request, connection, lambda: connection.serve(request), _CONNECTION_WEIGHT)

    async def _connected(
        self,
        request: web.Request,
        connection: Connection | ApiConnection,
        serve: Callable[[], Awaitable[web.StreamResponse]],
        weight: int = 0,
    ) -> web.StreamResponse:
        try:
            self.weight.connect(request.remote or "")
            self.weight.charge(request.remote or "", weight)
        except VenueError as error:
            return error.response()
        self._connections.add(connection)
        try:
            return await serve()
        finally:
            self._connections.discard(connection)

    def _cut_streams(self) -> int:
        """Cuts the public streams; the user data streams have their own control."""
        connections = [connection for connection in self._connections if isinstance(connection, Connection)]
        for connection in connections:
            connection.cut()
        return len(connections)
