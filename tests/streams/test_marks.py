"""What positions are worth is told by turns: each user once a second at most, nobody forgotten, rows every 5 s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

from streams.domain.held import Held
from streams.domain.market import Quote
from streams.marks import MARKS_A_TURN, MESSAGES_A_SECOND, SEND_SECONDS, WRITE_SECONDS, Marks
from streams.ports import Mark
from tests.domain import specimens
from tests.streams.fakes import FakeClock, FakeStore
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import passed

TICK_SECONDS = 0.1


@dataclass(eq=False)
class Kept:
    """A position with the last price of it, as its keeper shows them."""

    held: Held
    quote: Quote


class Book:
    """Positions of so many users, and what is told of them."""

    def __init__(self, users: int, positions_each: int) -> None:
        self.clock = FakeClock()
        everybody = [UUID(int=number + 1) for number in range(users)]
        self.kept = [_kept(user, number) for user in everybody for number in range(positions_each)]
        self.sent: list[tuple[float, Mark]] = []
        self.written: list[tuple[float, int]] = []
        self.workers = 1
        store: Any = FakeStore(self.clock)
        store.send_marks, store.write_marks = self._send, self._write
        keepers: Any = lambda: self.kept  # noqa: E731
        marks = Marks(store, {}, self.clock, keepers, self._any_kept)
        self.told = marks.told().subscribe()

    async def move(self, seconds: float) -> None:
        """Let every price move ten times a second for so long."""
        for _ in range(round(seconds / TICK_SECONDS)):
            for one in self.kept:
                one.quote = replace(one.quote, bid=one.quote.bid + 1)
            await passed(TICK_SECONDS)

    async def _send(self, marks: list[Mark]) -> None:
        self.sent += [(self.clock.monotonic(), mark) for mark in marks]

    async def _write(self, marks: list[Mark], balances: object) -> int:
        self.written.append((self.clock.monotonic(), len(marks)))
        return self.workers

    async def _any_kept(self) -> None:
        assert self.kept

    def times_of(self, user: UUID) -> list[float]:
        return [at for at, mark in self.sent if mark.account.user_id == user]


def _kept(user: UUID, number: int) -> Kept:
    position = specimens.position(user_id=user, id=UUID(int=user.int * 1000 + number), mode="paper")
    return Kept(Held(position, specimens.order()), Quote("BTC/USDT", Decimal(100), Decimal(101), 0.0))


def book(users: int, positions_each: int = 1) -> Callable[[Callable[[Book], Awaitable[None]]], Callable[[], None]]:
    """Run a test with a book of so many users."""

    def decorate(story: Callable[[Book], Awaitable[None]]) -> Callable[[], None]:
        @in_virtual_time
        async def test() -> None:
            opened = Book(users, positions_each)
            await story(opened)
            opened.told.dispose()

        test.__name__, test.__doc__ = story.__name__, story.__doc__
        return test

    return decorate


@book(users=8, positions_each=50)
async def test_each_user_is_told_once_a_second_and_not_all_at_once(book: Book) -> None:
    await book.move(10.0)
    for user in {one.held.position.user_id for one in book.kept}:
        times = sorted(set(book.times_of(user)))
        assert len(times) >= 8
        assert all(later - earlier > SEND_SECONDS - 0.02 for earlier, later in pairwise(times))
    assert max(Counter(at for at, _ in book.sent).values()) == MARKS_A_TURN


@book(users=200)
async def test_of_more_users_than_may_be_told_those_who_waited_longest_come_first(book: Book) -> None:
    await book.move(20.0)
    assert len(book.sent) <= MESSAGES_A_SECOND * 20 * 1.1
    told = Counter(mark.account.user_id for _, mark in book.sent)
    assert len(told) == 200
    assert max(told.values()) - min(told.values()) <= 1


@book(users=3)
async def test_a_price_that_stands_still_is_told_once(book: Book) -> None:
    await passed(5.0)
    assert len(book.sent) == 3


@book(users=8, positions_each=50)
async def test_of_many_positions_a_batch_is_written_in_parts_each_user_whole(book: Book) -> None:
    await book.move(17.0)
    assert {count for _, count in book.written} == {MARKS_A_TURN}
    batches = [book.written[first : first + 4] for first in range(0, len(book.written), 4)]
    assert len(batches) >= 3
    for batch in batches:
        assert batch[-1][0] - batch[0][0] < SEND_SECONDS
    for earlier, later in pairwise(batch[0][0] for batch in batches):
        assert later - earlier >= WRITE_SECONDS


@book(users=5)
async def test_rows_are_written_all_in_one_every_five_seconds(book: Book) -> None:
    await book.move(21.0)
    assert [count for _, count in book.written] == [5] * len(book.written)
    assert all(later - earlier >= WRITE_SECONDS for (earlier, _), (later, _) in pairwise(book.written))
    assert len(book.written) >= 4
