"""Orders at Binance spot, testnet or live: each request signed with exactly what its row says, and sent once.

Requests go through ccxt's implicit methods, whose answers are the venue's own text: no amount passes a float.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from streams.domain.account import Account
from streams.domain.errors import Broken, Refused, Rejected, Transient, Unknown
from streams.domain.money import ZERO, exact, text
from streams.domain.order import Fill, Order, OrderReport, Stamp
from streams.domain.signal import QUOTE_CURRENCY, Brief
from streams.domain.sizing import Funds
from streams.ports import Clock, HearOrder, Keyring, Keys
from worker.adapters.ccxt_exchange.answers import BROKEN_ANSWERS, STATUSES
from worker.adapters.ccxt_exchange.balances import Balances
from worker.adapters.ccxt_exchange.market import CcxtMarket
from worker.adapters.ccxt_exchange.order_count import OrderCount
from worker.adapters.ccxt_exchange.outcome import NotFound, sent, sort_failure, sort_question
from worker.adapters.ccxt_exchange.request_budget import Urgency
from worker.adapters.ccxt_exchange.user_stream import UserStreams

R = TypeVar("R")
NoteKeys = Callable[[Account, int, str | None], None]
"""Told what the venue says of an account's keys of a version: why it refuses them, or None where it takes them."""

NO_LIST = (-1, "-1", None)
MOST_TRADES = 1000  # a page of myTrades
PROVEN_SECONDS = 600.0
"""After so long a key that works is told again: the telling may be lost, and an account may have been another's."""
ACCOUNT_WEIGHT, ORDER_WEIGHT, TRADES_WEIGHT, SEND_WEIGHT = 20, 4, 5, 1
"""Request weights of account, one order, one order's trades, and of placing or cancelling."""


