"""What a stopped or dead worker left behind is settled, before anything new is begun for its account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from reactivex import operators as ops

from streams.domain.errors import Broken, Rejected, Transient
from streams.domain.risk import Protection
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
    first, second = world.exchange.called("place")
    assert first < second - 3
    assert world.exchange.placed[0] == specimens.order().position_id
    assert world.exchange.called("look_up") == []
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
async def test_an_order_that_is_refused_when_placed_anew_fails() -> None:
    world = World()
    world.store.put_unfinished(specimens.order(), specimens.brief(1), age=20)
    world.exchange.break_next("place", Rejected("venue_rejected", "The order was refused."))
    await world.start()
    await passed(1)
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "venue_rejected"
    await world.stop()


@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("status", ["submitting", "unknown"])
def test_an_order_that_may_have_reached_a_venue_is_looked_up_and_never_sent_again(status: str, expired: bool) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World()
        world.store.put_unfinished(specimens.order(mode="testnet", status=status), specimens.brief(1, mode="testnet"))
        world.store.expired = expired
        await world.start()
        await passed(2 * RECHECK)
        assert len(world.of(Opened)) == 1
        assert len(world.venue.called("look_up")) == 1
        assert world.venue.placed == []
        await world.stop()

    scenario()


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
        assert specimens.order().position_id not in world.exchange.placed[1:]
        assert world.store.status(NEW) == "ready"
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
        world.exchange.break_next("place", error)
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
    await passed(3 * RECHECK)
    (opened,) = world.of(Opened)
    assert world.exchange.placed == [opened.position.id] * 2  # on paper a fill that was not booked never was
    ((row,),) = [world.store.orders.values()]
    assert (row.order.filled_quantity, len(row.trade_ids)) == (row.order.quantity, 1)
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
    assert (len(world.exchange.placed), world.exchange.called("look_up")) == (1, [])
    await passed(2 * RECHECK)
    assert len(world.of(Opened)) == 1
    assert len(world.exchange.placed) == 1
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
    assert world.exchange.placed[0] == specimens.order().position_id
    await world.stop()


@pytest.mark.parametrize(("out_of_reach", "code"), [(True, "venue_unavailable"), (False, "entry_not_accepted")])
def test_an_order_given_up_says_whether_it_was_for_want_of_the_venue(out_of_reach: bool, code: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = left_behind()
        world.exchange.break_next("place", Transient("the venue is down") if out_of_reach else TimeoutError())
        await world.start()
        await passed(1)
        assert len(world.of(InDoubt)) == 1
        world.store.expired = True
        await passed(RECHECK)
        (failed,) = world.of(Failed)
        assert failed.position.failure_code == code
        assert len(world.exchange.placed) == 1
        await world.stop()

    scenario()


@in_virtual_time
async def test_stop_and_target_follow_the_price_paid_by_the_percentages_of_admission() -> None:
    now = specimens.config(stop_loss_percent="1", take_profit_percent="2")
    as_admitted = Protection(stop_percent=Decimal(5), target_percent=Decimal(10))
    world = World(specimens.brief(2, risk_config=now))
    left = specimens.order()
    world.store.put_unfinished(
        left, specimens.brief(1, risk_config=now), protection=as_admitted, stop=Decimal(96), target=Decimal(111)
    )
    await world.start()
    await passed(1)
    position = world.store.positions[left.position_id]
    assert (position.stop_loss_price, position.take_profit_price) == (95, 110)
    await world.stop()


@in_virtual_time
async def test_an_order_at_rest_keeps_the_percentages_of_admission_through_a_takeover() -> None:
    as_admitted = Protection(stop_percent=Decimal(5), target_percent=Decimal(10))
    world = World()
    left = specimens.order(status="submitted")
    world.store.put_unfinished(left, specimens.brief(1, risk_config=specimens.config()), protection=as_admitted)
    await world.start()
    await passed(2)
    position = world.store.positions[left.position_id]
    assert (position.is_open, position.stop_loss_price, position.take_profit_price) == (True, 95, 110)
    await world.stop()


@in_virtual_time
async def test_prices_that_the_signal_named_stand_through_a_takeover() -> None:
    named = specimens.brief(1, stop_loss="91", take_profit="140")
    world = World(named)
    world.exchange.break_next("place", TimeoutError())
    await world.start()
    await passed(2 * RECHECK)
    (opened,) = world.of(Opened)
    position = world.store.positions[opened.position.id]
    assert (position.stop_loss_price, position.take_profit_price) == (91, 140)
    await world.stop()


@in_virtual_time
async def test_rows_that_changed_while_others_were_settled_are_read_anew() -> None:
    world = left_behind()
    other = specimens.order(id=UUID(int=0x1D), position_id=UUID(int=0x1E))
    world.store.put_unfinished(other, specimens.brief(3))
    world.exchange.latency = 3.0
    await world.start()
    await passed(1)
    world.store.orders[other.id].order = other.model_copy(update={"status": "cancelled"})
    await passed(10)
    assert world.exchange.placed == [specimens.order().position_id]
    await world.stop()


@in_virtual_time
async def test_rows_read_anew_bring_no_order_twice() -> None:
    world = World()
    for number in range(3):
        order = specimens.order(id=UUID(int=0xD0 + number), position_id=UUID(int=0xE0 + number))
        world.store.put_unfinished(order, specimens.brief(number))
    world.exchange.latency = 3.0
    world.exchange.break_next("place", *(Transient("down") for _ in range(3)))
    await world.presence.register()
    await world.store.claim(None)
    doubts = await world.recovery.recheck().pipe(ops.to_list())
    assert [type(one) for one in doubts] == [InDoubt] * 3
    assert world.exchange.placed == [UUID(int=0xE0 + number) for number in range(3)]
    assert len(world.store.called("unfinished")) == 3


@in_virtual_time
async def test_positions_that_are_taken_over_are_read_in_one_question() -> None:
    world = World()
    for number in range(1, 21):
        left = specimens.order(
            id=UUID(int=0x100 + number),
            position_id=UUID(int=0x200 + number),
            client_order_id=f"fs{number}",
            status="filled",
            filled_quantity="1",
            total_value="100",
        )
        world.store.put_unfinished(left, specimens.brief(number))
        holds = {"entry_quantity": Decimal(1), "entry_price": Decimal(100)}
        world.store.positions[left.position_id] = world.store.positions[left.position_id].model_copy(update=holds)
    world.store.put(specimens.brief(99))
    await world.start()
    await passed(1)
    assert len(world.of(Opened)) == 21
    assert len(world.monitor.keepers) == 21
    assert len(world.store.called("held")) <= 2
    await world.stop()
