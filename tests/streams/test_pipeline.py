"""The trunk: it never fails, it never starves, and it stops with nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from uuid import UUID

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from streams.accounts import BEATS_A_LEASE
from streams.cadence import Cadence
from streams.domain.errors import Broken, Transient
from streams.outcome import Deferred, InDoubt, Opened, Outcome, Resting
from streams.pipeline import RECHECKS_AT_REST, positions_opened
from streams.ports import Hint
from tests.domain import specimens
from tests.streams import answers
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import LEASE, RECHECK, SWEEP, World, passed

ONE = specimens.brief(1)


@in_virtual_time
async def test_a_hint_is_followed_at_once() -> None:
    world = World()
    await world.start()
    await passed(0.5)
    world.store.put(ONE)
    world.hints.on_next(Hint((ONE.id,)))
    await passed(0.1)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_without_hints_the_sweep_finds_every_signal() -> None:
    world = World()
    await world.start()
    await passed(0.5)
    world.store.put(ONE)
    await passed(SWEEP)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_a_signal_announced_five_times_is_one_position() -> None:
    world = World(ONE)
    await world.start()
    for _ in range(5):
        world.hints.on_next(Hint((ONE.id,)))
        await passed(0.004)
    await passed(10 * SWEEP)
    assert len(world.of(Opened)) == 1
    assert len(world.exchange.placed) == 1
    await world.stop()


@in_virtual_time
async def test_more_signals_than_one_look_brings_are_all_traded_without_waiting_for_sweeps() -> None:
    small = specimens.sized_by("fixed", "10")
    briefs = [specimens.brief(n, user_id=UUID(int=n % 10 + 1), risk_config=small) for n in range(1, 301)]
    world = World(*briefs)
    world.store.claim_limit = 20
    await world.start()
    await passed(SWEEP * 0.9)
    assert len(world.of(Opened)) == 300
    await world.stop()


@pytest.mark.parametrize("users", [1, 40])
@pytest.mark.parametrize("given_at_once", [10, 200])
def test_deferred_signals_wait_for_the_sweep_even_where_the_table_has_more(users: int, given_at_once: int) -> None:
    @in_virtual_time
    async def scenario() -> None:
        small = specimens.sized_by("fixed", "10")
        accounts = [UUID(int=0x100 + number % users) for number in range(40)]
        briefs = [specimens.brief(n, user_id=user, risk_config=small) for n, user in enumerate(accounts, start=1)]
        world = World(*briefs)
        world.store.claim_limit = given_at_once
        world.market.take_down("quote")
        await world.start()
        await passed(5 * SWEEP)
        assert len(world.store.called("claim")) <= 5 + 1  # a sweep at once, and one an interval
        assert world.of(Deferred)
        world.market.bring_up()
        await passed(2 * SWEEP)
        assert len(world.of(Opened)) == 40
        await world.stop()

    scenario()


@in_virtual_time
async def test_a_database_out_of_reach_stops_nothing_for_good() -> None:
    world = World(ONE)
    world.store.take_down("claim", "heartbeat", "unfinished", "brief", "admit", "record")
    await world.start()
    await passed(61)
    world.store.bring_up()
    await passed(2 * SWEEP)
    assert len(world.of(Opened)) == 1
    assert not world.completed.done()
    await world.stop()


async def lost_by_execution(world: World) -> None:
    """The answer that books an entry, lost."""
    world.store.lose_answer("record")
    await world.start()
    await passed(0.5)


async def lost_by_the_tracker(world: World) -> None:
    """The answer that books the fill of an order at rest, lost."""
    world.exchange.answers.update(place=answers.resting, look_up=answers.filled)
    await world.start()
    await passed(0.5)
    world.store.lose_answer("record")
    await passed(1)


async def lost_by_the_recheck(world: World) -> None:
    """The answer that books what a recheck settled, lost."""
    world.exchange.break_next("place", TimeoutError())
    world.store.lose_answer("record")
    await world.start()
    await passed(RECHECK + 0.5)


@pytest.mark.parametrize("lost_by", [lost_by_execution, lost_by_the_tracker, lost_by_the_recheck])
def test_a_position_is_named_at_the_next_heartbeat_where_no_answer_told_that_it_opened(
    lost_by: Callable[[World], Coroutine[None, None, None]],
) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(ONE)
        await lost_by(world)
        assert [one.unheard for one in world.of(InDoubt)][-1]
        assert (world.of(Opened), world.store.status(ONE)) == ([], "in_position")
        await passed(LEASE / BEATS_A_LEASE)
        assert [(one.position.signal_id, one.found) for one in world.of(Opened)] == [(ONE.id, True)]
        await passed(3 * LEASE)
        assert len(world.of(Opened)) == 1
        await world.stop()

    scenario()


@in_virtual_time
async def test_a_venue_out_of_reach_brings_no_takeover_after_takeover() -> None:
    world = World(ONE)
    world.exchange.take_down("place")
    await world.start()
    await passed(6 * LEASE)
    assert len(world.of(InDoubt)) > 5
    assert len(world.store.called("open_positions")) == 1
    world.exchange.bring_up()
    await passed(RECHECK)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_a_heartbeat_that_ends_by_an_error_ends_the_trunk() -> None:
    world = World()

    def beats(cadence: Cadence) -> Observable[Hint]:
        return cadence.every(LEASE).pipe(ops.flat_map(lambda _: rx.throw(ZeroDivisionError("a bug"))))

    world.presence.beats = beats
    await world.start()
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(world.completed, LEASE + 1)


@in_virtual_time
async def test_whatever_breaks_the_trunk_goes_on() -> None:
    world = World(ONE)
    for verb in ("claim", "unfinished", "admit", "record", "heartbeat", "open_positions"):
        world.store.break_next(verb, Broken("odd"), RuntimeError("a bug"), Transient("down"))
    world.market.break_next("quote", RuntimeError("a bug"))
    await world.start()
    await passed(60)
    world.store.put(specimens.brief(2, user_id=specimens.BEN))
    await passed(30)
    assert not world.completed.done()
    assert 2 in {one.position.signal_id.int for one in world.of(Opened)}
    await world.stop()


@in_virtual_time
async def test_stopping_finishes_what_is_in_hand_and_leaves_what_waits() -> None:
    world = World(*(specimens.brief(number) for number in (1, 2, 3)))
    world.exchange.latency = 3.0
    await world.start()
    await passed(4)
    assert len(world.exchange.called("place")) == 1
    world.pipeline.stop()
    assert not world.completed.done()
    await world.completed
    assert [one.position.signal_id.int for one in world.of(Opened)] == [1]
    assert [world.store.status(specimens.brief(number)) for number in (2, 3)] == ["ready", "ready"]
    assert world.intake.working == 0
    assert len(world.in_hand) == 0


@in_virtual_time
async def test_a_worker_that_drains_beats_until_it_is_done_and_no_longer() -> None:
    world = World(ONE)
    world.exchange.latency = 2 * LEASE
    await world.start()
    await passed(2 * LEASE + 5)
    beats = len(world.store.called("heartbeat"))
    await world.stop()
    while_draining = len(world.store.called("heartbeat")) - beats
    assert while_draining >= 3
    await passed(10 * LEASE)
    assert len(world.store.called("heartbeat")) == beats + while_draining
    assert len(world.of(Opened)) == 1


@in_virtual_time
async def test_a_stopped_worker_looks_at_nothing_any_more() -> None:
    world = World()
    await world.start()
    await passed(1)
    await world.stop()
    calls = len(world.store.calls)
    world.store.put(ONE)
    world.hints.on_next(Hint(everything=True))
    await passed(60)
    assert len(world.store.calls) == calls
    assert world.outcomes == []


@in_virtual_time
async def test_signals_claimed_while_stopping_are_left() -> None:
    world = World(ONE)
    world.store.latency = 1.0
    await world.start()
    await passed(0.5 + 1.0)  # the look is under way
    await world.stop()
    assert world.outcomes == []
    assert world.store.status(ONE) == "ready"


@in_virtual_time
async def test_an_order_that_rests_is_left_to_its_row_when_the_worker_stops() -> None:
    world = World(specimens.brief(1, order_type="limit", limit_price="100"))
    world.exchange.answers.update(place=answers.resting, look_up=answers.resting)
    await world.start()
    await passed(3)
    before = asyncio.get_running_loop().time()
    await world.stop()
    assert asyncio.get_running_loop().time() - before < 1
    assert [type(one) for one in world.outcomes] == [Resting]
    assert world.exchange.called("cancel") == []
    assert len(world.in_hand) == 0


@in_virtual_time
async def test_stopping_does_not_wait_for_a_database_that_is_out_of_reach() -> None:
    world = World(ONE)
    world.store.take_down("unfinished")
    await world.start()
    await passed(10)
    before = asyncio.get_running_loop().time()
    await world.stop()
    assert asyncio.get_running_loop().time() - before < 5


@in_virtual_time
async def test_a_trunk_disposed_leaves_no_task_behind() -> None:
    world = World(*(specimens.brief(number, user_id=UUID(int=number)) for number in range(1, 6)))
    world.exchange.answers.update(place=answers.resting, look_up=answers.resting)
    subscription = await world.start()
    await passed(5)
    subscription.dispose()
    await passed(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("status", ["open", "monitoring", "closing"])
def test_consumers_hear_of_positions_that_hold_coins(status: str) -> None:
    position = specimens.position(status=status)
    outcomes: list[Outcome] = [Opened(position), Deferred(ONE.id, ONE.account, "later")]
    heard: list[object] = []
    positions_opened(rx.from_iterable(outcomes)).subscribe(heard.append)
    assert heard == [position]


def test_consumers_hear_nothing_of_a_position_closed_already() -> None:
    heard: list[object] = []
    positions_opened(rx.just(Opened(specimens.position(status="closed")))).subscribe(heard.append)
    assert heard == []


@in_virtual_time
async def test_at_rest_rows_are_rechecked_seldom_and_after_any_work_as_often_as_ever() -> None:
    world = World()
    await world.start()
    await passed(100 * RECHECK)
    at_rest = len(world.store.called("unfinished"))
    assert 100 / RECHECKS_AT_REST <= at_rest < 20
    world.store.lose_answer("admit")
    world.store.put(ONE)
    await passed(SWEEP + RECHECK)
    assert [one.position.signal_id for one in world.of(Opened)] == [ONE.id]
    await world.stop()
