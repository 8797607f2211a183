"""An entry at a venue whose answer never came: sent once, called unknown, looked up until its fate is proven."""

from __future__ import annotations

import pytest

from streams.domain.errors import Rejected, Transient, Unknown
from streams.domain.order import Order
from streams.outcome import Failed, InDoubt, Opened, Resting
from tests.domain import specimens
from tests.streams import answers
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import MAX_EXECUTION, RECHECK, UNKNOWN_MARGIN_MS, World, passed

TESTNET = specimens.brief(1, mode="testnet")
PROVEN_SECONDS = (5000 + UNKNOWN_MARGIN_MS) / 1000


def row(world: World) -> Order:
    """The one order there is."""
    ((found,),) = [world.store.orders.values()]
    return found.order


def lose_the_order(world: World, error: Exception | None = None) -> None:
    """Have the venue never hear of the order that is placed next."""
    world.venue.break_next("place", error or Unknown("no answer"))
    place = world.venue.place

    async def unheard(order: Order) -> object:
        world.venue.unheard_of.add(order.client_order_id)
        return await place(order)

    world.venue.place = unheard  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("error", [Unknown("no answer"), TimeoutError(), ValueError("odd"), OSError("reset")])
def test_an_order_whose_answer_was_lost_is_found_and_opens(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(TESTNET)
        world.venue.break_next("place", error)
        await world.start()
        await passed(1)
        assert len(world.of(Opened)) == 1
        assert len(world.venue.placed) == 1
        assert not world.of(InDoubt)
        await world.stop()

    scenario()


@in_virtual_time
async def test_it_is_called_unknown_until_it_is_found() -> None:
    world = World(TESTNET)
    lose_the_order(world)
    await world.start()
    await passed(10)
    assert row(world).status == "unknown"
    assert not world.of(Failed)
    assert not world.of(Opened)
    world.venue.unheard_of.clear()
    await passed(1)
    assert len(world.of(Opened)) == 1
    assert len(world.venue.placed) == 1
    await world.stop()


@in_virtual_time
async def test_not_found_is_proof_only_once_its_window_and_the_margin_are_over() -> None:
    world = World(TESTNET)
    lose_the_order(world)
    await world.start()
    await passed(PROVEN_SECONDS - 1)
    assert row(world).status == "unknown"
    await passed(2)
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "entry_not_accepted"
    await passed(MAX_EXECUTION)
    assert len(world.venue.placed) == 1
    assert not world.venue.called("cancel")
    await world.stop()


@in_virtual_time
async def test_a_venue_that_answers_nothing_at_all_proves_nothing() -> None:
    world = World(TESTNET)
    world.venue.break_next("place", Unknown("no answer"))
    world.venue.break_next("look_up", *(Transient("down") for _ in range(200)))
    await world.start()
    await passed(PROVEN_SECONDS + 5)
    assert row(world).status == "unknown"
    await world.stop()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("insufficient_balance", "No."), "insufficient_balance"),
        (Rejected("keys_rejected", "No."), "keys_rejected"),
        (Transient("banned"), "venue_unavailable"),
    ],
)
def test_what_was_surely_not_placed_fails_at_once_and_is_not_sent_again(error: Exception, code: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(TESTNET)
        world.venue.break_next("place", error)
        await world.start()
        await passed(3 * RECHECK)
        (failed,) = world.of(Failed)
        assert failed.position.failure_code == code
        assert len(world.venue.placed) == 1
        assert not world.venue.called("look_up")
        await world.stop()

    scenario()


@pytest.mark.parametrize("status", ["submitting", "unknown"])
def test_what_a_dead_worker_sent_or_did_not_send_is_never_sent_again(status: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World()
        order = specimens.order(mode="testnet", status=status)
        world.store.put_unfinished(order, TESTNET)
        world.venue.unheard_of.add(order.client_order_id)
        await world.start()
        await passed(PROVEN_SECONDS + 10 * RECHECK)
        assert not world.venue.placed
        assert [one.position.failure_code for one in world.of(Failed)] == ["entry_not_accepted"]
        await world.stop()

    scenario()


@in_virtual_time
async def test_an_order_found_at_rest_is_followed_and_cancelled_in_time() -> None:
    world = World(TESTNET)
    world.venue.break_next("place", Unknown("no answer"))
    world.venue.answers["look_up"] = answers.resting
    await world.start()
    await passed(MAX_EXECUTION - 2)
    assert row(world).status == "submitted"
    assert len(world.of(Resting)) >= 1
    await passed(4)
    assert len(world.venue.called("cancel")) == 1
    await world.stop()
