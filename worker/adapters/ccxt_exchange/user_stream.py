"""The venue's own word that an order changed: Binance's user data stream, one an account, over its websocket API.

It only hints. What it loses, and it may lose anything unsaid, the looks at the orders find.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from ccxt.base import errors  # pyright: ignore[reportMissingTypeStubs]

from streams.domain.account import Account
from streams.domain.errors import ExecutionError
from streams.ports import HearOrder
from worker.adapters.ccxt_exchange.answers import STATUSES
from worker.adapters.ccxt_exchange.request_budget import RequestBudget, Urgency

log = logging.getLogger(__name__)

Balance = Callable[[Account, Any], None]
"""Told an event on what an account has; None: coins came or went, and what is left was not said."""

CONNECT_WEIGHT = 4  # the connection 2, the subscription 2
CONNECT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LINGER_SECONDS = 30.0
"""How long a stream outlasts its last listener: the account's next order is likely to come soon."""
DEAF_AFTER_SECONDS = 1.0
"""A stream that stood this long and did not tell of a change that a look found is deaf."""
CONNECTIONS_AT_ONCE = 80
SECONDS_A_CONNECTION = 1.5
"""Binance takes 300 connections in 5 minutes from an address; these are 280, and other streams need some too."""


class UserStreams:
    """Keeps a stream for each account that is listened to, and makes a new one on any doubt about it."""

    def __init__(self, instance: Callable[[Account], Awaitable[Any]], budget: RequestBudget, balance: Balance) -> None:
        self._instance = instance
        self._balance = balance
        self._budget = budget
        self._lines: dict[Account, _Line] = {}
        self._pace = _Pace()

    def listen(self, account: Account, heard: HearOrder) -> Callable[[], None]:
        """Have it told of the account's orders; the answer ends that. Must be called on the event loop."""
        line = self._lines.get(account)
        if line is None:
            line = self._lines[account] = _Line(account, self._connect)
            line.task = asyncio.create_task(self._keep(line), name="user stream")
        return line.add(heard)

    def standing(self, account: Account) -> float | None:
        """A name of the connection that tells of all that the account does now; None where there is none."""
        line = self._lines.get(account)
        return None if line is None else line.stands_since

    def noticed(self, account: Account, client_order_id: str) -> None:
        """A look found a change of this order: a stream that should have told of it and did not is made anew."""
        line = self._lines.get(account)
        if line is not None and line.is_deaf_to(client_order_id):
            log.warning("the user stream of an account was silent about an order; a new one is made")
            line.lose("it was silent")

    async def close(self) -> None:
        """End every stream."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lines.clear()

    async def _keep(self, line: _Line) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while await line.wanted():
                begun = asyncio.get_running_loop().time()
                reason = await self._once(line)
                if asyncio.get_running_loop().time() - begun > LONGEST_PAUSE_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                log.debug("a user stream is down: %s", reason)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            if self._lines.get(line.account) is line:
                del self._lines[line.account]

    async def _once(self, line: _Line) -> str:
        """Hold one connection until something is wrong with it, or nobody wants it any more; says what."""
        try:
            await self._pace.turn()
            return await line.hold()
        except TimeoutError:
            return "it was not ready in time"
        except (errors.BaseError, ExecutionError, aiohttp.ClientError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:  # a stream is made anew whatever broke it
            log.exception("a user stream broke")
            return repr(error)

    async def _connect(self, line: _Line) -> _Connection:
        venue = await self._instance(line.account)
        with self._budget.spending(CONNECT_WEIGHT, Urgency.QUESTION):
            connection = _Connection(venue, line.tell, line.lose, lambda event: self._balance(line.account, event))
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.open()
            except BaseException:
                await connection.close()
                raise
        return connection


class _Line:
    """An account's listeners, and what is known of the stream that stands for them now."""

    def __init__(self, account: Account, connect: Callable[[_Line], Awaitable[_Connection]]) -> None:
        self.account = account
        self.task: asyncio.Task[None] | None = None
        self._connect = connect
        self._listeners: list[HearOrder] = []
        self._joined = asyncio.Event()
        self._lost: asyncio.Future[str] | None = None
        self.stands_since: float | None = None
        self._told: set[str] = set()

    def add(self, heard: HearOrder) -> Callable[[], None]:
        self._listeners.append(heard)
        self._joined.set()

        def stop() -> None:
            self._listeners.remove(heard)

        return stop

    def tell(self, client_order_id: str | None, status: str | None) -> None:
        if client_order_id is not None:
            self._told.add(client_order_id)
        for heard in tuple(self._listeners):
            heard(client_order_id, status)

    def lose(self, reason: str) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    def is_deaf_to(self, client_order_id: str) -> bool:
        now = asyncio.get_running_loop().time()
        stood = self.stands_since is not None and now - self.stands_since > DEAF_AFTER_SECONDS
        return stood and client_order_id not in self._told

    async def wanted(self) -> bool:
        """Wait for a listener, for a while; False when none came."""
        while not self._listeners:
            self._joined.clear()
            try:
                await asyncio.wait_for(self._joined.wait(), LINGER_SECONDS)
            except TimeoutError:
                return bool(self._listeners)
        return True

    async def hold(self) -> str:
        lost = self._lost = asyncio.get_running_loop().create_future()
        connection = await self._connect(self)
        self._told.clear()
        self.stands_since = asyncio.get_running_loop().time()
        try:
            self.tell(None, None)  # what came before now was not heard
            while not lost.done():
                done, _ = await asyncio.wait(
                    [lost, connection.gone], timeout=LINGER_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if connection.gone in done:
                    return str(connection.gone.exception() or "closed")
                if not done and not await self.wanted():
                    return "nobody listens"
            return lost.result()
        finally:
            self.stands_since = None
            await connection.close()


class _Connection:
    """One websocket of ccxt's with its subscription; the events are read here.

    ccxt's own handlers join an order's events into one, hang where the venue ends the subscription, and stop reading
    for good at a change of a balance that nobody watches.
    """

    def __init__(
        self, venue: Any, tell: HearOrder, lose: Callable[[str], None], balance: Callable[[Any], None]
    ) -> None:
        self._venue = venue
        self._url = venue.urls["api"]["ws"]["ws-api"]["spot"]
        self._client: Any = None
        self._tell = tell
        self._lose = lose
        self._balance = balance
        self.gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        def handle(client: Any, message: Any) -> None:
            event = message.get("event") if isinstance(message, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if event is None:
                type(self._venue).handle_message(self._venue, client, message)  # pyright: ignore[reportUnknownMemberType]
            else:
                self._hear(event)

        self._venue.handle_message = handle
        self._client = self._venue.client(self._url)
        _leave_none_unheard(self._client)
        try:
            await self._venue.authenticate({"type": "spot"})
        except KeyError as stumble:  # of ccxt, over a subscription that is refused; why it was, was raised before
            raise stumble.__context__ or stumble from None
        self.gone = self._client.future("fillstream:gone")  # rejected with all others when the socket is lost

    def _hear(self, event: Any) -> None:
        """Events are those of binance-spot-api-docs, user-data-stream.md."""
        match event.get("e"):
            case "executionReport":
                # A cancel has an id of its own in `c`; the order's is in `C` then.
                name = str(event.get("C") or event.get("c") or "") or None
                self._tell(name, STATUSES.get(str(event.get("X"))))
            case "outboundAccountPosition":
                self._balance(event)
            case "balanceUpdate":
                self._balance(None)
            case "eventStreamTerminated" | "serverShutdown" as told:
                self._lose(f"the venue said {told}")
            case _:
                return

    async def close(self) -> None:
        client = self._venue.clients.pop(self._url, None)
        if client is not None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await client.close()
            except (errors.BaseError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.debug("a user stream did not close well: %r", error)
        if not self.gone.cancel() and not self.gone.cancelled():
            self.gone.exception()  # said already, or of no interest: it is thrown away in any case


def _leave_none_unheard(client: Any) -> None:
    """Let no failure be called unheard of: ccxt makes futures for whoever may also wait, and often nobody does."""
    make = client.future

    def made(name: str) -> Any:
        future = make(name)
        future.add_done_callback(_hear_out)
        return future

    client.future = made


def _hear_out(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class _Pace:
    """Connections at a rate that the venue takes: some at once, then one after the other."""

    def __init__(self) -> None:
        self._left = float(CONNECTIONS_AT_ONCE)
        self._at = 0.0
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for a turn to connect."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            self._left = min(CONNECTIONS_AT_ONCE, self._left + (loop.time() - self._at) / SECONDS_A_CONNECTION)
            self._at = loop.time()
            if self._left < 1:
                await asyncio.sleep((1 - self._left) * SECONDS_A_CONNECTION)
            self._left -= 1
