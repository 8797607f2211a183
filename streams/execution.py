"""One signal's way: validate > survey > check risk > fund > size | admit > place > book.

Prepare may be cancelled and done again. Commit may not: from admission on each stage is finished once begun,
and any doubt is left to recovery. Every signal ends as an outcome; the stream itself never fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from streams.aio import Operator, from_coro, on, recover, shielded_step, step
from streams.booking import Booking
from streams.domain import risk, signal, sizing
from streams.domain.account import Account
from streams.domain.errors import Broken, Dismissed, Refused, Rejected, Transient
from streams.domain.market import MarketRules, Quote
from streams.domain.order import Order, OrderReport, client_order_id
from streams.domain.reconcile import failed_to_place
from streams.domain.signal import Brief, Signal
from streams.domain.sizing import Funds
from streams.in_hand import InHand
from streams.outcome import Deferred, Dropped, InDoubt, Outcome, TurnedAway
from streams.ports import Admission, Attempt, Clock, Exchange, Market, NewId, Store

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # a brief read less than this ago, with nothing traded since, is as good as a new one


@dataclass(frozen=True, slots=True)
class Claimed:
    """A brief and when it was read (monotonic seconds)."""

    brief: Brief
    at: float


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A sound signal and what the market says now."""

    signal: Signal
    rules: MarketRules
    quote: Quote


@dataclass(frozen=True, slots=True)
class Funded:
    """A signal that no rule of the market speaks against, and what it may spend from."""

    surveyed: Surveyed
    funds: Funds


@dataclass(frozen=True, slots=True)
class Admitted:
    """The rows are at `submitting`: the order may be sent, once."""

    attempt: Attempt
    order: Order


@dataclass(frozen=True, slots=True)
class Reported:
    """What the venue answered."""

    attempt: Attempt
    order: Order
    report: OrderReport


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """`default_slippage` in percent of the ask, 0 for none; `recv_window_ms` as signed requests state it."""

    default_slippage: Decimal
    recv_window_ms: int


