"""The ports in memory: a table with the database's rules, a market, an exchange that answers as it is told."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from streams.domain.account import Account
from streams.domain.errors import Broken, Dismissed, Refused, Rejected, Transient, Unknown
from streams.domain.held import Held
from streams.domain.market import Book, Level, MarketRules, Quote
from streams.domain.money import ZERO
from streams.domain.order import ENDED, MOVES, Order, OrderReport, Stamp
from streams.domain.position import Position
from streams.domain.risk import Protection
from streams.domain.signal import Brief, PaperFunds
from streams.domain.sizing import Funds
from streams.domain.step import Answer as ActionAnswer
from streams.ports import (
    Admission,
    Attempt,
    Booked,
    Claim,
    ExitPlan,
    Heard,
    HearOrder,
    Mark,
    Prepared,
    Pulse,
    Unfinished,
)
from tests.domain import specimens
from tests.streams import answers
from tests.streams.answers import Answer
from tests.streams.fake_exits import Exits, named
from tests.streams.faulty import Faulty

STARTED = 1000.0
"""The monotonic time at the loop's zero."""


class FakeClock:
    """The loop's clock as wall time and monotonic time."""

    def now(self) -> datetime:
        return specimens.NOON + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic(self) -> float:
        return STARTED + asyncio.get_running_loop().time()


@dataclass
class SignalRow:
    """A row of `signals`."""

    brief: Brief
    status: str = "ready"
    code: str | None = None
    tries: int = 0


NO_PROTECTION = Protection()


@dataclass
class OrderRow:
    """A row of `orders` with what belongs to it."""

    order: Order
    brief: Brief
    admitted_at: float
    protection: Protection = NO_PROTECTION
    trade_ids: set[str] = field(default_factory=set[str])


def now_ms(clock: FakeClock) -> int:
    """A clock's wall time in Unix milliseconds."""
    return round(clock.now().timestamp() * 1000)