class CcxtExchange:
    """Places, looks up and cancels orders of one mode, under each account's own key."""

    def __init__(
        self, mode: str, market: CcxtMarket, keyring: Keyring, clock: Clock, note_keys: NoteKeys | None = None
    ) -> None:
        self._mode = mode
        self._market = market
        self._keyring = keyring
        self._clock = clock
        self._instances: dict[Account, tuple[Keys, Any]] = {}
        self._retired: list[Any] = []
        self._note_keys = note_keys
        self._proven: dict[Account, tuple[int, float]] = {}
        self._count = OrderCount(clock)
        self._balances = Balances(clock)
        self._streams = UserStreams(self._instance, market.budget, self._balance_told)

    def now_ms(self) -> int | None:
        """The venue's clock."""
        return self._market.venue_ms()

    async def funds(self, brief: Brief) -> Funds:
        """The free quote currency and the taker's fee; with it, key and connection are at hand.

        Raises Refused without a valid key, Transient where the venue does not answer or takes no order of it now.
        """
        self._count.check_room(brief.account)
        self._market.budget.check_room(SEND_WEIGHT, Urgency.ENTRY)
        await self._instance(brief.account)
        stream, asked_ms = self._streams.standing(brief.account), self._market.venue_ms()
        known = self._balances.funds(brief.account, stream)
        if known is not None:
            return known
        try:
            answer = await self._asked(
                brief.account, ACCOUNT_WEIGHT, lambda venue: venue.private_get_account({"omitZeroBalances": "true"})
            )
            free = {one["asset"]: Decimal(one["free"]) for one in answer["balances"]}
            taker = Decimal(answer["commissionRates"]["taker"])
        except Rejected as error:
            raise Refused(error.code, error.reason) from error
        except BROKEN_ANSWERS as error:
            raise Transient(f"the exchange's account cannot be read: {error!r}") from error
        funds = Funds(free.get(QUOTE_CURRENCY, ZERO), taker, at_venue=True)
        self._balances.answered(brief.account, stream, funds, asked_ms)
        return funds

    def _balance_told(self, account: Account, event: Any) -> None:
        """What the account's stream says that it has: of the quote currency, if the event names it at all."""
        try:
            for one in event["B"]:
                if one["a"] == QUOTE_CURRENCY:
                    self._balances.told(account, Decimal(one["f"]), int(event["u"]))
        except BROKEN_ANSWERS:
            self._balances.forget(account)

    async def place(self, order: Order) -> OrderReport:
        """Send the order once, stamped as its row says.

        A request whose window is over is not sent. Raises Rejected then, and where the venue surely refused it,
        Transient where it could not be sent, Unknown where it may have been placed.
        """
        venue = await self._signer(order.account, order.credential_version)
        request = {
            "newClientOrderId": order.client_order_id,
            "quantity": text(order.quantity),
            "type": order.type.upper(),
            "newOrderRespType": "FULL",
            **self._stamped(order),
        }
        if order.price is not None:
            request |= {"price": text(order.price), "timeInForce": order.time_in_force or "GTC"}
        if order.stop_price is not None:
            request["stopPrice"] = text(order.stop_price)
        self._check_window(order)
        self._count.note(order.account)
        try:
            answer = await self._sent(
                order.account, venue, lambda: venue.private_post_order(request), lambda told: _is_of(told, order)
            )
        except (Rejected, Unknown):  # it may have spent what is thought to be there, or found that it is not
            self._balances.forget(order.account)
            raise
        try:
            if order.side == "buy":
                self._balances.moved(order.account, int(answer["transactTime"]))
            elif order.type == "market":
                self._balances.forget(order.account)  # to think that there is less would refuse what fits
            return await self._report(order, answer, answer.get("fills"))
        except Exception as error:  # it is placed, whatever else is wrong with its answer: a look-up reads it again
            raise Unknown(f"the order was placed, and its answer cannot be read: {error!r}") from error

    async def place_list(self, stop: Order, target: Order) -> Sequence[OrderReport]:
        """Send both legs as one list (OCO), once, stamped as their rows say. Raises as `place` does, for both alike."""
        venue = await self._signer(stop.account, stop.credential_version)
        request = {
            "listClientOrderId": stop.list_client_order_id,
            "quantity": text(stop.quantity),
            "aboveType": target.type.upper(),
            "aboveStopPrice": text(target.stop_price or ZERO),
            "aboveClientOrderId": target.client_order_id,
            "belowType": stop.type.upper(),
            "belowStopPrice": text(stop.stop_price or ZERO),
            "belowClientOrderId": stop.client_order_id,
            "newOrderRespType": "FULL",
            **self._stamped(stop),
        }
        self._check_window(stop)
        for leg in (stop, target):
            self._count.note(leg.account)

        def both(told: Any) -> bool:
            reports: list[Any] = told.get("orderReports") or []
            legs = [any(_is_of(report, leg) for report in reports) for leg in (stop, target)]
            return bool(told.get("orderListId")) and all(legs)

        answer = await self._sent(stop.account, venue, lambda: venue.private_post_orderlist_oco(request), both)
        try:
            return [await self._leg(leg, answer) for leg in (stop, target)]
        except Exception as error:  # as above
            raise Unknown(f"the list was placed, and its answer cannot be read: {error!r}") from error

    async def look_up(self, order: Order) -> OrderReport | None:
        """What the venue says of the order; None where it does not know it, which proves nothing yet."""
        query = {"symbol": self._market.id_of(order.symbol), "origClientOrderId": order.client_order_id}
        try:
            answer = await self._asked(order.account, ORDER_WEIGHT, lambda venue: venue.private_get_order(query))
        except NotFound:
            return None
        report = await self._report(order, answer, None)
        if report.status not in (
            order.status,
            "submitted",
        ):  # the first word of an order may have come before the stream
            self._streams.noticed(order.account, order.client_order_id)
        return report

    async def cancel(self, order: Order, stamp: Stamp) -> OrderReport | None:
        """Cancel what rests, then ask what became of it; cancelling twice is harmless."""
        (report,) = await self.cancel_all([order], stamp)
        return report

    async def cancel_all(self, orders: Sequence[Order], stamp: Stamp) -> Sequence[OrderReport | None]:
        """Cancel one order, or the legs of one list together; says of each what became of it.

        The answer to a cancel tells of orders that were not filled at all; the others are asked for with their fills.
        """
        first = orders[0]
        venue = await self._signer(first.account)
        request = {
            "symbol": self._market.id_of(first.symbol),
            "timestamp": stamp.signed_at_ms,
            "recvWindow": stamp.recv_window_ms,
        }
        told: list[Any] = []
        with suppress(NotFound, Rejected):  # ended already, or never there: the look-up tells
            if first.list_client_order_id is None:
                cancel, request["origClientOrderId"] = venue.private_delete_order, first.client_order_id
            else:
                cancel, request["listClientOrderId"] = venue.private_delete_orderlist, first.list_client_order_id
            answer = await self._sent(first.account, venue, lambda: cancel(request), urgency=Urgency.CANCEL)
            told = list(answer.get("orderReports") or [answer])
        if first.side == "buy":
            self._balances.forget(first.account)  # what it had set aside is free again
        return [await self._after_cancel(order, told) for order in orders]

    async def _after_cancel(self, order: Order, told: Sequence[Any]) -> OrderReport | None:
        for one in told:
            bare = one.get("status") == "CANCELED" and Decimal(one.get("executedQty", "1")) == ZERO
            if bare and one.get("origClientOrderId") == order.client_order_id:
                return await self._report(order, one, [])
        return await self.look_up(order)

    async def owned(self, account: Account, asset: str) -> Decimal | None:
        """What the account has of an asset, free and locked. Raises Transient, or Rejected for a bad key."""
        answer = await self._asked(
            account, ACCOUNT_WEIGHT, lambda venue: venue.private_get_account({"omitZeroBalances": "true"})
        )
        try:
            held = [one for one in answer["balances"] if one["asset"] == asset]
            return sum((Decimal(one["free"]) + Decimal(one["locked"]) for one in held), ZERO)
        except BROKEN_ANSWERS as error:
            raise Transient(f"the exchange's account cannot be read: {error!r}") from error

    def listen(self, account: Account, heard: HearOrder) -> Callable[[], None]:
        """Tell of the account's orders by its user data stream, as they change; the answer ends it."""
        return self._streams.listen(account, heard)

    async def close(self) -> None:
        """Let every account's instance go; the session is the market's, and stays."""
        await self._streams.close()
        instances = [*self._retired, *(venue for _, venue in self._instances.values())]
        self._instances.clear()
        self._retired.clear()
        for venue in instances:
            venue.timeout_on_exit = 0
            await venue.close()

    async def _report(self, order: Order, answer: Any, told: Any) -> OrderReport:
        """Read an order as the venue tells it; fills come from the answer itself, else from the account's trades."""
        try:
            status, number = STATUSES[answer["status"]], str(answer["orderId"])
            executed = Decimal(answer["executedQty"])
        except BROKEN_ANSWERS as error:
            raise Transient(f"the order's answer cannot be read: {error!r}") from error
        if told is None:
            told = await self._trades(order, number, executed) if executed > ZERO else []
        moment = int(answer.get("transactTime") or answer.get("updateTime") or self._market.venue_ms())
        fills = tuple([await self._fill(order, one, moment) for one in told])
        unfilled = status in ("expired", "cancelled") and executed == ZERO
        return OrderReport(
            status=status,
            exchange_order_id=number,
            fills=fills,
            failure_code="entry_not_filled" if unfilled else "venue_rejected" if status == "failed" else None,
            failure_reason="The exchange ended the order without a fill." if unfilled else None,
            tells_all=True,
            order_list_id=None if answer.get("orderListId", -1) in NO_LIST else str(answer["orderListId"]),
        )

    async def _trades(self, order: Order, number: str, executed: Decimal) -> list[Any]:
        query = {"symbol": self._market.id_of(order.symbol), "orderId": number, "limit": MOST_TRADES}
        trades = await self._asked(order.account, TRADES_WEIGHT, lambda venue: venue.private_get_mytrades(query))
        if sum((Decimal(one["qty"]) for one in trades), ZERO) != executed:
            raise Transient("the exchange's trades lag behind its order")
        return trades

    async def _fill(self, order: Order, trade: Any, moment: int) -> Fill:
        try:
            price, quantity, fee = Decimal(trade["price"]), Decimal(trade["qty"]), Decimal(trade["commission"])
            asset, number = str(trade["commissionAsset"]), str(trade.get("tradeId") or trade["id"])
        except BROKEN_ANSWERS as error:
            raise Transient(f"a trade cannot be read: {error!r}") from error
        executed_at = datetime.fromtimestamp(int(trade.get("time") or moment) / 1000, UTC)
        worth = fee if fee == ZERO else fee * await self._worth(order, asset, price)
        return Fill(number, price, quantity, value_of(price, quantity), fee, asset, worth, executed_at)

    async def _worth(self, order: Order, asset: str, price: Decimal) -> Decimal:
        """What one unit of a fee's asset is worth in the quote currency, at the fill."""
        base, quote = order.symbol.split("/")
        if asset == quote:
            return Decimal(1)
        return price if asset == base else (await self._market.quote(f"{asset}/{QUOTE_CURRENCY}")).bid

    async def _instance(self, account: Account, version: int | None = None) -> Any:
        """The account's instance; where a version is named, under keys of it or newer ones.

        Raises Broken for an account of another mode, whose keys must never be used here.
        """
        if account.mode != self._mode:
            raise Broken(f"an account in {account.mode} mode was handed to the exchange of {self._mode}")
        keys = await self._keyring.keys(account)
        if version is not None and keys.version < version:
            self._keyring.drop(account, keys.version)
            keys = await self._keyring.keys(account)
            if keys.version < version:
                raise Transient(f"the keys of version {version} cannot be had yet")
        held = self._instances.get(account)
        if held is None or held[0] != keys:
            self._retire(account)
            held = self._instances[account] = (keys, self._market.instance(keys))
        return held[1]

    async def _signer(self, account: Account, version: int | None = None) -> Any:
        """The account's instance, likewise. Raises Rejected where there is no key: nothing is sent without one."""
        try:
            return await self._instance(account, version)
        except Refused as error:
            raise Rejected("keys_rejected", error.reason) from error

    async def _asked(self, account: Account, weight: int, question: Callable[[Any], Awaitable[Any]]) -> Any:
        """A signed question, which changes nothing. Raises NotFound, Rejected for a bad key, else Transient."""
        venue = await self._signer(account)
        try:
            answer = await self._market.guarded(weight, Urgency.QUESTION, lambda: question(venue))
            self._keys_work(account, venue)
            return answer
        except Transient:
            raise
        except Exception as error:
            sorted_error = sort_question(error)
            if isinstance(sorted_error, Rejected):
                self._keys_refused(account, venue, sorted_error)
            raise sorted_error from error

    async def _sent(
        self,
        account: Account,
        venue: Any,
        request: Callable[[], Awaitable[Any]],
        confirms: Callable[[Any], bool] | None = None,
        urgency: Urgency = Urgency.ORDER,
    ) -> Any:
        """A signed request that changes something, sent once. Raises what `sort_failure` makes of a failure."""
        sent.set(False)
        try:
            answer = await self._market.guarded(SEND_WEIGHT, urgency, request)
        except Transient:
            raise
        except Exception as error:
            sorted_error = sort_failure(error)
            if isinstance(sorted_error, Rejected) and sorted_error.code == "keys_rejected":
                self._keys_refused(account, venue, sorted_error)
            raise sorted_error from error
        if confirms is not None and not (isinstance(answer, dict) and confirms(answer)):
            raise sort_failure(Broken("the answer is not this order's"))
        return answer  # pyright: ignore[reportUnknownVariableType]

    def _stamped(self, order: Order) -> dict[str, Any]:
        """What every request to place states, exactly as the order's row says."""
        return {
            "symbol": self._market.id_of(order.symbol),
            "side": order.side.upper(),
            "timestamp": order.signed_at_ms,
            "recvWindow": order.recv_window_ms,
        }

    def _check_window(self, order: Order) -> None:
        if self._market.venue_ms() > order.signed_at_ms + order.recv_window_ms:
            raise Rejected("entry_not_accepted", "The order's time window was over before it could be sent.")

    async def _leg(self, order: Order, answer: Any) -> OrderReport:
        (told,) = [one for one in answer["orderReports"] if one["clientOrderId"] == order.client_order_id]
        report = await self._report(order, told, [] if Decimal(told["executedQty"]) == ZERO else None)
        return replace(report, order_list_id=str(answer["orderListId"]))

    def _keys_work(self, account: Account, venue: Any) -> None:
        """The first answer under a key tells that it works; the next ones tell nothing new."""
        held, now = self._instances.get(account), self._clock.monotonic()
        if held is None or held[1] is not venue:
            return
        version, told_at = self._proven.get(account, (None, now))
        if version != held[0].version or now - told_at > PROVEN_SECONDS:
            self._proven[account] = (held[0].version, now)
            self._note(account, held[0].version, None)

    def _keys_refused(self, account: Account, venue: Any, refusal: Rejected) -> None:
        """Show the owner, and forget the keys; other keys that took their place meanwhile are not meant."""
        held = self._instances.get(account)
        if held is None or held[1] is not venue:
            return
        self._proven.pop(account, None)
        self._note(account, held[0].version, f"{refusal.reason} Check it at the exchange, or store another.")
        self._retire(account)
        self._keyring.drop(account, held[0].version)

    def _note(self, account: Account, version: int, error: str | None) -> None:
        if self._note_keys is not None:
            self._note_keys(account, version, error)

    def _retire(self, account: Account) -> None:
        """An instance may be in the middle of a request, so it is closed with all the others."""
        held = self._instances.pop(account, None)
        if held is not None:
            self._retired.append(held[1])


@exact
def value_of(price: Decimal, quantity: Decimal) -> Decimal:
    """What a quantity is worth at a price."""
    return price * quantity


def _is_of(told: Any, order: Order) -> bool:
    """Whether an answer is this order's, and says so."""
    return bool(told.get("orderId")) and told.get("clientOrderId") == order.client_order_id
