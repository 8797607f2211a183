"""One symbol's market: its price, book and trades at any moment, and what a test has set of them."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.venue.book import Book, BookMaker, Level, Top
from sandbox.venue.clock import VenueClock
from sandbox.venue.fixed_point import E8, decimal
from sandbox.venue.instrument import Instrument
from sandbox.venue.price_path import PricePath, draw

__all__ = ["DepthJournal", "Market", "Trade"]

_IDS_A_SLOT = 1000
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade of the public tape; `at_ms` is market time."""

    id: int
    price: E8
    quantity: E8
    at_ms: int
    buyer_is_maker: bool


class DepthJournal:
    """Collects which prices of a book changed since it was last read, for the diff streams."""

    def __init__(self, book: Book) -> None:
        self._read_until = book.update_id
        self._bids: set[E8] = set()
        self._asks: set[E8] = set()

    def note(self, before: Book, after: Book) -> None:
        self._bids.update(price for price, _ in set(before.bids) ^ set(after.bids))
        self._asks.update(price for price, _ in set(before.asks) ^ set(after.asks))

    def read(self, book: Book) -> tuple[int, list[Level], list[Level]] | None:
        """First update id, and the changed levels as they are in `book`, zero where gone; None without a change."""
        if not self._bids and not self._asks:
            return None
        bids, asks = dict(book.bids), dict(book.asks)
        first = self._read_until + 1
        changed_bids = [(price, bids.get(price, 0)) for price in sorted(self._bids, reverse=True)]
        changed_asks = [(price, asks.get(price, 0)) for price in sorted(self._asks)]
        self._read_until = book.update_id
        self._bids.clear()
        self._asks.clear()
        return first, changed_bids, changed_asks


