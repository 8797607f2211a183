"""Each ready signal once, whatever Realtime says or does not say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import reactivex as rx
from reactivex.subject import Subject

from streams.aio import LoopScheduler
from streams.cadence import Cadence
from streams.domain.account import Account
from streams.domain.errors import Broken, Dismissed, Transient
from streams.execution import Claimed
from streams.intake import SETTLE_SECONDS, UNSEEN_PAUSES, Intake, Item, Takeover, account_of, wakes
from streams.ports import Hint
from tests.domain import specimens
from tests.streams.fakes import FakeClock, FakeStore
from tests.streams.virtual_loop import in_virtual_time

ANNA = Account(specimens.ANNA, "paper")
SWEEP = Hint(everything=True, reason="sweep")


class Desk:
    """An intake with its source of hints, and what it let through."""

    def __init__(self, store: FakeStore) -> None:
        self.alarms: list[Exception] = []
        self.items: list[Item] = []
        self.hints: Subject[Hint] = Subject()
        self.clock = FakeClock()
        self.intake = Intake(store, self.clock, self.alarms.append)
        self.intake.items(self.hints).subscribe(self.items.append)

    @property
    def claimed(self) -> list[int]:
        """The numbers of the signals let through."""
        return [item.brief.seq for item in self.items if isinstance(item, Claimed)]

    def told_held(self, *accounts: Account, asked_at: float | None = None) -> None:
        """Hear from a heartbeat what is held."""
        at = self.clock.monotonic() if asked_at is None else asked_at
        self.hints.on_next(Hint(held=frozenset(accounts), held_at=at, reason="heartbeat"))

    def finish(self, *numbers: int) -> None:
        """Be done with these signals, and with every takeover."""
        for item in self.items:
            if isinstance(item, Takeover) or item.brief.seq in numbers:
                self.intake.release(item)


async def desk_with(count: int) -> tuple[FakeStore, Desk]:
    """A registered desk over this many ready signals of Anna's."""
    store = FakeStore(FakeClock(), *(specimens.brief(number) for number in range(1, count + 1)))
    await store.register(specimens.BEN)
    return store, Desk(store)


def hint(*numbers: int) -> Hint:
    """Realtime's word of these signals."""
    return Hint(tuple(specimens.brief(number).id for number in numbers))


@in_virtual_time
async def test_a_signal_comes_once_however_often_it_is_hinted() -> None:
    _, desk = await desk_with(2)
    for _ in range(5):
        desk.hints.on_next(hint(1))
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    desk.hints.on_next(hint(1, 1, 2))
    await asyncio.sleep(1)
    assert desk.claimed == [1, 2]


@in_virtual_time
async def test_a_hint_brings_the_line_of_its_own_account_alone() -> None:
    store, desk = await desk_with(3)
    store.put(specimens.brief(4, user_id=specimens.BEN))
    desk.hints.on_next(hint(2))
    await asyncio.sleep(1)
    assert desk.claimed == [1, 2, 3]


@in_virtual_time
async def test_a_signal_announced_before_it_shows_is_asked_for_again_at_once() -> None:
    store, desk = await desk_with(0)
    desk.hints.on_next(hint(1))
    await asyncio.sleep(0.004)
    assert desk.items == []
    store.put(specimens.brief(1))
    await asyncio.sleep(0.1)
    assert desk.claimed == [1]


@in_virtual_time
async def test_a_signal_announced_that_never_shows_is_left_to_the_sweep() -> None:
    store, desk = await desk_with(0)
    desk.hints.on_next(hint(1))
    await asyncio.sleep(10)
    assert len(store.called("claim")) == 1 + len(UNSEEN_PAUSES)
    assert (desk.items, desk.alarms) == ([], [])