class FakeStore(Faulty):
    """Implements streams.ports.Store on rows in memory."""

    def __init__(self, clock: FakeClock, *briefs: Brief) -> None:
        super().__init__()
        self._clock = clock
        self.signals: dict[UUID, SignalRow] = {}
        self.orders: dict[UUID, OrderRow] = {}
        self.positions: dict[UUID, Position] = {}
        self.holders: dict[Account, UUID | None] = {}
        self.balances: dict[Account, Decimal] = {}
        self.verdicts: dict[UUID, deque[Admission]] = {}
        self.claim_limit = 200
        self.surplus = 0
        self.marks: list[tuple[tuple[Mark, ...], dict[Account, Decimal]]] = []
        self.sent_marks: list[tuple[Mark, ...]] = []
        self.key_errors: dict[tuple[Account, int], str | None] = {}
        self.credential_versions: dict[Account, int] = {}
        self.expired = False
        self.worker_ids: list[UUID] = []
        self.lease_seconds = 10.0
        self._beat_ms = 0
        self._dead: set[UUID] = set()
        self._answers: dict[UUID, Admission] = {}
        self.exits = Exits(self.positions, self._entry_of, self.now_ms)
        self.put(*briefs)

    def now_ms(self) -> int:
        """The table's clock, in Unix milliseconds."""
        return now_ms(self._clock)

    def lease_ends_ms(self) -> int:
        """So long after the last heartbeat that was answered."""
        return self._beat_ms + round(self.lease_seconds * 1000)

    def put(self, *briefs: Brief) -> None:
        """Insert signals that are ready."""
        for brief in briefs:
            self.signals[brief.id] = SignalRow(brief)
            self.holders.setdefault(brief.account, None)
            self.balances.setdefault(brief.account, Decimal(10000))

    def put_unfinished(
        self,
        order: Order,
        brief: Brief,
        age: float = 0.0,
        protection: Protection | None = None,
        stop: Decimal | None = None,
        target: Decimal | None = None,
    ) -> None:
        """Insert an admitted signal with its order and position, as a stopped worker leaves them."""
        self.put(brief)
        self.signals[brief.id].status = "executing"
        known = {f"{order.id}-{number}" for number in range(1, order.fills + 1)}
        self.orders[order.id] = OrderRow(order, brief, STARTED - age, protection or Protection(), known)
        self.positions[order.position_id] = specimens.position(
            id=order.position_id,
            signal_id=brief.id,
            user_id=brief.user_id,
            mode=brief.mode,
            status="open" if order.filled_quantity else "submitting",
            stop_loss_price=stop,
            take_profit_price=target,
        )

    def declare_dead(self) -> None:
        """Declare the worker dead, and let its accounts go."""
        self._dead.add(self.worker_ids[-1])
        self.holders = dict.fromkeys(self.holders)

    def give_to_another(self, account: Account) -> None:
        """Let another live worker hold an account."""
        self.holders[account] = UUID(int=0xFFFF)

    def status(self, brief: Brief) -> str:
        """A signal's status."""
        return self.signals[brief.id].status

    def available(self, account: Account) -> Decimal:
        """The paper money that no working order has reserved."""
        working = (row.order for row in self.orders.values() if row.brief.account == account)
        return self.balances[account] - sum((one.reserved for one in working if one.status not in ENDED), ZERO)

    async def register(self, worker_id: UUID) -> None:
        await self.enter("register")
        self.worker_ids.append(worker_id)
        self._beat_ms = self.now_ms()

    async def heartbeat(self) -> Pulse:
        await self.enter("heartbeat")
        if self.worker_ids[-1] in self._dead:
            return Pulse(False, frozenset(), 0)
        self._beat_ms = self.now_ms()
        return Pulse(True, self._held(), self.surplus)

    async def retire(self) -> None:
        await self.enter("retire")
        self.declare_dead()

    async def claim(self, ids: Sequence[UUID] | None) -> Claim:
        await self.enter("claim")
        me = self._alive()
        rows = sorted(self.signals.values(), key=lambda row: (row.brief.ready_at, row.brief.seq))
        unseen = tuple(one for one in ids or () if one not in self.signals)
        named = {self.signals[one].brief.account for one in ids or () if one in self.signals}
        ready = [row.brief for row in rows if row.status == "ready" and (ids is None or row.brief.account in named)]
        unfinished = [row.brief for row in self.orders.values() if self._is_unfinished(row) and ids is None]
        wanted = dict.fromkeys(brief.account for brief in [*ready, *unfinished])
        taken = tuple(account for account in wanted if self.holders[account] is None)
        self.holders.update(dict.fromkeys(taken, me))
        mine = [self._fresh(brief) for brief in ready if self.holders[brief.account] == me]
        await self.leave("claim")
        return Claim(taken, tuple(mine[: self.claim_limit]), len(mine) > self.claim_limit, unseen)

    async def brief(self, signal_id: UUID) -> Brief | None:
        await self.enter("brief")
        row = self.signals[signal_id]
        return self._fresh(row.brief) if self._mine_to_trade(row) else None

    async def refuse(self, signal_id: UUID, refusal: Refused) -> bool:
        await self.enter("refuse")
        row = self.signals[signal_id]
        if not self._mine_to_trade(row):
            return False
        row.status, row.code = "rejected", refusal.code
        return True

    async def record_failed_try(self, signal_id: UUID, detail: str) -> bool:
        await self.enter("record_failed_try")
        row = self.signals[signal_id]
        row.tries += self._mine_to_trade(row)
        if row.tries >= 3:
            row.status, row.code = "rejected", "internal_error"
        return row.tries >= 3

    async def admit(self, attempt: Attempt) -> Admission:
        await self.enter("admit")
        answer = self._answers.get(attempt.id) or self._admit(attempt)
        if answer.outcome in ("admitted", "refused"):
            self._answers[attempt.id] = answer
        await self.leave("admit")
        return answer

    async def record(self, order_id: UUID, report: OrderReport, stop: Decimal | None, target: Decimal | None) -> Booked:
        await self.enter("record")
        row = self.orders[order_id]
        if self.holders[row.brief.account] != self._alive():
            raise Dismissed("the account is another worker's")
        changed = self._book(row, report)
        if changed and row.order.filled_quantity:
            prices = {"stop_loss_price": stop, "take_profit_price": target}
            told = {name: price for name, price in prices.items() if price is not None}
            position = self.positions[row.order.position_id]
            self.positions[position.id] = position.model_copy(update=told)
        await self.leave("record")
        return Booked(changed, row.order.status, self.positions[row.order.position_id])

    async def unfinished(self, accounts: Sequence[Account] | None = None) -> Sequence[Unfinished]:
        await self.enter("unfinished")
        now = self._clock.monotonic()
        answer = [
            Unfinished(row.order, row.brief.id, row.protection, now - row.admitted_at, self.expired)
            for row in self.orders.values()
            if self._is_unfinished(row) and row.brief.account in self._held(accounts)
        ]
        await self.leave("unfinished")
        return answer

    async def open_positions(self, accounts: Sequence[Account] | None = None) -> Sequence[Position]:
        await self.enter("open_positions")
        held = self._held(accounts)
        return [position for position in self.positions.values() if position.is_open and position.account in held]

    async def release(self, accounts: Sequence[Account]) -> None:
        await self.enter("release")
        for account in accounts:
            self.holders[account] = None
        self.surplus = max(self.surplus - len(accounts), 0)

    async def held(self, position_ids: Sequence[UUID] | None = None, *, asked: bool = False) -> Sequence[Held]:
        await self.enter("held")
        accounts = self._held(None)
        found = [
            self.exits.held(position.id)
            for position in self.positions.values()
            if named(position_ids, position.id)
            and position.account in accounts
            and position.status not in ("closed", "failed")
            and (asked or position.is_open)
        ]
        return [one for one in found if one.actions or not asked]

    async def prepare_exits(self, plan: ExitPlan) -> Prepared:
        await self.enter("prepare_exits")
        self._check_held(plan.position_id)
        prepared = self.exits.prepare(plan)
        await self.leave("prepare_exits")
        return prepared

    async def record_exits(self, position_id: UUID, heard: Sequence[Heard]) -> Held:
        await self.enter("record_exits")
        self._check_held(position_id)
        for one in heard:
            if self.exits.orders[one.order_id].position_id != position_id:
                raise Broken(f"order {one.order_id} is no sell of position {position_id}")
            self.exits.book(one.order_id, one.report)
        await self.leave("record_exits")
        return self.exits.held(position_id)

    async def adopt(self, position_id: UUID) -> Held:
        await self.enter("adopt")
        self._check_held(position_id)
        return self.exits.adopt(position_id)

    async def resume(self, position_id: UUID, detail: str) -> Held:
        await self.enter("resume")
        self._check_held(position_id)
        return self.exits.resume(position_id)

    async def close_position(self, position_id: UUID, reason: str) -> Held:
        await self.enter("close_position")
        self._check_held(position_id)
        return self.exits.close(position_id, reason)

    async def answer(self, answer: ActionAnswer) -> Held:
        await self.enter("answer")
        self._check_held(answer.action.position_id)
        return self.exits.answer(answer)

    async def write_marks(self, marks: Sequence[Mark], balances: Mapping[Account, Decimal]) -> int:
        await self.enter("write_marks")
        self.marks.append((tuple(marks), dict(balances)))
        return 1

    async def send_marks(self, marks: Sequence[Mark]) -> None:
        await self.enter("send_marks")
        self.sent_marks.append(tuple(marks))

    def _check_held(self, position_id: UUID) -> None:
        if self.positions[position_id].account not in self._held(None):
            raise Dismissed("the account is another worker's")

    def _entry_of(self, position_id: UUID) -> Order:
        (entry,) = [row.order for row in self.orders.values() if row.order.position_id == position_id]
        return entry

    async def note_keys(self, account: Account, version: int, error: str | None) -> None:
        await self.enter("note_keys")
        if account not in self._held():
            raise Dismissed("the account is another worker's")
        self.key_errors[account, version] = error

    def _alive(self) -> UUID:
        if self.worker_ids[-1] in self._dead:
            raise Dismissed("this worker was declared dead")
        return self.worker_ids[-1]

    def _held(self, accounts: Sequence[Account] | None = None) -> frozenset[Account]:
        me = self._alive()
        held = frozenset(account for account, holder in self.holders.items() if holder == me)
        return held if accounts is None else held & frozenset(accounts)

    def _fresh(self, brief: Brief) -> Brief:
        balance, available = self.balances[brief.account], self.available(brief.account)
        return brief.model_copy(update={"paper": PaperFunds(current=balance, available=available)})

    def _mine_to_trade(self, row: SignalRow) -> bool:
        return row.status == "ready" and self.holders[row.brief.account] == self._alive()

    def _admit(self, attempt: Attempt) -> Admission:
        row, sized = self.signals[attempt.brief.id], attempt.sized
        if not self._mine_to_trade(row):
            return Admission("taken")
        if verdicts := self.verdicts.get(row.brief.id):
            verdict = verdicts.popleft()
            if verdict.outcome == "refused":
                row.status, row.code = "rejected", verdict.code
            return verdict
        reserved = sized.worst_value + sized.fee_reserve
        if reserved > self.available(row.brief.account):
            row.status, row.code = "rejected", "insufficient_balance"
            return Admission("refused", "insufficient_balance", "The paper balance is too small.")
        order = specimens.order(
            id=attempt.order_id,
            position_id=attempt.position_id,
            user_id=row.brief.user_id,
            mode=row.brief.mode,
            client_order_id=attempt.client_order_id,
            type=sized.type,
            time_in_force=sized.time_in_force,
            quantity=sized.quantity,
            price=sized.price,
            reserved=reserved,
        )
        admitted = sized.protection
        kept = Protection(stop_percent=admitted.stop_percent, target_percent=admitted.target_percent)
        self.put_unfinished(
            order, row.brief, protection=kept, stop=sized.stop_loss_price, target=sized.take_profit_price
        )
        self.orders[order.id].admitted_at = self._clock.monotonic()
        return Admission(
            "admitted",
            signed_at_ms=self.now_ms() + attempt.venue_offset_ms,
            credential_version=self.credential_versions.get(row.brief.account),
        )

    def _book(self, row: OrderRow, report: OrderReport) -> bool:
        order = row.order
        if order.mode == "paper" and report.known_fills != order.fills:
            return False  # made up without knowing all earlier fills: news of another order
        new = tuple(one for one in report.fills if one.exchange_trade_id not in row.trade_ids)
        moves = report.status in MOVES[order.status]
        if not moves and not (new and report.status == order.status):
            self._settle(row, report)
            return False
        after = order.after(OrderReport(report.status, fills=new))
        if after.filled_quantity > after.quantity:
            raise Broken(f"order {order.id} is for {order.quantity}, and fills of {after.filled_quantity} are told")
        row.order = after
        row.trade_ids.update(one.exchange_trade_id for one in new)
        self.balances[row.brief.account] -= sum((one.value + one.fee_usdt for one in new), ZERO)
        position, signal = self.positions[order.position_id], self.signals[row.brief.id]
        if row.order.filled_quantity:
            changes = {
                "status": "open" if position.status == "submitting" else position.status,
                "entry_quantity": row.order.filled_quantity,
                "entry_value": row.order.total_value,
                "entry_price": row.order.total_value / row.order.filled_quantity,
                "entry_time": self._clock.now(),
            }
            self.positions[position.id] = position.model_copy(update=changes)
            signal.status = "in_position"
        else:
            self._settle(row, report)
        return True

    def _is_unfinished(self, row: OrderRow) -> bool:
        return row.order.status not in ENDED or self.positions[row.order.position_id].status == "submitting"

    def _settle(self, row: OrderRow, report: OrderReport) -> None:
        """Let a position fail whose entry has ended for good without a fill."""
        position = self.positions[row.order.position_id]
        if report.ended and report.final and position.status == "submitting" and row.order.status in ENDED:
            changes = {"status": "failed", "failure_code": report.failure_code or "entry_not_filled"}
            self.positions[position.id] = position.model_copy(update=changes)
            self.signals[row.brief.id].status = "failed"


