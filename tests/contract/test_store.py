"""What every store does: the one in memory that pipelines are tested on, and the one over the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from streams.domain.account import Account
from streams.domain.errors import Dismissed, Refused
from streams.domain.held import Held
from streams.domain.order import Order, OrderReport, client_order_id
from streams.domain.risk import Protection
from streams.domain.signal import Brief
from streams.domain.sizing import Sized
from streams.domain.step import Protect, Sell
from streams.exit_orders import exit_order, protective_orders
from streams.ports import Attempt, Claim, ExitPlan, Heard
from tests.contract.desk import Desk, FakeDesk, ProjectDesk, contract
from tests.domain import specimens
from tests.end_to_end.product import Project

UNKNOWN = Refused("unknown_symbol", "There is no such coin.")


@pytest.fixture(params=["fake", "project"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Each store in turn; the project is started for the real one alone."""
    if request.param == "fake":
        return FakeDesk()
    project: Project = request.getfixturevalue("project")
    return ProjectDesk(project)


@contract
async def test_a_claim_takes_free_accounts_and_gives_their_signals_in_order(desk: Desk) -> None:
    anna, ben = await desk.user(), await desk.user()
    ids = [await desk.signal(one) for one in (anna, ben, anna, ben)]
    claim = await desk.store.claim(None)
    assert {anna, ben} <= set(claim.taken)
    assert _of(claim, anna) == [ids[0], ids[2]]
    assert _of(claim, ben) == [ids[1], ids[3]]
    again = await desk.store.claim(None)
    assert not {anna, ben} & set(again.taken)
    assert _of(again, anna) == [ids[0], ids[2]]


@contract
async def test_a_claim_by_ids_is_of_their_accounts_alone(desk: Desk) -> None:
    anna, ben = await desk.user(), await desk.user()
    first, _, last = await desk.signal(anna), await desk.signal(ben), await desk.signal(anna)
    claim = await desk.store.claim([last])
    assert claim.taken == (anna,)
    assert [brief.id for brief in claim.briefs] == [first, last]
    assert not claim.more
    assert claim.unseen == ()


@contract
async def test_a_signal_that_is_not_in_the_table_yet_is_named(desk: Desk) -> None:
    anna = await desk.user()
    known, unknown = await desk.signal(anna), uuid4()
    claim = await desk.store.claim([unknown, known])
    assert claim.unseen == (unknown,)
    assert _of(claim, anna) == [known]


@contract
async def test_a_refused_signal_does_not_come_again(desk: Desk) -> None:
    anna = await desk.user()
    bad, good = await desk.signal(anna), await desk.signal(anna)
    await desk.store.claim(None)
    assert await desk.store.refuse(bad, UNKNOWN)
    assert not await desk.store.refuse(bad, UNKNOWN)
    assert await desk.store.brief(bad) is None
    assert _of(await desk.store.claim(None), anna) == [good]


@contract
async def test_the_third_failed_try_is_the_last(desk: Desk) -> None:
    anna = await desk.user()
    signal = await desk.signal(anna)
    await desk.store.claim(None)
    assert [await desk.store.record_failed_try(signal, "a bug") for _ in range(3)] == [False, False, True]
    assert _of(await desk.store.claim(None), anna) == []


@contract
async def test_an_attempt_is_admitted_once_and_told_so_as_often_as_asked(desk: Desk) -> None:
    brief = await _claimed(desk, await desk.user())
    attempt = _attempt(brief)
    first = await desk.store.admit(attempt)
    assert first.outcome == "admitted"
    assert first.signed_at_ms > 0
    assert await desk.store.admit(attempt) == first
    assert (await desk.store.admit(_attempt(brief))).outcome == "taken"
    assert await desk.store.brief(brief.id) is None
    assert not await desk.store.refuse(brief.id, UNKNOWN)
    assert _of(await desk.store.claim(None), brief.account) == []


@contract
async def test_an_admitted_order_is_unfinished_until_it_ends(desk: Desk) -> None:
    brief = await _claimed(desk, await desk.user())
    attempt = _attempt(brief)
    await desk.store.admit(attempt)
    [unfinished] = await desk.store.unfinished([brief.account])
    order = unfinished.order
    assert (order.id, order.position_id, order.client_order_id) == (
        attempt.order_id,
        attempt.position_id,
        attempt.client_order_id,
    )
    assert (order.status, order.side, order.type, order.time_in_force) == ("submitting", "buy", "limit", "GTC")
    assert (order.quantity, order.price, order.reserved) == (1, 100, Decimal("100.1"))
    assert (unfinished.signal_id, unfinished.expired) == (brief.id, False)
    assert 0 <= unfinished.age < 60
    await desk.store.record(attempt.order_id, _filled(), None, None)
    assert await desk.store.unfinished([brief.account]) == []