@pytest.mark.parametrize("error", [Transient("down"), Broken("odd")])
def test_what_a_first_look_found_is_kept_where_the_next_one_fails(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        store, desk = await desk_with(1)
        desk.hints.on_next(hint(1, 9))
        await asyncio.sleep(0.0015)  # the first look is past its own faults
        store.break_next("claim", error)
        await asyncio.sleep(1)
        assert desk.items[0] == Takeover(ANNA)
        assert (desk.claimed, desk.alarms) == ([1], [error])
        desk.finish(1)
        assert desk.intake.accounts == set[Account]()

    scenario()


@pytest.mark.parametrize("error", [Transient("down"), Broken("odd"), ZeroDivisionError("a bug")])
def test_an_account_told_of_by_the_heartbeat_is_taken_over_where_the_look_beside_it_fails(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        store, desk = await desk_with(0)
        desk.hints.on_next(hint(9))  # while this look is under way, the next ones gather
        desk.told_held(ANNA)
        desk.hints.on_next(SWEEP)
        await asyncio.sleep(0.0005)
        store.take_down("claim")
        store.break_next("claim", *[error] * 5)
        await asyncio.sleep(1)
        assert error in desk.alarms
        assert desk.items == [Takeover(ANNA)]
        assert desk.intake.accounts == {ANNA}
        desk.finish()
        assert desk.intake.accounts == set[Account]()

    scenario()


@in_virtual_time
async def test_hints_of_one_moment_are_one_call() -> None:
    store, desk = await desk_with(10)
    for number in range(1, 11):
        desk.hints.on_next(hint(number))
    await asyncio.sleep(1)
    assert len(store.called("claim")) == 2
    assert desk.claimed == list(range(1, 11))


@in_virtual_time
async def test_signals_come_in_the_tables_order_behind_their_accounts_takeover() -> None:
    store, desk = await desk_with(0)
    store.put(
        specimens.brief(3, ready_at="2026-03-01T12:00:01Z"),
        specimens.brief(2, ready_at="2026-03-01T12:00:02Z"),
        specimens.brief(1, ready_at="2026-03-01T12:00:02Z"),
    )
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    assert desk.items[0] == Takeover(ANNA)
    assert desk.claimed == [3, 1, 2]
    assert {account_of(item) for item in desk.items} == {ANNA}


@in_virtual_time
async def test_a_signal_that_is_still_ready_once_released_comes_again() -> None:
    _, desk = await desk_with(1)
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    assert (desk.intake.working, desk.intake.accounts) == (1, {ANNA})
    desk.finish(1)
    assert (desk.intake.working, desk.intake.accounts) == (0, set[Account]())
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    assert desk.claimed == [1, 1]


@in_virtual_time
async def test_an_account_held_of_whose_taking_no_answer_told_is_taken_over_once() -> None:
    store, desk = await desk_with(0)
    for _ in range(3):
        desk.told_held(ANNA)
        await asyncio.sleep(1)
    assert desk.items == [Takeover(ANNA)]
    assert not store.called("claim")


@in_virtual_time
async def test_an_account_lost_and_held_again_is_taken_over_again() -> None:
    _, desk = await desk_with(0)
    for held in ((ANNA,), (), (ANNA,)):
        desk.told_held(*held)
        await asyncio.sleep(1)
    assert desk.items == [Takeover(ANNA), Takeover(ANNA)]


@in_virtual_time
async def test_a_heartbeat_asked_before_an_account_was_taken_does_not_make_it_taken_over_twice() -> None:
    _, desk = await desk_with(1)
    asked_at = desk.clock.monotonic()
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    desk.told_held(asked_at=asked_at)
    await asyncio.sleep(1)
    desk.told_held(ANNA)
    await asyncio.sleep(1)
    assert [item for item in desk.items if isinstance(item, Takeover)] == [Takeover(ANNA)]


@in_virtual_time
async def test_an_account_in_doubt_is_taken_over_at_the_next_heartbeat() -> None:
    _, desk = await desk_with(0)
    desk.told_held(ANNA)
    await asyncio.sleep(1)
    desk.intake.doubt(ANNA)
    desk.told_held(ANNA)
    await asyncio.sleep(1)
    assert desk.items == [Takeover(ANNA), Takeover(ANNA)]


@in_virtual_time
async def test_an_account_is_busy_while_it_is_taken_over() -> None:
    _, desk = await desk_with(0)
    desk.told_held(ANNA)
    await asyncio.sleep(1)
    assert desk.intake.accounts == {ANNA}
    desk.finish()
    assert desk.intake.accounts == set[Account]()


@in_virtual_time
async def test_a_full_answer_asks_for_more_once_there_is_room() -> None:
    store, desk = await desk_with(150)
    store.claim_limit = 100
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    assert not desk.intake.wants_more
    desk.finish(*range(1, 61))
    assert desk.intake.wants_more
    for number in range(1, 101):
        store.signals[specimens.brief(number).id].status = "in_position"
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    assert desk.claimed == list(range(1, 151))
    assert not desk.intake.wants_more


@in_virtual_time
async def test_a_hint_does_not_hide_that_the_table_has_more() -> None:
    store, desk = await desk_with(3)
    store.claim_limit = 1
    desk.hints.on_next(SWEEP)
    await asyncio.sleep(1)
    desk.hints.on_next(hint(3))
    await asyncio.sleep(1)
    assert desk.intake.wants_more


@pytest.mark.parametrize("error", [Transient("down"), Dismissed("dead"), Broken("odd"), ZeroDivisionError("a bug")])
def test_a_look_that_fails_alarms_and_the_next_one_is_made(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        store, desk = await desk_with(1)
        store.break_next("claim", error)
        desk.hints.on_next(SWEEP)
        await asyncio.sleep(1)
        assert (desk.claimed, desk.alarms) == ([], [error])
        desk.hints.on_next(SWEEP)
        await asyncio.sleep(1)
        assert desk.claimed == [1]

    scenario()


@in_virtual_time
async def test_a_brief_is_as_old_as_its_question() -> None:
    store, desk = await desk_with(1)
    store.latency = 3.0
    desk.hints.on_next(SWEEP)
    asked_at = FakeClock().monotonic()
    await asyncio.sleep(10)
    item = desk.items[-1]
    assert isinstance(item, Claimed)
    assert item.at == asked_at


class Woken:
    """When the table was looked at, and why."""

    def __init__(self, then: Callable[[Hint], None] = lambda _: None) -> None:
        self._then = then
        self.hints: Subject[Hint] = Subject()
        self.feedback: Subject[Hint] = Subject()
        self.reasons: list[tuple[float, str]] = []
        scheduler = LoopScheduler(asyncio.get_running_loop())
        self.subscription = wakes(self.hints, self.feedback, Cadence(2.0, scheduler).every(2.0), scheduler).subscribe(
            self._hear
        )

    def _hear(self, hint: Hint) -> None:
        self.reasons.append((asyncio.get_running_loop().time(), hint.reason))
        self._then(hint)

    def times(self, reason: str) -> list[float]:
        """The times of one reason."""
        return [at for at, why in self.reasons if why == reason]


@in_virtual_time
async def test_the_table_is_swept_at_once_and_every_interval() -> None:
    woken = Woken()
    await asyncio.sleep(9)
    assert woken.times("sweep") == [0, 2, 4, 6, 8]


@in_virtual_time
async def test_a_wall_clock_set_back_delays_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    wall_clock = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr("reactivex.scheduler.scheduler.default_now", lambda: wall_clock)

    def set_back(_: Hint) -> None:
        nonlocal wall_clock
        wall_clock -= timedelta(hours=1)

    woken = Woken(set_back)
    await asyncio.sleep(9)
    assert woken.times("sweep") == [0, 2, 4, 6, 8]


@in_virtual_time
async def test_a_new_subscription_is_caught_up_with_at_once_and_again_when_it_has_settled() -> None:
    woken = Woken()
    await asyncio.sleep(1)
    woken.hints.on_next(Hint(everything=True, reason="subscribed"))
    await asyncio.sleep(20)
    assert woken.times("subscribed") == [1, *(1 + seconds for seconds in SETTLE_SECONDS)]


@in_virtual_time
async def test_a_hint_of_signals_and_a_wish_for_more_are_heard_once() -> None:
    woken = Woken()
    woken.hints.on_next(Hint(hint(1).ids, reason="broadcast"))
    woken.feedback.on_next(Hint(everything=True, reason="room"))
    await asyncio.sleep(20)
    assert woken.times("broadcast") == [0]
    assert woken.times("room") == [0]


@in_virtual_time
async def test_the_sweep_goes_on_without_any_hint() -> None:
    seen: list[Hint] = []
    scheduler = LoopScheduler(asyncio.get_running_loop())
    wakes(rx.never(), rx.never(), Cadence(2.0, scheduler).every(2.0), scheduler).subscribe(seen.append)
    await asyncio.sleep(60)
    assert len(seen) >= 30