class Execution:
    """Carries claimed signals to their outcomes; `in_hand` names the orders that recovery must leave alone."""

    def __init__(
        self,
        store: Store,
        markets: Mapping[str, Market],
        exchanges: Mapping[str, Exchange],
        clock: Clock,
        new_id: NewId,
        settings: ExecutionSettings,
        in_hand: InHand,
    ) -> None:
        self._store = store
        self._markets = markets
        self._exchanges = exchanges
        self._clock = clock
        self._new_id = new_id
        self._settings = settings
        self._in_hand = in_hand
        self._booking = Booking(store, markets)
        self._traded_at: dict[Account, float] = {}

    def execute(self, claimed: Claimed) -> Observable[Outcome]:
        """Carry one signal to its outcomes."""
        prepared: Observable[Attempt] = rx.just(claimed).pipe(self._prepare())
        committed = prepared.pipe(ops.flat_map(self._commit))
        return committed.pipe(
            recover(lambda error: from_coro(lambda: self._answer(claimed.brief, error), name="answer")),
            recover(lambda error: rx.just(self._deferred(claimed.brief, error))),
        )

    def keep_only(self, held: frozenset[Account]) -> None:
        """Forget the accounts that this worker does not hold any more."""
        self._traded_at = {account: at for account, at in self._traded_at.items() if account in held}

    def _prepare(self) -> Operator[Claimed, Attempt]:
        return rx.compose(
            step(self._freshen),
            ops.map(signal.validate),
            step(self._survey),
            ops.map(check_risk),
            step(self._fund),
            ops.map(self._size),
        )

    def _commit(self, attempt: Attempt) -> Observable[Outcome]:
        self._in_hand.hold(attempt.order_id)
        send: Callable[[Observable[Admitted]], Observable[Outcome]] = rx.compose(
            shielded_step(self._place), shielded_step(self._book), ops.flat_map(rx.from_iterable)
        )
        admitted: Observable[Admitted | Outcome] = rx.just(attempt).pipe(shielded_step(self._admit))
        return admitted.pipe(
            on(Admitted, rx.compose(send, recover(lambda error: rx.just(self._in_doubt(attempt, error))))),
            ops.finally_action(lambda: self._settled(attempt)),
        )

    async def _freshen(self, claimed: Claimed) -> Brief:
        account = claimed.brief.account
        untouched = self._traded_at.get(account, 0.0) < claimed.at
        if untouched and self._clock.monotonic() - claimed.at < FRESH_SECONDS:
            return claimed.brief
        brief = await self._store.brief(claimed.brief.id)
        if brief is None:
            raise Dismissed("it is no longer this worker's to trade")
        return brief.model_copy(update={"claimed_at": claimed.brief.claimed_at})  # woken once, however often read

    async def _survey(self, sound: Signal) -> Surveyed:
        market = self._markets[sound.brief.mode]
        rules = market.rules(sound.symbol)
        if not rules.trading:
            raise Refused("unknown_symbol", f"{rules.symbol} is not trading at the exchange now.", rules.symbol)
        return Surveyed(sound, rules, await market.quote(sound.symbol))

    async def _fund(self, surveyed: Surveyed) -> Funded:
        brief = surveyed.signal.brief
        return Funded(surveyed, await self._exchange(brief.mode).funds(brief))

    def _size(self, funded: Funded) -> Attempt:
        surveyed = funded.surveyed
        brief = surveyed.signal.brief
        sized = sizing.size_entry(
            surveyed.signal, surveyed.rules, surveyed.quote, funded.funds, self._settings.default_slippage
        )
        position_id, venue_ms = self._new_id(), self._exchange(brief.mode).now_ms()
        return Attempt(
            id=self._new_id(),
            position_id=position_id,
            order_id=self._new_id(),
            client_order_id=client_order_id(position_id, "entry"),
            brief=brief,
            sized=sized,
            venue_offset_ms=0 if venue_ms is None else venue_ms - self._store.now_ms(),
            recv_window_ms=self._settings.recv_window_ms,
            balance=funded.funds.balance if funded.funds.at_venue else None,
        )

    async def _admit(self, attempt: Attempt) -> Admitted | Outcome:
        brief = attempt.brief
        admission = await self._store.admit(attempt)
        if admission.outcome == "late":  # too little is left of the lease: renew it and ask again
            await self._store.heartbeat()
            admission = await self._store.admit(attempt)
        match admission.outcome:
            case "admitted":
                return Admitted(attempt, _order(attempt, admission))
            case "refused":
                return TurnedAway(brief.id, brief.account, admission.code or "", admission.reason or "")
            case "taken":
                return Dropped(brief.id, "it was taken or is not ready any more")
            case "stale":
                return Deferred(brief.id, brief.account, "the trader changed while it was prepared")
            case "late":
                return Deferred(brief.id, brief.account, "too little was left of the worker's lease")

    async def _place(self, admitted: Admitted) -> Reported:
        order = admitted.order
        try:
            report = await self._exchange(order.mode).place(order)
        except Exception as error:
            if order.mode == "paper" and not isinstance(error, Rejected):
                raise  # nothing was filled: recovery places it anew
            report = failed_to_place(error)
        return Reported(admitted.attempt, order, report)

    async def _book(self, reported: Reported) -> Sequence[Outcome]:
        attempt = reported.attempt
        return await self._booking.book(
            reported.order, attempt.brief.id, attempt.sized.protection, reported.report, age=0.0
        )

    async def _answer(self, brief: Brief, error: Exception) -> Outcome:
        """Sort a failure before admission by what to do about it, and see that the row says it."""
        match error:
            case Refused():
                if not await self._store.refuse(brief.id, error):
                    return Dropped(brief.id, "it was answered or taken meanwhile")
                return TurnedAway(brief.id, brief.account, error.code, error.reason)
            case Dismissed():
                return Dropped(brief.id, str(error))
            case Transient():
                return self._deferred(brief, error)
            case _:
                log.error("signal %s could not be prepared", brief.id, exc_info=error)
                if await self._store.record_failed_try(brief.id, repr(error)):
                    return TurnedAway(brief.id, brief.account, "internal_error", repr(error))
                return self._deferred(brief, error)

    def _deferred(self, brief: Brief, error: Exception) -> Deferred:
        return Deferred(brief.id, brief.account, str(error))

    def _in_doubt(self, attempt: Attempt, error: Exception) -> InDoubt:
        return InDoubt(attempt.order_id, attempt.brief.account, f"{type(error).__name__}: {error}", unheard=False)

    def _settled(self, attempt: Attempt) -> None:
        self._traded_at[attempt.brief.account] = self._clock.monotonic()
        self._in_hand.release(attempt.order_id)

    def _exchange(self, mode: str) -> Exchange:
        exchange = self._exchanges.get(mode)
        if exchange is None:
            raise Broken(f"a signal in {mode} mode was claimed, which this worker does not trade in")
        return exchange


def check_risk(surveyed: Surveyed) -> Surveyed:
    """Let a signal through that no rule of the market speaks against."""
    risk.check_market(surveyed.signal, surveyed.rules, surveyed.quote)
    return surveyed


def _order(attempt: Attempt, admission: Admission) -> Order:
    sized, brief = attempt.sized, attempt.brief
    return Order(
        id=attempt.order_id,
        position_id=attempt.position_id,
        user_id=brief.user_id,
        mode=brief.mode,
        purpose="entry",
        client_order_id=attempt.client_order_id,
        symbol=brief.symbol or "",
        side="buy",
        type=sized.type,
        time_in_force=sized.time_in_force,
        quantity=sized.quantity,
        price=sized.price,
        status="submitting",
        reserved=sized.worst_value + sized.fee_reserve,
        signed_at_ms=admission.signed_at_ms,
        recv_window_ms=attempt.recv_window_ms,
        credential_version=admission.credential_version,
    )
