"""Orders that rest are followed to their end: filled later, cut short, or another worker's."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from streams.domain.errors import Broken, Dismissed, Rejected, Transient, Unknown
from streams.outcome import Dropped, Failed, InDoubt, Opened, Resting
from streams.tracker import LOOKS_A_SECOND, UNSURE_SECONDS
from tests.domain import specimens
from tests.streams import answers, fakes
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import LEASE, MAX_EXECUTION, POLL, RECHECK, World, passed

LIMIT = specimens.brief(1, order_type="limit", limit_price="100")


async def resting_world() -> World:
    """A world in which a limit order has come to rest, and is looked at every second."""
    world = World(LIMIT)
    world.exchange.answers.update(place=answers.resting, look_up=answers.resting)
    await world.start()
    await passed(POLL / 2)
    assert [type(one) for one in world.outcomes] == [Resting]
    return world


def order_of(world: World) -> fakes.Order:
    """The only order there is."""
    (row,) = world.store.orders.values()
    return row.order


@in_virtual_time
async def test_an_order_that_rests_opens_its_position_when_it_fills() -> None:
    world = await resting_world()
    await passed(5)
    assert world.of(Opened) == []
    assert world.tracker.accounts == {LIMIT.account}
    world.exchange.answers["look_up"] = answers.filled
    await passed(POLL)
    (opened,) = world.of(Opened)
    assert opened.position.entry_quantity == order_of(world).quantity
    assert world.tracker.accounts == frozenset()
    assert len(world.in_hand) == 0
    await world.stop()


@in_virtual_time
async def test_a_position_opens_once_however_many_fills_it_takes() -> None:
    world = await resting_world()
    world.exchange.answers["look_up"] = answers.partly
    await passed(3 * POLL)
    world.exchange.answers["look_up"] = answers.filled
    await passed(POLL)
    assert len(world.of(Opened)) == 1
    assert order_of(world).filled_quantity == order_of(world).quantity
    await world.stop()


@in_virtual_time
async def test_a_look_that_finds_nothing_new_writes_nothing() -> None:
    world = await resting_world()
    await passed(20)
    assert len(world.store.called("record")) == 1
    await world.stop()


@in_virtual_time
async def test_an_order_unfilled_when_its_time_is_up_is_cancelled_and_fails() -> None:
    world = await resting_world()
    await passed(MAX_EXECUTION - 2)
    assert world.exchange.called("cancel") == []
    await passed(3)
    assert len(world.exchange.called("cancel")) == 1
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "entry_not_filled"
    assert world.tracker.accounts == frozenset()
    await world.stop()


@in_virtual_time
async def test_an_order_filled_in_part_when_its_time_is_up_stays_open_with_what_it_has() -> None:
    world = await resting_world()
    world.exchange.answers["look_up"] = answers.partly
    await passed(POLL)
    world.exchange.answers["look_up"] = answers.resting
    await passed(MAX_EXECUTION)
    assert world.of(Failed) == []
    assert len(world.of(Opened)) == 1
    assert (order_of(world).status, order_of(world).filled_quantity) == ("cancelled", Decimal("0.1"))
    assert world.tracker.accounts == frozenset()
    await world.stop()


@in_virtual_time
async def test_a_cancel_is_repeated_until_it_is_answered() -> None:
    world = await resting_world()
    world.exchange.break_next("cancel", Transient("down"), Unknown("no answer"))
    await passed(MAX_EXECUTION + 5)
    assert len(world.exchange.called("cancel")) == 3
    assert len(world.of(Failed)) == 1
    await world.stop()


@in_virtual_time
async def test_the_lost_answer_of_a_cancel_is_no_reason_for_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    world = await resting_world()
    world.exchange.break_next("cancel", Unknown("no answer"))
    await passed(MAX_EXECUTION + 5)
    assert len(world.of(Failed)) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    await world.stop()


@pytest.mark.parametrize("error", [Transient("down"), Unknown("no answer"), Broken("odd"), ZeroDivisionError("a bug")])
def test_a_look_that_fails_is_made_again(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = await resting_world()
        world.exchange.break_next("look_up", error, error)
        await passed(5)
        world.exchange.answers["look_up"] = answers.filled
        await passed(POLL)
        assert len(world.of(Opened)) == 1
        await world.stop()

    scenario()


@in_virtual_time
async def test_a_fill_is_booked_when_the_database_is_back() -> None:
    world = await resting_world()
    world.store.take_down("record")
    world.exchange.answers["look_up"] = answers.filled
    await passed(10)
    assert world.of(Opened) == []
    world.store.bring_up()
    await passed(POLL + 0.5)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_a_fill_whose_booking_was_answered_in_vain_still_opens_its_position() -> None:
    world = await resting_world()
    world.store.lose_answer("record")
    world.exchange.answers["look_up"] = answers.filled
    await passed(10)
    assert order_of(world).status == "filled"
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_a_part_whose_booking_was_answered_in_vain_is_followed_on() -> None:
    world = await resting_world()
    world.store.lose_answer("record")
    world.exchange.answers["look_up"] = answers.partly
    await passed(2 * POLL)
    world.exchange.answers["look_up"] = answers.filled
    await passed(10)
    assert (order_of(world).status, order_of(world).remaining) == ("filled", 0)
    assert {one.position.id for one in world.of(Opened)} == {order_of(world).position_id}
    await world.stop()


@in_virtual_time
async def test_a_part_of_whose_booking_nothing_was_heard_is_read_anew_before_the_next_look() -> None:
    world = await resting_world()
    world.store.lose_answer("record")
    world.exchange.answers["look_up"] = answers.parts("0.9")
    await passed(POLL)
    (doubt,) = world.of(InDoubt)
    assert (doubt.order_id, doubt.account, doubt.unheard) == (order_of(world).id, LIMIT.account, True)
    assert world.tracker.accounts == frozenset()
    looks = len(world.exchange.called("look_up"))
    world.exchange.answers["look_up"] = answers.resting
    await passed(POLL)
    assert len(world.exchange.called("look_up")) == looks
    await passed(RECHECK)
    assert world.of(Resting)[-1].order.filled_quantity == Decimal("0.9")
    assert world.tracker.accounts == {LIMIT.account}
    await world.stop()


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_an_order_is_never_filled_beyond_its_quantity_or_its_reservation_whatever_answers_are_lost(lost: int) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = await resting_world()
        quantity, reserved = order_of(world).quantity, order_of(world).reserved
        before = world.store.balances[LIMIT.account]
        known: list[Decimal] = []

        def by_what_it_says(order: fakes.Order) -> fakes.OrderReport:
            known.append(order.filled_quantity)
            if order.filled_quantity < Decimal("0.9"):
                return answers.parts("0.1", "0.2")(order)
            return answers.parts("0.05", str(order.remaining - Decimal("0.05")))(order)

        world.store.lose_answer("record", lost)
        world.exchange.answers["look_up"] = by_what_it_says
        await passed(MAX_EXECUTION - 5)
        assert known == [Decimal(0), Decimal("0.3"), Decimal("0.6"), Decimal("0.9")]
        assert (order_of(world).status, order_of(world).filled_quantity) == ("filled", quantity)
        assert before - world.store.balances[LIMIT.account] <= reserved
        assert {one.position.id for one in world.of(Opened)} == {order_of(world).position_id}
        assert len(world.in_hand) == 0
        await world.stop()

    scenario()


@pytest.mark.parametrize("error", [Broken("odd"), ZeroDivisionError("a bug")])
def test_a_booking_that_breaks_is_a_doubt_and_not_the_end_of_the_order(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = await resting_world()
        world.store.break_next("record", error)
        world.exchange.answers["look_up"] = answers.filled
        await passed(POLL)
        assert [one.unheard for one in world.of(InDoubt)] == [True]
        await passed(2 * RECHECK)
        assert (order_of(world).status, order_of(world).remaining) == ("filled", 0)
        assert len(world.of(Opened)) >= 1
        await world.stop()

    scenario()


@in_virtual_time
async def test_an_order_of_another_worker_is_followed_no_more() -> None:
    world = await resting_world()
    world.store.break_next("record", Dismissed("dead"))
    world.store.give_to_another(LIMIT.account)
    world.exchange.answers["look_up"] = answers.partly
    await passed(3 * POLL)
    assert [type(one) for one in world.outcomes] == [Resting, Dropped]
    looks = len(world.exchange.called("look_up"))
    await passed(10)
    assert len(world.exchange.called("look_up")) == looks
    assert len(world.in_hand) == 0
    await world.stop()


@in_virtual_time
async def test_an_order_is_followed_once() -> None:
    world = await resting_world()
    (found,) = world.of(Resting)
    looks = len(world.exchange.called("look_up"))
    world.tracker.follow(found).subscribe()
    await passed(5 * POLL)
    assert len(world.exchange.called("look_up")) == looks + 5
    await world.stop()


@in_virtual_time
async def test_the_time_of_an_order_counts_from_its_admission() -> None:
    world = World()
    order = specimens.order(status="submitted")
    world.exchange.answers["look_up"] = answers.resting
    world.store.put_unfinished(order, LIMIT, age=MAX_EXECUTION - 10)
    await world.start()
    await passed(8)
    assert world.exchange.called("cancel") == []
    await passed(5)
    assert len(world.exchange.called("cancel")) == 1
    await world.stop()


@in_virtual_time
async def test_news_of_an_order_is_looked_at_at_once() -> None:
    world = await resting_world()
    world.exchange.answers["look_up"] = answers.filled
    world.exchange.tell("somebody else's")
    await passed(0.01)
    assert world.of(Opened) == []
    world.exchange.tell(order_of(world).client_order_id)
    await passed(0.01)
    assert len(world.of(Opened)) == 1
    await world.stop()
    await passed(0.01)
    assert world.exchange.listeners == []


@in_virtual_time
async def test_a_stream_that_stands_again_has_every_order_looked_at() -> None:
    world = await resting_world()
    world.exchange.answers["look_up"] = answers.filled
    world.exchange.tell(None)
    await passed(0.01)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_news_that_the_venue_does_not_show_yet_is_looked_after_soon() -> None:
    world = await resting_world()
    world.exchange.tell(order_of(world).client_order_id)
    await passed(0.01)
    world.exchange.answers["look_up"] = answers.filled
    await passed(UNSURE_SECONDS)
    assert len(world.of(Opened)) == 1
    await world.stop()


@in_virtual_time
async def test_a_fill_told_twice_and_too_late_is_booked_once() -> None:
    world = await resting_world()
    order = order_of(world)
    world.exchange.answers["look_up"] = answers.filled
    for _ in range(2):
        world.exchange.tell(order.client_order_id)
    await passed(0.01)
    world.exchange.tell(order.client_order_id)
    await passed(2 * POLL)
    assert len(world.of(Opened)) == 1
    assert len(world.store.called("record")) == 2
    await world.stop()


@in_virtual_time
async def test_many_orders_share_the_looks_of_a_minute() -> None:
    briefs = [
        specimens.brief(number, user_id=UUID(int=number), order_type="limit", limit_price="100")
        for number in range(1, 61)
    ]
    world = World(*briefs)
    world.exchange.answers.update(place=answers.resting, look_up=answers.resting)
    await world.start()
    await passed(10)
    before = len(world.exchange.called("look_up"))
    await passed(30)
    assert 0 < (len(world.exchange.called("look_up")) - before) / 30 <= LOOKS_A_SECOND
    await world.stop()


@in_virtual_time
async def test_a_cancel_is_stamped_within_the_lease_or_not_sent() -> None:
    world = await resting_world()
    await passed(MAX_EXECUTION - 5)
    world.store.take_down("heartbeat")
    await passed(LEASE)
    world.exchange.break_next("cancel", *[Transient("down")] * 100)
    await passed(20)
    assert world.exchange.called("cancel") == []
    world.store.bring_up()
    await passed(LEASE)
    assert world.exchange.called("cancel") != []
    await world.stop()


@in_virtual_time
async def test_a_venue_that_does_not_answer_is_asked_less_and_less() -> None:
    world = await resting_world()
    world.exchange.break_next("look_up", *[Transient("down")] * 1000)
    before = len(world.exchange.called("look_up"))
    await passed(MAX_EXECUTION - 5)
    assert len(world.exchange.called("look_up")) - before < 12
    looks = len(world.exchange.called("look_up"))
    world.exchange.tell(order_of(world).client_order_id)
    await passed(0.01)
    assert len(world.exchange.called("look_up")) == looks + 1  # news is looked at all the same
    await world.stop()


@in_virtual_time
async def test_a_key_that_is_refused_ends_no_following() -> None:
    world = await resting_world()
    world.exchange.break_next("look_up", Rejected("keys_rejected", "The exchange refused the key."))
    await passed(2 * POLL)
    world.exchange.answers["look_up"] = answers.filled
    await passed(2 * POLL)
    assert len(world.of(Opened)) == 1
    await world.stop()