class Market:
    """Computes the market of one instrument from seed and time, when asked and no sooner.

    The market moves in slots of `pace_ms`, in each of which the book stands still and one trade happens. All
    moments here are market time in milliseconds.
    """

    def __init__(self, instrument: Instrument, seed: int, clock: VenueClock) -> None:
        self.instrument = instrument
        self.clock = clock
        self.listeners: set[Callable[[], None]] = set()
        self._key = instrument.key(seed)
        self._pace = instrument.pace_ms
        self._phase = draw(self._key, 99) % self._pace  # symbols of one pace do not all move at once
        self._path = PricePath(self._key, instrument.reference, instrument.volatility)
        self._maker = BookMaker(instrument, self._key)
        self._held: E8 | None = None
        self._hold_times: list[int] = []
        self._holds: list[E8 | None] = []
        self._set_book: tuple[tuple[Level, ...], tuple[Level, ...]] | None = None
        self._set_book_at = 0
        self._set_trades: deque[Trade] = deque(maxlen=_REMEMBERED)
        self._last_trade: tuple[tuple[int, int, int], Trade] | None = None
        self._changed_in = -1
        self._changes = 0
        self._book = Book(-1, (), ())
        self._journals: set[DepthJournal] = set()
        self.day_range: tuple[int, E8, E8] | None = None  # a page of day tickers would cost seconds without it

    @property
    def held(self) -> E8 | None:
        """The price a test has set, while it holds."""
        return self._held

    @property
    def still(self) -> bool:
        """Whether the price stays where a test holds it, with the venue's own quotes around it."""
        return self._held is not None and self._set_book is None

    def slot(self, moment: int) -> int:
        return (moment + self._phase) // self._pace

    def starts(self, slot: int) -> int:
        """When that slot begins."""
        return slot * self._pace - self._phase

    def price(self, moment: int) -> E8:
        """The price at any moment past or to come, on the tick."""
        if self._hold_times:
            known = bisect_right(self._hold_times, moment)
            held = self._holds[known - 1] if known else None
            if held is not None:
                return held
        tick = self.instrument.tick
        price = self._path.at(moment)
        return max(tick, price - price % tick)

    def holds_between(self, start: int, end: int) -> list[int]:
        """The moments in (start, end] at which a test set the price."""
        return self._hold_times[bisect_right(self._hold_times, start) : bisect_right(self._hold_times, end)]

    def update_id(self) -> int:
        """The id of the book as it is now; it grows with every slot and with every change a test makes."""
        slot = self.slot(self.clock.market_ms())
        return slot * _IDS_A_SLOT + (self._changes if slot == self._changed_in else 0)

    def book(self) -> Book:
        """The book now."""
        before, update_id = self._book, self.update_id()
        if before.update_id != update_id:
            slot = update_id // _IDS_A_SLOT
            bids, asks = self._set_book or self._maker.sides(*self._best(slot), self._anchor, slot)
            self._book = Book(update_id, bids, asks)
            for journal in self._journals:
                journal.note(before, self._book)
        return self._book

    def top(self) -> Top:
        """The best prices now, without the rest of the book."""
        update_id = self.update_id()
        if self._set_book is not None or self._book.update_id == update_id:
            return self.book().top
        slot = update_id // _IDS_A_SLOT
        return self._maker.top(*self._best(slot), self._anchor, slot)

    def follow_depth(self) -> DepthJournal:
        """Starts a journal of changes; `forget_depth` ends it."""
        journal = DepthJournal(self.book())
        self._journals.add(journal)
        return journal

    def forget_depth(self, journal: DepthJournal) -> None:
        self._journals.discard(journal)

    def last_trade(self) -> Trade:
        """The newest trade of the tape."""
        known_by = (self.slot(self.clock.market_ms()), self._changed_in, self._changes)
        if self._last_trade is None or self._last_trade[0] != known_by:  # every order that rests asks for it
            newest = self._trade(known_by[0])
            if self._set_trades and self._set_trades[-1].id > newest.id:
                newest = self._set_trades[-1]
            self._last_trade = known_by, newest
        return self._last_trade[1]

    def trades(self, *, until: int | None = None, limit: int) -> list[Trade]:
        """The newest trades up to a moment (now, without one), oldest first."""
        now = self.clock.market_ms()
        until = now if until is None else min(until, now)
        last = self.slot(until)
        found = self._between(last - limit + 1, last)
        return [trade for trade in found if trade.at_ms <= until][-limit:]

    def trades_from(self, first_id: int, limit: int) -> list[Trade]:
        """Trades from that id on, oldest first."""
        first = max(0, first_id // _IDS_A_SLOT)
        last = min(first + limit, self.slot(self.clock.market_ms()))
        return [trade for trade in self._between(first, last) if trade.id >= first_id][:limit]

    def trades_since(self, start: int, end: int | None, limit: int) -> list[Trade]:
        """Trades at or after `start` and not after `end`, oldest first."""
        now = self.clock.market_ms()
        end = now if end is None else min(end, now)
        first = self.slot(start)
        found = self._between(first, min(first + limit, self.slot(end)))
        return [trade for trade in found if start <= trade.at_ms <= end][:limit]

    def trade_count(self, start: int, end: int) -> tuple[int, int, int]:
        """First id, last id and number of trades in that time."""
        first, last = self.slot(start), self.slot(end)
        return first * _IDS_A_SLOT, last * _IDS_A_SLOT, max(1, last - first)

    def volume(self, start: int, end: int) -> E8:
        """Base quantity traded in that time: drawn for the period, about what its trades add up to."""
        _, _, count = self.trade_count(start, end)
        mean = self.instrument.liquidity * 10**8 // self.instrument.reference // 8
        quantity = count * mean * (512 + draw(self._key, start) % 1024) // 1024
        return max(self.instrument.step, quantity - quantity % self.instrument.step)

    def average(self, span_ms: int, points: int = 10) -> E8:
        """The mean price over the time just past."""
        now = self.clock.market_ms()
        return sum(self.price(now - span_ms * number // points) for number in range(points)) // points

    def hold(self, price: E8 | None) -> None:
        """Sets the price until it is set again; None lets it move. Raises ValueError for one off the tick."""
        tick = self.instrument.tick
        if price is not None and (price % tick or price < 2 * tick):
            symbol = self.instrument.symbol
            raise ValueError(f"{decimal(price):f} is no price of {symbol}: its tick is {decimal(tick):f}")
        now = self.clock.market_ms()
        self._held = price
        if self._hold_times and self._hold_times[-1] >= now:
            self._holds[-1] = price
        else:
            self._hold_times.append(now)
            self._holds.append(price)
        if len(self._holds) > 2 * _REMEMBERED:
            del self._hold_times[:_REMEMBERED], self._holds[:_REMEMBERED]
        if price is not None:
            newest = self.last_trade()
            self._set_trades.append(Trade(newest.id + 1, price, newest.quantity, now, newest.buyer_is_maker))
        self._changed()

    def set_book(self, bids: Sequence[Level] | None, asks: Sequence[Level] | None) -> None:
        """Sets the whole book until it is set again; None for both lets the venue quote.

        Raises ValueError for amounts off tick or step, and for a bid at or above an ask.
        """
        if bids is None and asks is None:
            self._set_book = None
        else:
            bids, asks = sorted(bids or (), reverse=True), sorted(asks or ())
            self._check_levels([*bids, *asks])
            if bids and asks and bids[0][0] >= asks[0][0]:
                raise ValueError("the best bid is not below the best ask")
            self._set_book = tuple(bids), tuple(asks)
            self._set_book_at = self.clock.market_ms()
        self._changed()

    def _check_levels(self, levels: Sequence[Level]) -> None:
        tick, step = self.instrument.tick, self.instrument.step
        for price, quantity in levels:
            if price <= 0 or price % tick or quantity <= 0 or quantity % step:
                raise ValueError(
                    f"{decimal(quantity):f} at {decimal(price):f} is no level of {self.instrument.symbol}: "
                    f"its tick is {decimal(tick):f}, its step {decimal(step):f}"
                )
        if len({price for price, _ in levels}) < len(levels):
            raise ValueError("a price occurs twice")

    def _changed(self) -> None:
        slot = self.slot(self.clock.market_ms())
        self._changes = self._changes + 1 if slot == self._changed_in else 1
        self._changed_in = slot
        for listener in tuple(self.listeners):
            listener()

    @property
    def _anchor(self) -> E8:
        return self._held or self.instrument.reference

    def _best(self, slot: int) -> tuple[E8, E8]:
        if self._held is not None:
            return self._held - self.instrument.tick, self._held + self.instrument.tick
        return self._maker.best(self._path.at(self.starts(slot)), slot)

    def _trade(self, slot: int) -> Trade:
        """The one trade of that slot: at its start, at the price a test had set, else at the bid or the ask."""
        at = self.starts(slot)
        buyer_is_maker = bool(draw(self._key, slot) & 1)
        if self._set_book and at >= self._set_book_at and all(self._set_book):
            price = self._set_book[0 if buyer_is_maker else 1][0][0]
        else:
            price = self.price(at)
            known = bisect_right(self._hold_times, at)
            if not known or self._holds[known - 1] is None:
                price = self._maker.best(price, slot)[0 if buyer_is_maker else 1]
        return Trade(slot * _IDS_A_SLOT, price, self._maker.quantity(slot), at, buyer_is_maker)

    def _between(self, first: int, last: int) -> list[Trade]:
        found = [self._trade(slot) for slot in range(first, last + 1)]
        low, high = first * _IDS_A_SLOT, (last + 1) * _IDS_A_SLOT
        set_ones = [trade for trade in self._set_trades if low <= trade.id < high]
        if set_ones:
            found = sorted(found + set_ones, key=lambda trade: trade.id)
        return found
