"""A venue may forget an order that it had, as the testnet does at a reset: what it rested for still comes to an end."""

from __future__ import annotations

from decimal import Decimal

from streams.outcome import Failed, Opened
from tests.domain import specimens
from tests.streams import answers
from tests.streams.test_unknown import row
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import LATE_FILL, MAX_EXECUTION, POLL, World, passed

LIMIT = specimens.brief(1, mode="testnet", order_type="limit", limit_price="100")


async def resting_world() -> World:
    """A world in which a limit order of the testnet rests."""
    world = World(LIMIT)
    world.venue.answers.update(place=answers.resting, look_up=answers.resting, cancel=answers.cancelled)
    await world.start()
    await passed(2 * POLL)
    assert row(world).status == "submitted"
    return world


@in_virtual_time
async def test_an_entry_that_is_not_found_any_more_is_kept_until_its_time_is_up_and_fails_then() -> None:
    world = await resting_world()
    world.venue.unheard_of.add(row(world).client_order_id)
    await passed(MAX_EXECUTION - 5)
    assert row(world).status == "submitted"
    assert world.of(Failed) == []
    await passed(5 + LATE_FILL + 2 * POLL)
    (failed,) = world.of(Failed)
    assert (row(world).status, failed.position.failure_code) == ("cancelled", "entry_not_filled")
    assert len(world.venue.called("cancel")) == 1
    assert world.tracker.accounts == frozenset()
    await world.stop()


@in_virtual_time
async def test_one_that_shows_again_before_its_end_is_final_is_not_lost() -> None:
    world = await resting_world()
    world.venue.unheard_of.add(row(world).client_order_id)
    await passed(MAX_EXECUTION)
    assert row(world).status == "cancelled"
    world.venue.unheard_of.clear()
    world.venue.answers["look_up"] = answers.filled
    await passed(LATE_FILL)
    assert (row(world).status, len(world.of(Opened)), world.of(Failed)) == ("filled", 1, [])
    await world.stop()


@in_virtual_time
async def test_what_it_had_bought_before_stays_in_its_position() -> None:
    world = World(LIMIT)
    world.venue.answers.update(place=answers.resting, look_up=answers.parts("0.1"))
    await world.start()
    await passed(1.5 * POLL)
    world.venue.unheard_of.add(row(world).client_order_id)
    await passed(MAX_EXECUTION + LATE_FILL + 2 * POLL)
    assert (row(world).status, row(world).filled_quantity) == ("cancelled", Decimal("0.1"))
    assert (len(world.of(Opened)), world.of(Failed)) == (1, [])
    assert world.tracker.accounts == frozenset()
    await world.stop()


@in_virtual_time
async def test_a_cancelled_one_that_is_forgotten_fails_all_the_same() -> None:
    world = await resting_world()
    await passed(MAX_EXECUTION)
    assert row(world).status == "cancelled"
    world.venue.unheard_of.add(row(world).client_order_id)
    await passed(LATE_FILL + 2 * POLL)
    assert len(world.of(Failed)) == 1
    await world.stop()
