"""What a stopped or dead worker left behind is settled, before anything new is begun for its account."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from streams.domain.errors import Broken, Rejected, Transient
from streams.outcome import Failed, InDoubt, Opened, Resting
from tests.domain import specimens
from tests.streams import fakes
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import RECHECK, World, passed

LEFT = specimens.brief(1)
NEW = specimens.brief(2)


def left_behind(order: fakes.Order | None = None, *ready: Any) -> World:
    """A world that finds an order unfinished, and perhaps ready signals."""
    world = World(*ready)
    world.store.put_unfinished(order or specimens.order(), LEFT, age=20)
    return world


@in_virtual_time
async def test_an_order_left_unfinished_is_settled_before_its_accounts_signals() -> None:
    world = left_behind(None, NEW)
    world.exchange.latency = 3.0
    await world.start()
    await passed(30)
    assert [one.position.signal_id for one in world.of(Opened)] == [LEFT.id, NEW.id]
    assert world.exchange.called("look_up")[0] < world.exchange.called("place")[0] - 3
    assert len(world.exchange.called("place")) == 1
    await world.stop()


@in_virtual_time
async def test_an_order_never_placed_is_given_up_where_its_signal_is_stale() -> None:
    world = left_behind()
    world.store.expired = True
    await world.start()
    await passed(1)
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "entry_not_accepted"
    assert world.exchange.calls == []
    await world.stop()


@in_virtual_time
async def test_an_order_that_rests_at_the_venue_is_followed() -> None:
    world = left_behind(specimens.order(status="submitted"))
    await world.start()
    await passed(0.5)
    assert [type(one) for one in world.outcomes] == [Resting]
    await passed(1)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_an_order_that_the_venue_refuses_on_look_up_fails() -> None:
    world = left_behind()
    world.exchange.break_next("look_up", Rejected("venue_rejected", "The order was refused."))
    await world.start()
    await passed(1)
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "venue_rejected"
    await world.stop()


@in_virtual_time
async def test_positions_open_already_are_named_at_the_start() -> None:
    world = World(NEW)
    filled = specimens.order(status="filled", filled_quantity="1")
    world.store.put_unfinished(filled, LEFT)
    await world.start()
    await passed(1)
    first, second = world.of(Opened)
    assert first.position.signal_id == LEFT.id
    assert second.position.signal_id == NEW.id
    assert len(world.exchange.called("look_up")) == 0
    await world.stop()


@pytest.mark.parametrize("verb", ["unfinished", "open_positions"])
def test_a_takeover_waits_for_the_database_and_its_signals_wait_behind_it(verb: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = left_behind(None, NEW)
        world.store.take_down(verb)
        await world.start()
        await passed(10)
        assert world.exchange.called("place") == []
        world.store.bring_up()
        await passed(2)
        assert {one.position.signal_id for one in world.of(Opened)} == {LEFT.id, NEW.id}
        await world.stop()

    scenario()


@pytest.mark.parametrize("error", [Transient("down"), TimeoutError(), Broken("odd"), ZeroDivisionError("a bug")])
def test_an_order_that_cannot_be_settled_yet_is_rechecked_and_holds_up_no_other(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = left_behind()
        other = specimens.order(id=UUID(int=0x1D), position_id=UUID(int=0x1E))
        world.store.put_unfinished(other, specimens.brief(3))
        world.exchange.break_next("look_up", error)
        await world.start()
        await passed(1)
        (doubt,) = world.of(InDoubt)
        assert doubt.order_id == specimens.order().id
        assert [one.position.id for one in world.of(Opened)] == [other.position_id]
        await passed(RECHECK)
        assert {one.position.id for one in world.of(Opened)} == {other.position_id, specimens.order().position_id}
        assert len(world.in_hand) == 0
        await world.stop()

    scenario()


@in_virtual_time
async def test_a_doubt_of_this_workers_own_is_settled_by_the_recheck() -> None:
    world = World(NEW)
    world.exchange.break_next("place", TimeoutError())
    await world.start()
    await passed(1)
    assert len(world.of(InDoubt)) == 1
    await passed(RECHECK)
    assert len(world.of(Opened)) == 1
    assert len(world.exchange.called("place")) == 1
    await world.stop()


@in_virtual_time
async def test_an_admission_whose_answer_was_lost_is_settled_by_the_recheck() -> None:
    world = World(NEW)
    world.store.lose_answer("admit")
    await world.start()
    await passed(RECHECK + 1)
    assert [one.position.signal_id for one in world.of(Opened)] == [NEW.id]
    await world.stop()


@in_virtual_time
async def test_an_order_in_hand_is_left_to_whoever_has_it() -> None:
    world = World(NEW)
    world.exchange.latency = 4 * RECHECK
    await world.start()
    await passed(7 * RECHECK)  # the balance first, then the order: each takes its time
    assert world.exchange.called("look_up") == []
    await passed(RECHECK)
    await passed(RECHECK)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_an_account_lost_during_its_takeover_is_dropped() -> None:
    world = left_behind()
    world.store.take_down("unfinished")
    await world.start()
    await passed(3)
    world.store.declare_dead()
    world.store.give_to_another(LEFT.account)
    world.store.bring_up()
    await passed(10)
    assert world.outcomes == []
    await world.stop()


@in_virtual_time
async def test_an_account_taken_in_an_answer_that_was_lost_is_taken_over_all_the_same() -> None:
    world = left_behind(None, NEW)
    world.store.lose_answer("claim")
    await world.start()
    await passed(4)
    assert [one.position.signal_id for one in world.of(Opened)] == [LEFT.id, NEW.id]
    assert world.exchange.called("look_up")[0] < world.exchange.called("place")[0]
    await world.stop()