class FakeMarket(Faulty):
    """BTC/USDT and whatever else ends in USDT at one price, as deep as anybody wants."""

    def __init__(self) -> None:
        super().__init__()
        self.price = Decimal(100)
        self.trading = True
        self.watchers: dict[str, list[Callable[[Quote], None]]] = {}

    def rules(self, symbol: str) -> MarketRules:
        if symbol.startswith("NONE"):
            raise Refused("unknown_symbol", f"{symbol} is not traded at the exchange.", symbol)
        if symbol.startswith("BUG"):
            raise ZeroDivisionError(symbol)
        return specimens.rules(symbol=symbol, trading=self.trading)

    def watch(self, symbol: str, seen: Callable[[Quote], None]) -> Callable[[], None]:
        self.watchers.setdefault(symbol, []).append(seen)
        return lambda: self.watchers[symbol].remove(seen)

    def tick(self, symbol: str, *bids: str) -> None:
        """Let the best price of a symbol go through these."""
        for bid in bids:
            self.price = Decimal(bid)
            quote = Quote(symbol, self.price, self.price, STARTED + asyncio.get_running_loop().time())
            for seen in tuple(self.watchers.get(symbol, ())):
                seen(quote)

    async def quote(self, symbol: str) -> Quote:
        await self.enter("quote")
        return Quote(symbol, self.price, self.price, STARTED + asyncio.get_running_loop().time())

    async def book(self, symbol: str) -> Book:
        await self.enter("book")
        level = Level(self.price, Decimal(10**6))
        return Book(symbol, (level,), (level,))


