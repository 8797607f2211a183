"""The websocket API (binance-spot-api-docs, web-socket-api.md): requests as over REST, and the user data stream."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web
from multidict import MultiDict

from sandbox.venue import refusal
from sandbox.venue.accounts import Account
from sandbox.venue.client_socket import ClientSocket
from sandbox.venue.market_data import Endpoint, encode
from sandbox.venue.operations import Operation
from sandbox.venue.order_count import OrderCount
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_counts import RequestCounts
from sandbox.venue.request_weight import RATE_LIMITS, RequestWeight, TooMuch
from sandbox.venue.signatures import Signatures
from sandbox.venue.signed_requests import Request, SignedRequests
from sandbox.venue.user_events import UserEvents

__all__ = ["PUBLIC_METHODS", "ApiConnection", "WebsocketApi"]

PUBLIC_METHODS = {
    "ping": "/api/v3/ping",
    "time": "/api/v3/time",
    "exchangeInfo": "/api/v3/exchangeInfo",
    "depth": "/api/v3/depth",
    "trades.recent": "/api/v3/trades",
    "trades.historical": "/api/v3/historicalTrades",
    "trades.aggregate": "/api/v3/aggTrades",
    "klines": "/api/v3/klines",
    "uiKlines": "/api/v3/uiKlines",
    "avgPrice": "/api/v3/avgPrice",
    "ticker.24hr": "/api/v3/ticker/24hr",
    "ticker.price": "/api/v3/ticker/price",
    "ticker.book": "/api/v3/ticker/bookTicker",
}
_SESSION_WEIGHT = 2
_APART = ("apiKey", "returnRateLimits")


@dataclass(frozen=True, slots=True)
class WebsocketApi:
    """What the connections share."""

    public: Mapping[str, Endpoint]
    operations: Mapping[str, Operation]
    requests: SignedRequests
    signatures: Signatures
    events: UserEvents
    weight: RequestWeight
    counts: OrderCount
    asked: RequestCounts
    now_ms: Callable[[], int]


@dataclass(eq=False)
class _Subscription:
    """One account's events on one connection."""

    id: int
    account: Account
    connection: ApiConnection

    def hear(self, event: dict[str, Any]) -> None:
        self.connection.put({"subscriptionId": self.id, "event": event})

    def end(self) -> None:
        self.connection.end(self)

    def cut(self) -> None:
        self.connection.cut()