@contract
async def test_what_is_reserved_is_not_available(desk: Desk) -> None:
    anna = await desk.user()
    later = await desk.signal(anna)
    brief = await _claimed(desk, anna, later)
    await desk.store.admit(_attempt(brief))
    other = await desk.signal(anna)
    paper = (await _read(desk, other)).paper
    assert paper is not None
    assert (paper.current, paper.available) == (10000, Decimal("9899.9"))


@contract
async def test_a_fill_opens_the_position_and_is_booked_once(desk: Desk) -> None:
    anna = await desk.user()
    brief = await _claimed(desk, anna)
    attempt = _attempt(brief)
    await desk.store.admit(attempt)
    booked = await desk.store.record(attempt.order_id, _filled(), None, None)
    assert (booked.changed, booked.order_status) == (True, "filled")
    assert (booked.position.id, booked.position.status) == (attempt.position_id, "open")
    assert booked.position.entry_quantity == 1
    again = await desk.store.record(attempt.order_id, _filled(), None, None)
    assert (again.changed, again.order_status) == (False, "filled")
    assert [position.id for position in await desk.store.open_positions([anna])] == [attempt.position_id]
    paper = (await _read(desk, await desk.signal(anna))).paper
    assert paper is not None
    assert paper.current == paper.available == Decimal("9899.9")


@contract
async def test_an_entry_cut_short_is_open_with_what_was_filled(desk: Desk) -> None:
    anna = await desk.user()
    attempt = _attempt(await _claimed(desk, anna))
    await desk.store.admit(attempt)
    part = OrderReport("partially_filled", "venue-1", (specimens.fill("100", "0.4"),))
    told = [OrderReport("submitted", "venue-1"), part, part, OrderReport("cancelled", "venue-1", known_fills=1)]
    booked = [await desk.store.record(attempt.order_id, report, None, None) for report in told]
    assert [one.changed for one in booked] == [True, True, False, True]
    assert [one.position.status for one in booked] == ["submitting", "open", "open", "open"]
    assert booked[-1].position.entry_quantity == Decimal("0.4")
    paper = (await _read(desk, await desk.signal(anna))).paper
    assert paper is not None
    assert paper.current == paper.available == 10000 - Decimal("40.04")


@contract
async def test_fills_made_up_without_knowing_the_others_are_not_booked(desk: Desk) -> None:
    anna = await desk.user()
    attempt = _attempt(await _claimed(desk, anna))
    await desk.store.admit(attempt)
    first = OrderReport("partially_filled", "venue-1", (specimens.fill("100", "0.4"),))
    stale = OrderReport("filled", "venue-1", (specimens.fill("100", "0.6", 2),))
    fresh = OrderReport("filled", "venue-1", (specimens.fill("100", "0.6", 2),), known_fills=1)
    booked = [await desk.store.record(attempt.order_id, report, None, None) for report in (first, stale, fresh)]
    assert [one.changed for one in booked] == [True, False, True]
    assert [one.order_status for one in booked] == ["partially_filled", "partially_filled", "filled"]
    assert booked[-1].position.entry_quantity == 1


@contract
async def test_an_entry_that_ends_without_a_fill_fails_with_its_code(desk: Desk) -> None:
    anna = await desk.user()
    attempt = _attempt(await _claimed(desk, anna))
    await desk.store.admit(attempt)
    report = OrderReport("expired", "venue-1", (), "entry_not_filled", "Nothing was on offer.")
    booked = await desk.store.record(attempt.order_id, report, None, None)
    assert (booked.changed, booked.order_status, booked.position.status) == (True, "expired", "failed")
    assert booked.position.failure_code == "entry_not_filled"
    assert await desk.store.open_positions([anna]) == []
    paper = (await _read(desk, await desk.signal(anna))).paper
    assert paper is not None
    assert paper.available == 10000


@contract
async def test_more_than_there_is_is_refused(desk: Desk) -> None:
    anna = await desk.user()
    brief = await _claimed(desk, anna)
    admission = await desk.store.admit(_attempt(brief, quantity=100))
    assert (admission.outcome, admission.code) == ("refused", "insufficient_balance")
    assert admission.reason
    assert _of(await desk.store.claim(None), anna) == []
    assert await desk.store.unfinished([anna]) == []