class FakeExchange(Faulty):
    """Places orders as told, each verb with answers of its own; by default as a market at 100 makes of them.

    With a clock it is a venue: it keeps to windows, and takes no client id anew whose order rests.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.unheard_of: set[str] = set()
        self.coins: Decimal | None = None
        self.stamps: list[Stamp] = []
        self.listeners: list[HearOrder] = []
        self.placed: list[UUID] = []
        self.taken: Counter[str] = Counter()
        self._at_rest: set[str] = set()
        self.underway: Counter[UUID] = Counter()
        self.most_underway: Counter[UUID] = Counter()
        self.fee_rate = Decimal("0.001")
        self.answers: dict[str, Answer] = {
            "place": answers.at_100,
            "look_up": answers.at_100,
            "cancel": answers.cancelled_at_100,
        }

    async def funds(self, brief: Brief) -> Funds:
        await self.enter("funds")
        assert brief.paper is not None
        return Funds(brief.paper.available, self.fee_rate, at_venue=brief.mode != "paper")

    async def place(self, order: Order) -> OrderReport:
        self._check_window(order)
        self.placed.append(order.position_id)
        self.underway[order.user_id] += 1
        most = max(self.most_underway[order.user_id], self.underway[order.user_id])
        self.most_underway[order.user_id] = most
        try:
            await self.enter("place")
            return self._take(order)
        finally:
            self.underway[order.user_id] -= 1

    async def look_up(self, order: Order) -> OrderReport | None:
        await self.enter("look_up")
        return self._told("look_up", order)

    async def cancel(self, order: Order, stamp: Stamp) -> OrderReport | None:
        await self.enter("cancel")
        if self._is_over(stamp.signed_at_ms, stamp.recv_window_ms):
            raise Transient("the cancel is outside of its window")
        self.stamps.append(stamp)
        return self._told("cancel", order)

    async def place_list(self, stop: Order, target: Order) -> Sequence[OrderReport]:
        self._check_window(stop)
        self.placed.append(stop.position_id)
        await self.enter("place_list")
        return [self.answers["place"](leg) for leg in (stop, target)]

    async def cancel_all(self, orders: Sequence[Order], stamp: Stamp) -> Sequence[OrderReport | None]:
        return [await self.cancel(order, stamp) for order in orders]

    async def owned(self, account: Account, asset: str) -> Decimal | None:
        await self.enter("owned")
        return self.coins

    def listen(self, account: Account, heard: HearOrder) -> Callable[[], None]:
        self.listeners.append(heard)
        return lambda: self.listeners.remove(heard)

    def tell(self, client_order_id: str | None, status: str | None = None) -> None:
        """Say by the stream that this order changed, or that any may have."""
        for heard in tuple(self.listeners):
            heard(client_order_id, status)

    def now_ms(self) -> int | None:
        """The venue's clock, where it has one."""
        return None if self.clock is None else now_ms(self.clock)

    def _check_window(self, order: Order) -> None:
        if self._is_over(order.signed_at_ms, order.recv_window_ms):
            raise Rejected("entry_not_accepted", "The order's time window was over before it could be sent.")

    def _take(self, order: Order) -> OrderReport:
        is_lost = self._lost["place"] > 0
        self._lost["place"] -= is_lost
        if self.clock is not None and order.client_order_id in self._at_rest:
            raise Unknown("an order with this id rests already")
        report = self._told("place", order)
        self.taken[order.client_order_id] += report is not None
        if report is None or is_lost:
            raise Unknown("no answer came")
        return report

    def _told(self, verb: str, order: Order) -> OrderReport | None:
        if order.client_order_id in self.unheard_of:
            return None
        report = self.answers[verb](order)
        if report.ended:
            self._at_rest.discard(order.client_order_id)
        else:
            self._at_rest.add(order.client_order_id)
        return report

    def _is_over(self, signed_at_ms: int, recv_window_ms: int) -> bool:
        return self.clock is not None and now_ms(self.clock) > signed_at_ms + recv_window_ms
