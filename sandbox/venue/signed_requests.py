"""Carries out signed operations, for REST and for the websocket API alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict, MultiDict

from sandbox.venue.accounts import Account
from sandbox.venue.arrival import arrival
from sandbox.venue.faults import Faults
from sandbox.venue.market import Market
from sandbox.venue.market_data import encode
from sandbox.venue.matching_engine import MatchingEngine
from sandbox.venue.operations import Call, Operation
from sandbox.venue.order_count import OrderCount
from sandbox.venue.parameters import Parameters
from sandbox.venue.refusal import VenueError
from sandbox.venue.request_weight import RequestWeight
from sandbox.venue.signatures import SIGNING_NAMES, Signatures, unsigned

__all__ = ["Request", "SignedRequests"]


@dataclass(frozen=True, slots=True)
class Request:
    """One signed request as it came: from where, when, with what, and how long a test keeps it waiting."""

    address: str
    received_ns: int
    sent: MultiDict[str]
    payload: str
    held_seconds: float = 0.0


class SignedRequests:
    """Weighs, checks and carries out."""

    def __init__(
        self,
        markets: Mapping[str, Market],
        signatures: Signatures,
        engine: MatchingEngine,
        weight: RequestWeight,
        counts: OrderCount,
        faults: Faults,
    ) -> None:
        self._markets = markets
        self._signatures = signatures
        self._engine = engine
        self._weight = weight
        self._counts = counts
        self._faults = faults

    async def carry_out(self, operation: Operation, request: Request, api_key: str) -> Any:
        """The operation's answer. Raises VenueError."""
        self._weight.charge(request.address, operation.weigh(request.sent))
        account = self._signatures.account(api_key)
        self._signatures.check(account, request.sent, request.payload)
        if request.held_seconds:
            await self._faults.wait(request.held_seconds)
            self._signatures.check_time(request.sent)
        return self.apply(operation, account, request)

    def apply(self, operation: Operation, account: Account, request: Request) -> Any:
        """What comes after the checks: of a request of a session that has logged on, all. Raises VenueError."""
        read = Parameters(request.sent, (*operation.known, *SIGNING_NAMES), self._markets, signed=True)
        try:
            return operation.carry_out(Call(account, read, request.received_ns))
        finally:
            self._engine.finish()

    def handler(self, operation: Operation) -> Any:
        """The REST handler of an operation."""

        async def answer(request: web.Request) -> web.Response:
            arrived = arrival.get()
            address, api_key = request.remote or "", request.headers.get("X-MBX-APIKEY", "")
            query, body = request.raw_path.partition("?")[2], await request.text()
            sent = MultiDict(_pairs((query, body)))
            payload = unsigned(query) + unsigned(body)
            asked = Request(address, arrived.at_ns, sent, payload, arrived.held_seconds)
            try:
                document = await self.carry_out(operation, asked, api_key)
                response = web.Response(text=encode(document), content_type="application/json")
            except VenueError as error:
                response = error.response()
            self._weight.show(address, response.headers)
            if operation.orders:
                response.headers.update(CIMultiDict(self._counts.headers(api_key)))
            return response

        return answer


def _pairs(parts: Iterable[str]) -> list[tuple[str, str]]:
    return [pair for part in parts for pair in parse_qsl(part, keep_blank_values=True)]
