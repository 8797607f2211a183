"""Takes orders, matches them with the market, and lets them rest, trigger, fill and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sandbox.venue import filters
from sandbox.venue.accounts import Account, Lock
from sandbox.venue.book_walk import cut, reachable
from sandbox.venue.clock import VenueClock
from sandbox.venue.executions import Executions
from sandbox.venue.fill_plan import FillPlan
from sandbox.venue.fixed_point import E8
from sandbox.venue.ledger import Ledger
from sandbox.venue.market import Market
from sandbox.venue.order_checks import INSUFFICIENT, check_price, examine, need, paid_asset, quantity_of
from sandbox.venue.order_count import OrderCount
from sandbox.venue.orders import Order, OrderList, Terms
from sandbox.venue.refusal import VenueError, cancel_rejected, filter_failure, order_rejected
from sandbox.venue.settlement import Settlement
from sandbox.venue.triggers import begin_trailing, calm_between, triggered
from sandbox.venue.user_events import UserEvents
from sandbox.venue.watch import Watch

__all__ = ["MatchingEngine"]


class MatchingEngine:
    """Works on the ledger's orders. After each call that changes something comes `finish`.

    Orders meet the venue's own book alone, never one another, and leave it as it is; but an order has each level of
    one state of the book only once.
    """

    def __init__(
        self,
        markets: Mapping[str, Market],
        clock: VenueClock,
        ledger: Ledger,
        events: UserEvents,
        counts: OrderCount,
        plan_of: Callable[[str], FillPlan],
    ) -> None:
        self._markets = markets
        self._clock = clock
        self._ledger = ledger
        self._events = events
        self._plan_of = plan_of
        self._executions = Executions(clock, ledger, events, counts, Settlement(markets))
        self._watches: dict[str, Watch] = {}
        self._calm: dict[str, tuple[E8, E8] | None] = {}

    def start(self) -> None:
        """Goes on with the orders that rested when the venue last stopped."""
        for symbol in self._ledger.waiting_symbols():
            self._look(symbol)

    def stop(self) -> None:
        for watch in self._watches.values():
            watch.sleep()

    def refresh(self, symbol: str | None = None) -> None:
        """Brings the orders of a symbol, or all, up to this moment."""
        for name in self._ledger.waiting_symbols() if symbol is None else (symbol,):
            if self._is_calm(name):
                continue
            self._evaluate_all(name)
            if name in self._watches:
                self._watch(name)
        self.finish()

    def finish(self) -> None:
        """Places what waited for another order to fill, writes everything down and tells the accounts' listeners."""
        while self._executions.released:
            self._activate(self._executions.released.pop(0))
        for account, assets in self._ledger.commit():
            self._events.position(account, assets)

    def place(self, account: Account, market: Market, terms: Terms, received_ns: int) -> Order:
        """Takes one order and matches it. Raises VenueError for one that is refused."""
        examine(self._ledger, account, market, [terms])
        check_price(market, terms)
        quantity, lock = quantity_of(market, terms), Lock(0, paid_asset(market, terms))
        if not account.resize(lock, need(market, terms, quantity)):
            raise order_rejected(INSUFFICIENT)
        order = self._new(account, market, terms, quantity, lock, received_ns)
        self._open(order)
        self._begin(order)
        self._watch(order.symbol)
        return order

    def place_list(
        self,
        account: Account,
        market: Market,
        client_id: str,
        working: Terms | None,
        pair: Sequence[Terms],
        received_ns: int,
        *,
        pays: bool = False,
    ) -> OrderList:
        """Takes an order list. `pays`: what the working order buys is what the pair sells. Raises VenueError."""
        first = [working] if working else list(pair)
        examine(self._ledger, account, market, [*first, *pair] if working else pair, unsized=list(pair) if pays else ())
        known = self._ledger.order_list(account, None, client_id)
        if known and not known.done:
            raise order_rejected("Duplicate order sent.")
        for terms in first:
            check_price(market, terms)
        lock = Lock(0, paid_asset(market, first[0]))
        if not account.resize(lock, max(need(market, terms, terms.quantity) for terms in first)):
            raise order_rejected(INSUFFICIENT)
        opened = [self._new(account, market, terms, terms.quantity, lock, received_ns) for terms in first]
        waiting: list[Order] = []
        if working:
            later = Lock(0, paid_asset(market, pair[0]))
            waiting = [
                self._new(account, market, terms, 0 if pays else terms.quantity, later, received_ns) for terms in pair
            ]
        now = self._clock.now_ms()
        orders = OrderList(
            id=self._ledger.next_id("list"),
            account=account,
            symbol=market.instrument.symbol,
            client_order_id=client_id,
            created_ms=now,
            updated_ms=now,
            working=opened[0] if working else None,
            pair=tuple(waiting or opened),
        )
        if pays:
            orders.proceeds = Lock(-orders.id, market.instrument.base, holders=1)
        self._ledger.add_list(orders)
        for order in orders.orders:
            order.order_list = orders
            if order in waiting:
                order.status = "PENDING_NEW"
            self._open(order)
        self._events.list_status(orders)
        for order in opened:
            if order.open:
                self._begin(order)
        self._watch(orders.symbol)
        return orders

    def cancel(self, order: Order, cancel_id: str) -> None:
        """Cancels an order, and with it the list it belongs to. Raises VenueError for one that is not open."""
        if not order.open:
            raise cancel_rejected()
        for each in order.order_list.orders if order.order_list else (order,):
            if each.open:
                self._executions.cancel(each, cancel_id)
        self._watch(order.symbol)

    def _new(self, account: Account, market: Market, terms: Terms, quantity: E8, lock: Lock, received_ns: int) -> Order:
        now, plan = self._clock.now_ms(), self._plan_of(market.instrument.symbol)
        order = Order(
            id=self._ledger.next_id("order"),
            account=account,
            instrument=market.instrument,
            terms=terms,
            quantity=quantity,
            received_ns=received_ns,
            created_ms=now,
            updated_ms=now,
            lock=lock,
            plan=plan,
            hidden_until=self._clock.market_ms() + int(plan.lag * 1000) if plan.lag else 0,
        )
        lock.id = lock.id or order.id
        lock.holders += 1
        return order

    def _open(self, order: Order) -> None:
        self._place_on_book(order)
        self._ledger.add(order)
        self._events.execution(order, "NEW")

    def _place_on_book(self, order: Order) -> None:
        if order.status == "PENDING_NEW":
            return
        if order.terms.conditional:
            begin_trailing(order, self._last(order.symbol), self._clock.now_ms())
        else:
            order.working_ms = self._clock.now_ms()

    def _begin(self, order: Order) -> None:
        if not order.waits_for_stop and order.plan.mode != "never":
            self._match(order, arriving=True)

    def _last(self, symbol: str) -> E8:
        return self._markets[symbol].last_trade().price

    def _is_calm(self, symbol: str) -> bool:
        """Whether nothing can happen to a symbol's orders: stops alone, and the last price is at none of them."""
        calm = self._calm.get(symbol)
        return calm is not None and calm[0] < self._last(symbol) < calm[1]

    def _look(self, symbol: str) -> None:
        if self._is_calm(symbol):
            self._watches[symbol].wake()
            return
        self._evaluate_all(symbol)
        self.finish()
        self._watch(symbol)

    def _watch(self, symbol: str) -> None:
        watch = self._watches.get(symbol)
        if watch is None:
            watch = self._watches[symbol] = Watch(
                self._markets[symbol], lambda: self._look(symbol), lambda: self._next_moment(symbol)
            )
        moving = [order for order in self._ledger.waiting(symbol) if _may_move(order)]
        self._calm[symbol] = calm_between(moving)
        if moving:
            watch.wake()
        else:
            watch.sleep()

    def _next_moment(self, symbol: str) -> int | None:
        """When the next part of an order is due to be filled."""
        moments = [moment for order in self._ledger.waiting(symbol) if (moment := self._next_part(order)) is not None]
        return min(moments, default=None)

    def _next_part(self, order: Order) -> int | None:
        if order.late_at is not None or order.plan_started is None:
            return order.late_at
        part = order.plan.next_part(self._clock.market_ms() - order.plan_started)
        return None if part is None else order.plan_started + part

    def _evaluate_all(self, symbol: str) -> None:
        for order in self._ledger.waiting(symbol):
            if order.late_at is not None:
                self._fill_late(order)
            elif not order.open or not _may_move(order):
                continue
            elif not order.waits_for_stop:
                self._match(order)
            elif triggered(order, self._last(order.symbol), self._clock.now_ms()):
                self._executions.trigger(order)
                self._match(order, arriving=True)

    def _fill_late(self, order: Order) -> None:
        if order.late_at is not None and self._clock.market_ms() >= order.late_at:
            order.late_at = None
            price = order.terms.price or self._last(order.symbol)
            if not self._executions.fill(order, price, order.remaining, maker=True):
                self._executions.end(order)

    def _match(self, order: Order, *, arriving: bool = False) -> None:
        market, terms = self._markets[order.symbol], order.terms
        if order.resting and not arriving and not _crossed(order, market):
            return
        book = market.book()
        levels = book.asks if terms.buys else book.bids
        if order.seen is not levels:
            order.seen, order.taken = levels, {}
        found = reachable(levels, terms.limit, order.remaining, order.taken, buys=terms.buys)
        total = wanted = order.remaining
        if not (order.resting and market.still):
            total = sum(quantity for _, quantity in found)
        if terms.limit is not None and terms.time_in_force == "FOK":
            if total < wanted:
                self._executions.expire(order, "UNFILLED_FOK_ORDER_EXPIRED")
                return
        elif order.plan.mode == "partial" and (total or terms.takes_only):
            wanted = self._released(order)
        self._take(order, found, min(total, wanted))
        if not order.open:
            return
        if not terms.takes_only:
            order.resting = order.resting or total < wanted or total < order.remaining
        elif self._next_part(order) is None:
            reason = "INSUFFICIENT_LIQUIDITY" if terms.limit is None else "UNFILLED_IOC_QUANTITY_EXPIRED"
            self._executions.expire(order, reason)

    def _released(self, order: Order) -> E8:
        """How much more of an order may be filled by now."""
        now = self._clock.market_ms()
        if order.plan_started is None:
            order.plan_started = now
        return order.plan.released(order.quantity, now - order.plan_started, order.instrument.step) - order.executed

    def _take(self, order: Order, found: Sequence[tuple[E8, E8]], quantity: E8) -> None:
        if quantity <= 0:
            return
        levels = cut(found, quantity)
        for price, part in levels:
            order.taken[price] = order.taken.get(price, 0) + part
        if order.resting:
            levels = [(order.terms.price, quantity)]
        for price, part in levels:
            if not self._executions.fill(order, price, part, maker=order.resting):
                self._executions.expire(order, "REJECTED")
                return

    def _activate(self, orders: OrderList) -> None:
        """Places the pending orders of a list whose working order has filled."""
        pending = [order for order in orders.pair if order.status == "PENDING_NEW"]
        if not pending:
            return
        market = self._markets[orders.symbol]
        try:
            if orders.proceeds:
                self._size(orders, pending)
            for order in pending:
                check_price(market, order.terms)
            needed = max(need(market, order.terms, order.quantity) for order in pending)
            if not orders.account.resize(pending[0].lock, needed):
                raise order_rejected(INSUFFICIENT)
        except VenueError:
            for order in pending:
                if order.open:
                    self._executions.expire(order, "REJECTED")
            return
        for order in pending:
            order.status, order.updated_ms = "NEW", self._clock.now_ms()
            self._place_on_book(order)
            self._ledger.note(order)
            self._events.execution(order, "NEW")
        for order in pending:
            if order.open:
                self._begin(order)
        self._watch(orders.symbol)

    def _size(self, orders: OrderList, pending: Sequence[Order]) -> None:
        """Gives the orders that sell what was received their quantity. Raises VenueError where it is too little."""
        assert orders.proceeds
        held = orders.proceeds.amount
        orders.account.resize(orders.proceeds, 0)
        for order in pending:
            order.quantity = held - held % order.instrument.step
            if not order.quantity:
                raise filter_failure("LOT_SIZE")
            filters.check(replace(order.terms, quantity=order.quantity), self._markets[orders.symbol])


def _may_move(order: Order) -> bool:
    if order.late_at is not None:
        return True
    return order.status != "PENDING_NEW" and order.plan.mode != "never"


def _crossed(order: Order, market: Market) -> bool:
    """Whether the market is at the price of an order that rests."""
    price, top, held = order.terms.price, market.top(), market.held
    if order.terms.buys:
        return 0 < top.ask <= price or (market.still and held is not None and held <= price)
    return top.bid >= price or (market.still and held is not None and held >= price)
