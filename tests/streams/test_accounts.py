"""A worker's presence: beating, beginning anew when declared dead, letting go of what it does not need."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest

from streams.domain.account import Account
from streams.domain.errors import Broken, Dismissed, Transient
from streams.outcome import Opened
from tests.domain import specimens
from tests.streams import answers
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import LEASE, SWEEP, World, passed

ANNA = Account(specimens.ANNA, "paper")


@in_virtual_time
async def test_a_worker_beats_several_times_a_lease() -> None:
    world = World()
    await world.start()
    await passed(10 * LEASE)
    beats = [0.0, *world.store.called("heartbeat")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert max(gaps) < LEASE / 3
    assert len(beats) <= 10 * LEASE / SWEEP + 1  # with the sweeps, which wake the worker anyway
    await world.stop()


@pytest.mark.parametrize("error", [Transient("down"), Broken("odd"), ZeroDivisionError("a bug")])
def test_a_missed_beat_alarms_and_the_next_one_comes(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World()
        world.store.break_next("heartbeat", error)
        await world.start()
        await passed(LEASE)
        assert world.alarms == [error]
        assert len(world.store.called("heartbeat")) >= 3
        await world.stop()

    scenario()


@in_virtual_time
async def test_beats_never_overlap() -> None:
    world = World()
    world.store.latency = LEASE
    await world.start()
    await passed(3 * LEASE)
    beats = world.store.called("heartbeat")
    assert all(later - earlier >= LEASE for earlier, later in itertools.pairwise(beats))
    world.store.latency = 0.0
    await world.stop()


@in_virtual_time
async def test_a_worker_declared_dead_registers_anew_and_looks_at_everything() -> None:
    world = World(specimens.brief(1))
    await world.start()
    await passed(1)
    first = world.store.worker_ids[-1]
    world.store.declare_dead()
    world.store.put(specimens.brief(2))
    world.market.latency = 0.0
    await passed(LEASE)
    assert world.store.worker_ids[-1] != first
    assert len(world.store.worker_ids) == 2
    assert {one.position.signal_id.int for one in world.of(Opened)} == {1, 2}
    await world.stop()


@in_virtual_time
async def test_the_table_is_looked_at_as_soon_as_the_worker_is_registered_anew() -> None:
    world = World()
    await world.start()
    await passed(0.5)
    world.store.declare_dead()
    await passed(SWEEP + 0.1 - 0.5)  # the beat that finds it out, in one turn with a sweep that is dismissed as well
    registered = world.store.called("register")[1]
    assert any(registered <= at < registered + 0.1 for at in world.store.called("claim"))
    await world.stop()


@pytest.mark.parametrize("errors", [[Dismissed("dead")], [Dismissed("dead"), Transient("down")]])
def test_a_worker_dismissed_by_its_beat_registers_anew(errors: list[Exception]) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World()
        await world.start()
        world.store.break_next("heartbeat", errors[0])
        world.store.break_next("register", *errors[1:])
        await passed(LEASE / 2)
        world.store.declare_dead()
        await passed(LEASE)
        assert len(world.store.worker_ids) >= 2
        assert [one for one in world.alarms if not isinstance(one, Dismissed)] == errors[1:]
        await world.stop()

    scenario()


@in_virtual_time
async def test_a_surplus_account_is_let_go_when_it_is_idle() -> None:
    briefs = [specimens.brief(number, user_id=UUID(int=number)) for number in range(1, 5)]
    world = World(*briefs)
    await world.start()
    await passed(1)
    world.store.surplus = 2
    await passed(LEASE)
    free = [account for account, holder in world.store.holders.items() if holder is None]
    assert len(free) == 2
    await world.stop()


@in_virtual_time
async def test_a_surplus_account_with_work_in_hand_is_kept() -> None:
    world = World(specimens.brief(1, order_type="limit", limit_price="100"))
    world.exchange.answers.update(place=answers.resting, look_up=answers.resting)
    world.store.surplus = 1
    world.exchange.latency = LEASE
    await world.start()
    await passed(3 * LEASE)  # first with a signal being worked on, then with an order that rests
    assert world.store.called("release") == []
    world.exchange.answers["look_up"] = answers.filled
    await passed(3 * LEASE)
    assert len(world.store.called("release")) == 1
    await world.stop()


@in_virtual_time
async def test_a_release_that_fails_is_tried_at_the_next_beat() -> None:
    world = World(specimens.brief(1))
    await world.start()
    await passed(1)
    world.store.surplus = 1
    world.store.break_next("release", Transient("down"))
    await passed(LEASE)
    assert len(world.store.called("release")) == 2
    assert world.store.holders[ANNA] is None
    await world.stop()


@in_virtual_time
async def test_a_worker_that_retires_lets_everything_go_at_once() -> None:
    world = World(specimens.brief(1))
    await world.start()
    await passed(SWEEP)
    await world.stop()
    await world.presence.retire()
    assert set(world.store.holders.values()) == {None}
