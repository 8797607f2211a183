"""Keeps one position until it has ended: decide one step from the rows, take it, read the rows again.

A step is finished once begun. Whatever goes wrong in it, the next one is decided from the rows as they stand then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from streams.aio import finished
from streams.domain.errors import Dismissed, Rejected, Transient
from streams.domain.exits import next_step, remember, sellable_of
from streams.domain.held import Held, Memory
from streams.domain.lines import Lines, lines_of
from streams.domain.market import MarketRules, Quote
from streams.domain.order import Order, OrderReport
from streams.domain.reconcile import UNSURE, ended_bare, never_accepted, never_sent, proven_absent, vanished
from streams.domain.step import Adopt, Answer, Ask, Cancel, CancelEntry, Close, Protect, Sell, Step, Wait
from streams.exit_orders import exit_order, protective_orders
from streams.outcome import Closed, Monitored, Outcome
from streams.placing import Placing
from streams.ports import Clock, Exchange, ExitPlan, Heard, Market, NewId, Store
from streams.prices import Span

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, HURRIED_PAUSE_SECONDS = 0.1, 30.0, 2.0
"""Between tries that fail one after the other; the last, at most, while nothing rests or it is to be sold."""
UNSURE_SECONDS = 0.25
LOOK_SECONDS = 0.2
"""Between looks at what rests while the price is through it."""
QUOTE_SECONDS = 10.0
"""A quote older than this decides nothing."""
RULES_SECONDS = 0.5
MOST_REFUSALS = 5
"""After so many refused exits a close has not come about, and the position is protected again."""
UNPROTECTABLE_AFTER = 2


@dataclass(frozen=True, slots=True)
class KeepingSettings:
    """`recv_window_ms` of exits and protection; `poll_interval` in seconds between looks at an exit at work.

    `guard_interval`: seconds between looks at what rests while nothing is heard of it. `unknown_margin_ms`: how long
    after its window an order that cannot be found is proven never accepted.
    """

    recv_window_ms: int
    poll_interval: float
    guard_interval: Callable[[], float]
    unknown_margin_ms: int


class Keeper:
    """Holds one position; `span`, `heard` and `news` may be called at any time on the event loop."""

    def __init__(
        self,
        held: Held,
        store: Store,
        market: Market,
        exchange: Exchange,
        clock: Clock,
        new_id: NewId,
        settings: KeepingSettings,
        cancel_entry: Callable[[Order], None],
        moves: asyncio.Semaphore,
    ) -> None:
        self._held = held
        self._store = store
        self._market = market
        self._exchange = exchange
        self._clock = clock
        self._new_id = new_id
        self._settings = settings
        self._cancel_entry = cancel_entry
        self._moves = moves
        self._placing = Placing(store, exchange, settings.recv_window_ms)
        self._memory = Memory(peak=held.position.entry_price)
        self._quote: Quote | None = None
        self._unbooked: list[Heard] = []
        self._woken = asyncio.Event()
        self._stale = False
        self._looked_at = 0.0  # what befell orders before this keeper came is looked at first
        self._news_of_orders = bool(held.orders)
        self._look_is_due = False
        self._changed: set[str] = set()
        self._failures = 0
        self._refusals = 0
        self._lines = Lines()
        self.acting = False

    @property
    def held(self) -> Held:
        """The position as it was read last."""
        return self._held

    @property
    def quote(self) -> Quote | None:
        """The last quote seen."""
        return self._quote

    def span(self, span: Span) -> None:
        """Take prices in; wakes the keeper where they cross anything, or have risen so far that a stop is moved."""
        self._quote = span.last
        crossed = self._lines.crossed(span.low, span.high) or self._memory.through_since is not None
        if not crossed and span.high <= self._lines.peak:
            return
        rules = self._rules()
        if rules is None:
            return
        self._memory = remember(self._memory, self._held, rules, span.bids, self._clock.monotonic())
        self._lines = lines_of(self._held, rules, self._memory.peak)
        if not (crossed or self._memory.trailed or self._lines.move_is_due):
            return
        if self._memory.through_since is not None and self._clock.monotonic() - self._looked_at > LOOK_SECONDS:
            self._news_of_orders = True  # what rests may have been fired
        self._woken.set()

    def heard(self, client_order_id: str | None, status: str | None) -> None:
        """The venue says that an order changed; that it rests is no news of one that is known to rest.

        In the middle of a step it may be one that the step itself places or ends: what is at work afterwards counts.
        """
        meant = [one for one in self._held.orders if one.client_order_id == client_order_id]
        rests = status == "submitted" and all(one.status == "submitted" for one in meant)
        if client_order_id is None or (meant and not rests and not self.acting):
            self._news_of_orders = True
        elif self.acting and not rests:
            self._changed.add(client_order_id)
        else:
            return
        self._woken.set()

    def news(self) -> None:
        """The rows say more than was read: the entry grew, or something is asked of the position."""
        self._stale = True
        self._woken.set()

    async def steps(self) -> AsyncIterator[Outcome]:
        """Keep the position until it has ended, or is another worker's."""
        while self._held.position.is_open:
            self._woken.clear()
            try:
                if self._stale:
                    await self._read()
                if self._held.actions and not self._has_fresh_quote():
                    self._quote = await self._market.quote(self._held.position.symbol)  # what is asked is judged by it
                step = self._decide()
                if isinstance(step, Wait):
                    await self._wait(step)
                    continue
                if self._failures and not await self._is_still_so(step):
                    continue
                for outcome in await self._in_turn(step):
                    yield outcome
                self._failures = 0
            except Dismissed:
                return
            except Transient as error:
                log.debug("position %s waits: %s", self._held.position.id, error)
                await self._pause()
            except Rejected as error:  # the key, for refusals of orders are booked
                log.warning("position %s waits: %s", self._held.position.id, error.reason)
                await self._pause()
            except Exception:  # whatever it is, the position is still to be kept
                log.exception("a step for position %s failed", self._held.position.id)
                await self._pause()

    def _rules(self) -> MarketRules | None:
        try:
            return self._market.rules(self._held.position.symbol)
        except Exception as error:  # not loaded yet, or not listed any more
            log.debug("no rules of %s: %s", self._held.position.symbol, error)
            return None

    def _decide(self) -> Step:
        rules, at = self._rules(), self._clock.monotonic()
        if rules is None:
            return Wait(at + RULES_SECONDS)
        working = tuple(order for order in self._held.orders if order.status not in UNSURE)
        self._news_of_orders |= any(order.client_order_id in self._changed for order in self._held.orders)
        self._changed.clear()
        if (self._news_of_orders or self._look_is_due) and working:
            return Ask(self._held.orders if self._news_of_orders else self._held.one_of_each_list)
        partly = any(order.status == "partially_filled" for order in self._held.guards)
        since = self._memory.partly_since
        self._memory = replace(self._memory, partly_since=(at if since is None else since) if partly else None)
        self._lines = lines_of(self._held, rules, self._memory.peak)
        quote = self._quote if self._has_fresh_quote() else None
        return next_step(self._held, rules, quote, self._memory, self._clock.now(), at)

    def _has_fresh_quote(self) -> bool:
        return self._quote is not None and self._clock.monotonic() - self._quote.seen_at <= QUOTE_SECONDS

    async def _wait(self, wait: Wait) -> None:
        """Until something happens; orders at work are looked at now and then all the same."""
        if self._unbooked:
            await finished(self._book_unbooked())
            return
        now, held, settings = self._clock.monotonic(), self._held, self._settings
        times = [] if wait.until is None else [wait.until]
        hurried = self._memory.through_since is not None or any(order.purpose == "exit" for order in held.orders)
        look_at = self._looked_at + (settings.poll_interval if hurried else settings.guard_interval())
        if held.orders:
            times.append(look_at)
        if held.entry_works or held.position.status == "closing":
            times.append(now + settings.poll_interval)
        if await self._told(None if not times else max(min(times) - now, 0.0)):
            return
        # News may have come in the very moment in which the waiting ended.
        self._look_is_due = bool(held.orders) and self._clock.monotonic() >= look_at
        self._stale |= held.entry_works or held.position.status == "closing"

    async def _told(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    async def _pause(self) -> None:
        """After a failure: longer each time, and then from the rows as they stand."""
        hurried = self._held.position.status == "closing" or not self._held.guards
        longest = HURRIED_PAUSE_SECONDS if hurried else LONGEST_PAUSE_SECONDS
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 16), longest)
        self._failures += 1
        self._stale = True
        self._woken.clear()
        await self._told(pause)

    async def _read(self) -> None:
        self._stale = False
        found = await self._store.held([self._held.position.id])
        if not found:
            raise Dismissed("the position has ended, or is another worker's")
        self._held = found[0]

    async def _is_still_so(self, step: Step) -> bool:
        """After a failure what a step replaces is looked at first: nothing is written for a venue out of reach."""
        held = self._held
        if isinstance(step, Sell | Protect) and step.instead_of:
            await finished(self._ask(step.instead_of), name="keep")
        return self._held is held

    async def _in_turn(self, step: Step) -> Sequence[Outcome]:
        """Take a step; one without hurry waits for its turn, and is decided anew where anything happens meanwhile."""
        if not (isinstance(step, Protect) and step.is_move):
            return await finished(self._taken(step), name="keep")
        turn = asyncio.ensure_future(self._moves.acquire())
        news = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({turn, news}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                return ()
            return await finished(self._taken(step), name="keep")
        finally:
            news.cancel()
            turn.cancel()
            if turn.done() and not turn.cancelled():
                self._moves.release()

    async def _taken(self, step: Step) -> Sequence[Outcome]:
        self.acting = True
        try:
            return await self._take(step)
        finally:
            self.acting = False

    async def _take(self, step: Step) -> Sequence[Outcome]:
        if self._unbooked and not isinstance(step, Sell | Protect):
            await self._book_unbooked()
            return ()
        match step:
            case Ask(orders):
                await self._ask(orders)
            case Cancel(orders):
                reports = await self._placing.cancel(orders)
                if not await self._learn(list(zip(orders, reports, strict=True))):
                    await self._told(UNSURE_SECONDS)
            case CancelEntry(entry):
                self._cancel_entry(entry)
                await self._told(UNSURE_SECONDS)
                self._stale = True
            case Protect():
                await self._protect(step)
            case Sell():
                await self._sell(step)
            case Adopt():
                self._held = await self._store.adopt(self._held.position.id)
                return (Monitored(self._held.position),)
            case Answer():
                self._held = await self._store.answer(step)
            case Close(reason):
                return await self._close(reason)
            case Wait():
                await self._wait(step)
        return ()

    async def _ask(self, orders: Sequence[Order]) -> None:
        """What became of these orders: several looks at once, each booked where it says something new."""
        self._news_of_orders = self._look_is_due = False
        self._looked_at = self._clock.monotonic()
        sampled = len(orders) < len(self._held.orders)
        venue_ms = self._exchange.now_ms()  # before the question: the answer is of this moment or later
        reports = await asyncio.gather(*(self._look_up(order) for order in orders))
        told = [
            (order, report if report is not None else await self._missing(order, venue_ms))
            for order, report in zip(orders, reports, strict=True)
        ]
        if await self._learn(told):
            self._news_of_orders |= sampled
        elif any(order.status in UNSURE for order in orders):
            await self._told(UNSURE_SECONDS)

    async def _look_up(self, order: Order) -> OrderReport | None:
        if self._placing.surely_unsent(order):
            return never_sent("the answer to its intent was lost")
        return await self._exchange.look_up(order)

    async def _missing(self, order: Order, venue_ms: int | None) -> OrderReport | None:
        """What it means that the venue does not know an order: nothing yet, that it never came, or that it is gone."""
        margin_ms = self._settings.unknown_margin_ms
        if venue_ms is None:
            return None
        if proven_absent(order, venue_ms, margin_ms):
            return never_accepted()
        if order.status in UNSURE or venue_ms < (order.acknowledged_ms or 0) + margin_ms:
            return None
        if await self._exchange.look_up(self._held.entry) is None:
            self._memory = replace(self._memory, lost=True)  # the venue was reset: it knows not even the entry
        return vanished()

    async def _learn(self, told: Sequence[tuple[Order, OrderReport | None]]) -> bool:
        """Take in reports; what ended without a fill is booked with the next intent. False where nothing is new."""
        news = [(order, report) for order, report in told if report is not None and _is_news(order, report)]
        if not news:
            return False
        bare = all(ended_bare(report) and not order.filled_quantity for order, report in news)
        if bare and len(news) == len(self._held.orders):
            self._unbooked = [Heard(order.id, report) for order, report in news]
            self._held = replace(self._held, orders=())
            return True
        await self._book([Heard(order.id, report) for order, report in news])
        return True

    async def _book_unbooked(self) -> None:
        unbooked, self._unbooked = self._unbooked, []
        await self._book(unbooked)

    async def _book(self, heard: Sequence[Heard]) -> None:
        self._held = await self._store.record_exits(self._held.position.id, heard)

    async def _protect(self, step: Protect) -> None:
        orders = protective_orders(self._held, step, self._new_id)
        plan = replace(self._placing.plan(orders, self._unbooked), instead_of=step.instead_of)
        refusal = await self._placed(replace(plan, trailing_stop_price=step.trailing_stop))
        if refusal is None or await self._coins_are_gone(refusal):
            return
        if self._refusals >= UNPROTECTABLE_AFTER:
            self._memory = replace(self._memory, unprotectable=refusal.reason)

    async def _sell(self, step: Sell) -> None:
        order = exit_order(self._held, step, self._new_id)
        plan = replace(self._placing.plan((order,), self._unbooked), instead_of=step.instead_of)
        refusal = await self._placed(replace(plan, exit_reason=step.reason, action_id=step.action_id))
        if refusal is None or await self._coins_are_gone(refusal):
            return
        if self._refusals >= MOST_REFUSALS and self._held.position.status == "closing":
            log.error("position %s could not be sold: %s", self._held.position.id, refusal.reason)
            self._memory = replace(self._memory, unprotectable=None, trailed=False, through_since=None)
            self._held = await self._store.resume(self._held.position.id, refusal.reason)
            self._refusals = 0

    async def _placed(self, plan: ExitPlan) -> Rejected | None:
        """Place what is planned and book what came of it. A refusal is told, and slows the next try down."""
        sent = await self._placing.place(plan)
        self._unbooked = []
        if sent is None:
            raise Transient("the rows say otherwise by now")
        await self._book(sent.heard)
        self._looked_at = self._clock.monotonic()
        if sent.refusal is None:
            self._refusals = 0
            if sent.out_of_reach:
                raise Transient("the exchange takes no orders now")
            return None
        self._refusals += 1
        log.warning("the exchange refused to sell of position %s: %s", self._held.position.id, sent.refusal.reason)
        await self._told(min(FIRST_PAUSE_SECONDS * 2.0**self._refusals, LONGEST_PAUSE_SECONDS))
        return sent.refusal

    async def _coins_are_gone(self, refusal: Rejected) -> bool:
        """Whether an order was refused for want of coins that the account does not have any more."""
        if refusal.code != "insufficient_balance":
            return False
        rules = self._market.rules(self._held.position.symbol)
        owned = await self._exchange.owned(self._held.position.account, rules.base)
        if owned is None or owned >= sellable_of(self._held.position, rules):
            return False
        self._memory = replace(self._memory, lost=True)
        return True

    async def _close(self, reason: str) -> Sequence[Outcome]:
        self._held = await self._store.close_position(self._held.position.id, reason)
        if self._held.position.is_open:
            return ()
        return (Closed(self._held.position),)


def _is_news(order: Order, report: OrderReport) -> bool:
    after = order.after(report)
    return (after.filled_quantity, after.status) != (order.filled_quantity, order.status)