class ApiConnection:
    """One client's websocket. Requests are carried out in the order in which they come."""

    def __init__(self, api: WebsocketApi, address: str, *, shows_limits: bool) -> None:
        self._api = api
        self._address = address
        self._shows_limits = shows_limits
        self._client = ClientSocket()
        self._connected_ms = api.now_ms()
        self._session: tuple[Account, int] | None = None
        self._subscriptions: dict[int, _Subscription] = {}
        self._subscribed = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Stays until the socket closes."""
        return await self._client.serve(request, self._take, end=self._leave_all)

    async def close(self, farewell: str | None = None) -> None:
        await self._client.close(farewell)

    def cut(self) -> None:
        self._client.cut()

    def put(self, document: dict[str, Any]) -> None:
        self._client.put(encode(document))

    def end(self, subscription: _Subscription) -> None:
        """Ends a subscription, and says so."""
        self._api.events.leave(subscription.account.api_key, subscription)
        self._subscriptions.pop(subscription.id, None)
        subscription.hear({"e": "eventStreamTerminated", "E": self._api.now_ms()})

    def _leave_all(self) -> None:
        for subscription in self._subscriptions.values():
            self._api.events.leave(subscription.account.api_key, subscription)

    def _take(self, text: str) -> None:
        received_ns = time.time_ns()
        answer: dict[str, Any] = {"id": None}
        parameters: MultiDict[str] = MultiDict()
        method = ""
        try:
            identifier, method, parameters = _read(text, answer)
            answer["id"] = identifier
            method = method.removeprefix("v3/")
            self._api.asked.count(f"WS {method}", parameters.get("apiKey", ""))
            answer |= {"status": 200, "result": self._carry_out(method, parameters, received_ns)}
        except VenueError as error:
            answer |= {"status": error.status, "error": error.document}
            if isinstance(error, TooMuch):
                answer["error"]["data"] = {
                    "serverTime": self._api.now_ms(),
                    "retryAfter": self._api.now_ms() + error.retry_after * 1000,
                }
        shown = parameters.get("returnRateLimits", "true" if self._shows_limits else "false")
        if shown == "true":
            answer["rateLimits"] = self._limits(method, parameters.get("apiKey", ""))
        self.put(answer)

    def _carry_out(self, method: str, parameters: MultiDict[str], received_ns: int) -> Any:
        own: dict[str, Callable[[MultiDict[str]], Any]] = {
            "session.logon": self._log_on,
            "session.status": self._status,
            "session.logout": self._log_out,
            "session.subscriptions": self._list_subscriptions,
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe_signed,
            "userDataStream.unsubscribe": self._unsubscribe,
        }
        if method in own:
            self._api.weight.charge(self._address, _SESSION_WEIGHT)
            return own[method](parameters)
        if method in PUBLIC_METHODS:
            endpoint = self._api.public[PUBLIC_METHODS[method]]
            sent = _without(parameters, "returnRateLimits")
            self._api.weight.charge(self._address, endpoint.weigh(sent))
            return json.loads(endpoint.answer(sent))
        operation = self._api.operations.get(method)
        if operation is None:
            raise VenueError(-1020, "This operation is not supported.")
        self._api.weight.charge(self._address, operation.weigh(parameters))
        account = self._authorised(parameters)
        request = Request(self._address, received_ns, _without(parameters, *_APART), "")
        return self._api.requests.apply(operation, account, request)

    def _authorised(self, parameters: MultiDict[str]) -> Account:
        """Who sends this: by its signature, or by the session. Raises VenueError."""
        if self._session is not None and "apiKey" not in parameters and "signature" not in parameters:
            if "timestamp" in parameters:
                self._api.signatures.check_time(parameters)
            return self._api.signatures.account(self._session[0].api_key)
        if "apiKey" not in parameters:
            raise refusal.missing_parameter("apiKey")
        account = self._api.signatures.account(parameters["apiKey"])
        payload = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()) if name != "signature")
        self._api.signatures.check(account, parameters, payload)
        return account

    def _log_on(self, parameters: MultiDict[str]) -> dict[str, Any]:
        if "signature" not in parameters:
            raise refusal.missing_parameter("signature")
        self._session = self._authorised(parameters), self._api.now_ms()
        return self._status(parameters)

    def _log_out(self, parameters: MultiDict[str]) -> dict[str, Any]:
        self._session = None
        return self._status(parameters)

    def _status(self, parameters: MultiDict[str]) -> dict[str, Any]:
        del parameters
        account, since = self._session or (None, None)
        return {
            "apiKey": account.api_key if account else None,
            "authorizedSince": since,
            "connectedSince": self._connected_ms,
            "returnRateLimits": self._shows_limits,
            "serverTime": self._api.now_ms(),
            "userDataStream": bool(self._subscriptions),
        }

    def _subscribe(self, parameters: MultiDict[str]) -> dict[str, Any]:
        if self._session is None or "signature" in parameters:
            raise VenueError(-1002, "You are not authorized to execute this request.", 401)
        return self._listen(self._session[0])

    def _subscribe_signed(self, parameters: MultiDict[str]) -> dict[str, Any]:
        if "signature" not in parameters:
            raise refusal.missing_parameter("signature")
        return self._listen(self._authorised(parameters))

    def _listen(self, account: Account) -> dict[str, Any]:
        if any(each.account is account for each in self._subscriptions.values()):
            raise VenueError(-2035, "User Data Stream subscription already active.")
        subscription = _Subscription(self._subscribed, account, self)
        self._subscribed += 1
        self._subscriptions[subscription.id] = subscription
        self._api.events.listen(account.api_key, subscription)
        return {"subscriptionId": subscription.id}

    def _unsubscribe(self, parameters: MultiDict[str]) -> dict[str, Any]:
        chosen = list(self._subscriptions.values())
        if "subscriptionId" in parameters:
            chosen = [each for each in chosen if str(each.id) == parameters["subscriptionId"]]
        if not chosen:
            raise VenueError(-2036, "User Data Stream subscription not active.")
        for subscription in chosen:
            self.end(subscription)
        return {}

    def _list_subscriptions(self, parameters: MultiDict[str]) -> list[dict[str, int]]:
        del parameters
        return [{"subscriptionId": number} for number in self._subscriptions]

    def _limits(self, method: str, api_key: str) -> list[dict[str, Any]]:
        operation = self._api.operations.get(method)
        if not api_key and self._session:
            api_key = self._session[0].api_key
        shown = self._api.counts.document(api_key) if operation and operation.orders else []
        weights = [limit for limit in RATE_LIMITS if limit["rateLimitType"] == "REQUEST_WEIGHT"]
        return shown + [{**limit, "count": self._api.weight.used(self._address)} for limit in weights]


def _read(text: str, answer: dict[str, Any]) -> tuple[Any, str, MultiDict[str]]:
    """Id, method and parameters; the id is in the answer as soon as it is known. Raises VenueError."""
    try:
        request: Any = json.loads(text, parse_float=str)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise VenueError(-1135, "Invalid JSON Request")
    fields = cast("dict[str, Any]", request)
    identifier, method, parameters = fields.get("id"), fields.get("method"), fields.get("params", {})
    if identifier is None or isinstance(identifier, int | str):
        answer["id"] = identifier
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise VenueError(-1135, "Invalid JSON Request")
    named = cast("dict[str, Any]", parameters)
    return answer["id"], method, MultiDict({name: _text(value) for name, value in named.items()})


def _text(value: Any) -> str:
    """A parameter as it is signed."""
    return value if isinstance(value, str) else encode(value)


def _without(parameters: MultiDict[str], *names: str) -> MultiDict[str]:
    return MultiDict((name, value) for name, value in parameters.items() if name not in names)
