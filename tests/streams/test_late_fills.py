"""At a venue a cancel is not the end: a fill that came before it may be told after it, and is not lost."""

from __future__ import annotations

from decimal import Decimal

from streams.domain.order import OrderReport
from streams.outcome import Failed, Opened
from tests.domain import specimens
from tests.streams import answers, fakes
from tests.streams.test_unknown import row
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import LATE_FILL, MAX_EXECUTION, POLL, World, passed

LIMIT = specimens.brief(1, mode="testnet", order_type="limit", limit_price="100")


async def cancelled_world() -> World:
    """A world in which a limit order of the testnet has just been cancelled unfilled."""
    world = World(LIMIT)
    world.venue.answers.update(place=answers.resting, look_up=answers.resting, cancel=answers.cancelled)
    await world.start()
    await passed(MAX_EXECUTION - 1)
    world.venue.answers["look_up"] = answers.cancelled
    await passed(1.5)
    assert row(world).status == "cancelled"
    return world


def all_of(order: fakes.Order) -> OrderReport:
    """All fills there ever were: two of a tenth at 100."""
    first, second = specimens.fill("100", "0.1", 1), specimens.fill("100", "0.1", 2)
    return OrderReport("partially_filled", "venue-1", (first, second), tells_all=True)


@in_virtual_time
async def test_a_cancelled_entry_fails_once_no_late_fill_is_to_be_expected() -> None:
    world = await cancelled_world()
    assert world.of(Failed) == []
    assert world.store.positions[row(world).position_id].status == "submitting"
    await passed(LATE_FILL + POLL)
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "entry_not_filled"
    assert world.tracker.accounts == frozenset()
    await world.stop()


@in_virtual_time
async def test_a_late_fill_opens_the_position_of_a_cancelled_entry() -> None:
    world = await cancelled_world()
    world.venue.answers["look_up"] = answers.filled
    await passed(2 * POLL)
    assert len(world.of(Opened)) == 1
    assert row(world).status == "filled"
    assert world.of(Failed) == []
    await world.stop()


@in_virtual_time
async def test_a_worker_that_takes_over_in_between_settles_it_too() -> None:
    world = World()
    order = specimens.order(mode="testnet", status="cancelled")
    world.venue.answers["look_up"] = answers.cancelled
    world.store.put_unfinished(order, LIMIT)
    await world.start()
    await passed(2 * LATE_FILL)
    assert len(world.of(Failed)) == 1
    await world.stop()


@in_virtual_time
async def test_a_cancel_on_paper_is_the_end() -> None:
    world = World(specimens.brief(2, order_type="limit", limit_price="100"))
    world.exchange.answers.update(place=answers.resting, look_up=answers.resting)
    await world.start()
    await passed(MAX_EXECUTION + 0.5)
    assert len(world.of(Failed)) == 1
    await world.stop()


@in_virtual_time
async def test_fills_told_again_are_not_counted_again() -> None:
    world = World(LIMIT)
    world.venue.answers.update(place=answers.resting, look_up=all_of)
    await world.start()
    await passed(10 * POLL)
    assert row(world).filled_quantity == Decimal("0.2")
    assert len(world.store.called("record")) == 2  # the rest that began it, and the fills once
    await world.stop()