@contract
async def test_what_another_worker_holds_is_left_alone(desk: Desk) -> None:
    anna = await desk.user()
    attempt = _attempt(await _claimed(desk, anna))
    await desk.store.admit(attempt)
    brief = await _read(desk, await desk.signal(anna))
    assert anna in (await desk.store.heartbeat()).accounts
    await desk.give_to_another(anna)
    assert anna not in (await desk.store.heartbeat()).accounts
    assert _of(await desk.store.claim([brief.id]), anna) == []
    assert await desk.store.brief(brief.id) is None
    assert not await desk.store.refuse(brief.id, UNKNOWN)
    assert (await desk.store.admit(_attempt(brief))).outcome == "taken"
    with pytest.raises(Dismissed):
        await desk.store.record(attempt.order_id, _filled(), None, None)


@contract
async def test_an_account_let_go_is_taken_again(desk: Desk) -> None:
    anna = await desk.user()
    signal = await desk.signal(anna)
    await desk.store.claim([signal])
    await desk.store.release([anna])
    assert anna not in (await desk.store.heartbeat()).accounts
    assert await desk.store.brief(signal) is None
    assert (await desk.store.claim([signal])).taken == (anna,)


@contract
async def test_the_retired_change_nothing_and_begin_anew_under_another_id(desk: Desk) -> None:
    anna = await desk.user()
    attempt = _attempt(await _claimed(desk, anna))
    await desk.store.admit(attempt)
    waiting = await desk.signal(anna)
    await desk.store.retire()
    assert not (await desk.store.heartbeat()).alive
    for refused in (
        desk.store.claim([waiting]),
        desk.store.record(attempt.order_id, _filled(), None, None),
        desk.store.unfinished([anna]),
    ):
        with pytest.raises(Dismissed):
            await refused
    await desk.store.register(uuid4())
    claim = await desk.store.claim(None)
    assert anna in claim.taken
    assert _of(claim, anna) == [waiting]
    assert [one.order.id for one in await desk.store.unfinished([anna])] == [attempt.order_id]


@contract
async def test_rows_are_read_of_the_accounts_asked_for(desk: Desk) -> None:
    anna, ben = await desk.user(), await desk.user()
    resting, open_ = _attempt(await _claimed(desk, anna)), _attempt(await _claimed(desk, ben))
    for attempt in (resting, open_):
        await desk.store.admit(attempt)
    await desk.store.record(open_.order_id, _filled(), None, None)
    assert [one.order.id for one in await desk.store.unfinished([anna, ben])] == [resting.order_id]
    assert await desk.store.unfinished([ben]) == []
    assert resting.order_id in [one.order.id for one in await desk.store.unfinished()]
    assert [one.id for one in await desk.store.open_positions([anna, ben])] == [open_.position_id]
    assert await desk.store.open_positions([anna]) == []
    assert open_.position_id in [one.id for one in await desk.store.open_positions()]


@contract
async def test_sells_are_committed_booked_together_and_end_the_position(desk: Desk) -> None:
    held = await _opened(desk)
    stop, target = _legs(held, "90", "110")
    assert (await desk.store.prepare_exits(_exits(held, stop, target))).outcome == "prepared"
    resting = [Heard(leg.id, OrderReport("submitted", f"venue-{leg.purpose}")) for leg in (stop, target)]
    after = await desk.store.record_exits(held.position.id, resting)
    assert {order.purpose for order in after.guards} == {"stop_loss", "take_profit"}
    assert after == await desk.store.record_exits(held.position.id, resting)
    fill = specimens.fill("90", "1", 2)
    fired = [Heard(stop.id, OrderReport("filled", fills=(fill,))), Heard(target.id, OrderReport("expired"))]
    after = await desk.store.record_exits(held.position.id, fired)
    assert (after.orders, after.position.exit_quantity, after.attempts) == ((), 1, 2)
    ended = await desk.store.close_position(held.position.id, "stop_loss")
    assert (ended.position.status, ended.position.exit_reason) == ("closed", "stop_loss")
    assert await desk.store.held([held.position.id]) == []


@contract
async def test_no_coin_is_promised_to_two_sells(desk: Desk) -> None:
    held = await _opened(desk)
    (stop,) = _legs(held, "90")
    assert (await desk.store.prepare_exits(_exits(held, stop))).outcome == "prepared"
    (held,) = await desk.store.held([held.position.id])
    (another,) = _legs(held, "91")
    assert (await desk.store.prepare_exits(_exits(held, another))).outcome == "stale"
    cancelled = Heard(stop.id, OrderReport("submitted", "venue-1")), Heard(stop.id, OrderReport("cancelled", "venue-1"))
    again = replace(_exits(held, another), heard=cancelled)
    assert (await desk.store.prepare_exits(again)).outcome == "prepared"


@contract
async def test_protection_that_is_being_cancelled_promises_nothing_and_an_exit_always_does(desk: Desk) -> None:
    held = await _opened(desk)
    stop, target = _legs(held, "90", "110")
    assert (await desk.store.prepare_exits(_exits(held, stop, target))).outcome == "prepared"
    (unsure,) = await desk.store.held([held.position.id])
    out = exit_order(unsure, Sell(held.position.remaining), uuid4)
    instead = replace(_exits(held, out), instead_of=(stop, target), exit_reason="trailing_stop")
    assert (await desk.store.prepare_exits(instead)).outcome == "stale"  # they may not even be there yet
    resting = [Heard(leg.id, OrderReport("submitted", f"venue-{leg.purpose}")) for leg in (stop, target)]
    await desk.store.record_exits(held.position.id, resting)
    assert (await desk.store.prepare_exits(instead)).outcome == "prepared"
    again = exit_order(replace(unsure, attempts=9), Sell(held.position.remaining), uuid4)
    twice = replace(_exits(held, again), instead_of=(stop, target, out))
    assert (await desk.store.prepare_exits(twice)).outcome == "stale"
    told = [*(Heard(leg.id, OrderReport("cancelled")) for leg in (stop, target)), Heard(out.id, OrderReport("failed"))]
    after = await desk.store.record_exits(held.position.id, told)
    assert (after.orders, after.position.status, after.position.exit_reason) == ((), "closing", "trailing_stop")


@contract
async def test_sells_of_another_workers_position_are_not_booked(desk: Desk) -> None:
    held = await _opened(desk)
    (stop,) = _legs(held, "90")
    await desk.store.prepare_exits(_exits(held, stop))
    await desk.give_to_another(held.position.account)
    with pytest.raises(Dismissed):
        await desk.store.record_exits(held.position.id, [Heard(stop.id, OrderReport("submitted", "venue-1"))])


@contract
async def test_only_the_holder_of_an_account_speaks_of_its_keys(desk: Desk) -> None:
    anna = await desk.user()
    await _claimed(desk, anna)
    await desk.store.note_keys(anna, 1, "The exchange refused the key.")
    await desk.give_to_another(anna)
    with pytest.raises(Dismissed):
        await desk.store.note_keys(anna, 1, None)


async def _claimed(desk: Desk, account: Account, signal: UUID | None = None) -> Brief:
    """A ready signal of an account, claimed."""
    wanted = signal or await desk.signal(account)
    [brief] = [one for one in (await desk.store.claim([wanted])).briefs if one.id == wanted]
    return brief


async def _opened(desk: Desk) -> Held:
    """A position of 1 BTC that was bought at 100."""
    attempt = _attempt(await _claimed(desk, await desk.user()))
    await desk.store.admit(attempt)
    await desk.store.record(attempt.order_id, _filled(), None, None)
    (held,) = await desk.store.held([attempt.position_id])
    return held


def _legs(held: Held, stop: str, target: str | None = None) -> tuple[Order, ...]:
    """Protection of all of a position, the stop first."""
    wanted = Protect(held.position.remaining, Decimal(stop), None if target is None else Decimal(target))
    return protective_orders(held, wanted, uuid4)


def _exits(held: Held, *orders: Order) -> ExitPlan:
    return ExitPlan(held.position.id, orders, recv_window_ms=1000, venue_offset_ms=0)


async def _read(desk: Desk, signal: UUID) -> Brief:
    brief = await desk.store.brief(signal)
    assert brief is not None
    return brief


def _of(claim: Claim, account: Account) -> Sequence[UUID]:
    """What a claim gives of one account, in its order."""
    return [brief.id for brief in claim.briefs if brief.account == account]


def _attempt(brief: Brief, quantity: int = 1) -> Attempt:
    """An entry of so many BTC at a limit of 100."""
    position_id, value = uuid4(), Decimal(100 * quantity)
    return Attempt(
        id=uuid4(),
        position_id=position_id,
        order_id=uuid4(),
        client_order_id=client_order_id(position_id, "entry"),
        brief=brief,
        sized=Sized(
            "limit", "GTC", Decimal(quantity), Decimal(100), value, value / 1000, None, None, None, Protection()
        ),
        venue_offset_ms=0,
        recv_window_ms=1000,
    )


def _filled() -> OrderReport:
    return OrderReport("filled", "venue-1", (specimens.fill("100", "1"),))
