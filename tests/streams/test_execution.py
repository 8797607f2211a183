"""One signal's way to its outcome, in order within an account, and what becomes of every kind of failure."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from streams.domain.errors import Broken, Dismissed, Refused, Rejected, Transient, Unknown
from streams.domain.order import Order, OrderReport
from streams.execution import Claimed
from streams.outcome import Deferred, Dropped, Failed, InDoubt, Opened, Outcome, Resting, TurnedAway
from streams.ports import Admission
from tests.domain import specimens
from tests.streams import answers, fakes
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import SWEEP, World, passed

ONE = specimens.brief(1)


async def carried(world: World, brief: Any = ONE) -> list[Outcome]:
    """Carry one claimed signal to its outcomes, apart from the trunk."""
    await world.presence.register()
    claim = await world.store.claim(None)
    outcomes: list[Outcome] = []
    done = asyncio.Event()
    found = next(one for one in claim.briefs if one.id == brief.id)
    claimed = Claimed(found, world.clock.monotonic())
    world.execution.execute(claimed).subscribe(outcomes.append, None, done.set)
    await done.wait()
    assert len(world.in_hand) == 0
    return outcomes


@in_virtual_time
async def test_a_signal_becomes_an_open_position_with_one_order() -> None:
    world = World(ONE)
    (opened,) = await carried(world)
    assert isinstance(opened, Opened)
    assert (opened.position.signal_id, opened.position.status) == (ONE.id, "open")
    assert opened.position.entry_quantity == Decimal("0.995")
    assert world.exchange.placed == [opened.position.id]
    assert world.store.status(ONE) == "in_position"
    assert world.store.called("brief") == []  # it was claimed a moment ago, and nothing traded since


@in_virtual_time
async def test_nothing_is_sent_before_its_rows_stand() -> None:
    world = World(ONE)
    await carried(world)
    assert world.store.called("admit")[0] < world.exchange.called("place")[0] < world.store.called("record")[0]


@in_virtual_time
async def test_an_order_names_the_keys_that_its_admission_found() -> None:
    world = World(specimens.brief(1, mode="testnet"))
    world.store.credential_versions[specimens.account(mode="testnet")] = 7
    placed: list[Order] = []

    def answer(order: Order) -> OrderReport:
        placed.append(order)
        return answers.filled(order)

    world.venue.answers["place"] = answer
    await carried(world)
    assert [order.credential_version for order in placed] == [7]


@in_virtual_time
async def test_an_order_that_rests_is_handed_on() -> None:
    world = World(ONE)
    world.exchange.answers["place"] = answers.resting
    (outcome,) = await carried(world)
    assert isinstance(outcome, Resting)
    assert (outcome.order.status, outcome.order.filled_quantity, outcome.age) == ("submitted", 0, 0.0)


@in_virtual_time
async def test_an_order_filled_in_part_is_open_and_rests() -> None:
    world = World(ONE)
    world.exchange.answers["place"] = answers.partly
    opened, outcome = await carried(world)
    assert isinstance(opened, Opened)
    assert isinstance(outcome, Resting)
    assert outcome.order.filled_quantity == Decimal("0.1")


@in_virtual_time
async def test_an_entry_with_nothing_on_offer_fails_and_says_so() -> None:
    world = World(ONE)
    world.exchange.answers["place"] = answers.cancelled
    (outcome,) = await carried(world)
    assert isinstance(outcome, Failed)
    assert outcome.position.failure_code == "entry_not_filled"
    assert world.store.status(ONE) == "failed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"side": "short"}, "short_not_supported"),
        ({"symbol": "ETH/BTC"}, "unsupported_quote"),
        ({"symbol": "NONE/USDT"}, "unknown_symbol"),
        ({"risk_config": "[]"}, "invalid_risk_config"),
        ({"stop_loss": "101"}, "invalid_stop"),
        ({"risk_config": specimens.sized_by("fixed", "1")}, "below_min_notional"),
        ({"price": "90", "limits": {"account": {"max_price_deviation_percent": "5"}}}, "price_deviation"),
    ],
)
def test_what_a_rule_refuses_says_so_on_its_row_and_is_never_sent(changes: dict[str, Any], code: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        brief = specimens.brief(1, **changes)
        world = World(brief)
        (outcome,) = await carried(world, brief)
        assert isinstance(outcome, TurnedAway)
        assert (outcome.code, outcome.account) == (code, brief.account)
        specimens.assert_sound(Refused(outcome.code, outcome.reason))
        assert (world.store.status(brief), world.store.signals[brief.id].code) == ("rejected", code)
        assert world.exchange.placed == []

    scenario()


@in_virtual_time
async def test_a_signal_of_a_mode_that_is_not_served_is_an_alarm_and_is_never_sent() -> None:
    brief = specimens.brief(1, mode="live")
    world = World(brief)
    await world.start()
    await passed(4 * SWEEP)
    assert (world.store.status(brief), world.store.signals[brief.id].code) == ("rejected", "internal_error")
    assert world.exchange.calls == []
    await world.stop()


@in_virtual_time
async def test_a_market_that_is_halted_is_refused() -> None:
    world = World(ONE)
    world.market.trading = False
    (outcome,) = await carried(world)
    assert isinstance(outcome, TurnedAway)
    assert outcome.code == "unknown_symbol"


@pytest.mark.parametrize(
    ("admission", "kind"),
    [
        (Admission("refused", "max_open_positions", "You have 3 of 3 positions open."), TurnedAway),
        (Admission("taken"), Dropped),
        (Admission("stale"), Deferred),
        (Admission("late"), Deferred),
    ],
)
def test_without_admission_nothing_is_sent(admission: Admission, kind: type[Outcome]) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(ONE)
        world.store.verdicts[ONE.id] = fakes.deque([admission] * 2)
        (outcome,) = await carried(world)
        assert isinstance(outcome, kind)
        assert world.exchange.placed == []
        if isinstance(outcome, TurnedAway):
            assert (outcome.code, outcome.reason) == (admission.code, admission.reason)

    scenario()


@in_virtual_time
async def test_a_lease_with_too_little_left_is_renewed_and_the_signal_admitted_at_once() -> None:
    world = World(ONE)
    world.store.verdicts[ONE.id] = fakes.deque([Admission("late")])
    (outcome,) = await carried(world)
    assert isinstance(outcome, Opened)
    (beat,), (first, second) = world.store.called("heartbeat"), world.store.called("admit")
    assert first < beat < second < first + 0.1
    assert len(world.exchange.placed) == 1


@in_virtual_time
async def test_a_lease_that_cannot_be_renewed_defers_the_signal() -> None:
    world = World(ONE)
    world.store.verdicts[ONE.id] = fakes.deque([Admission("late")])
    world.store.take_down("heartbeat")
    (outcome,) = await carried(world)
    assert isinstance(outcome, Deferred)
    assert world.exchange.placed == []


@in_virtual_time
async def test_a_refusal_of_a_signal_that_was_taken_meanwhile_is_dropped() -> None:
    brief = specimens.brief(1, side="short")
    world = World(brief)
    await world.presence.register()
    claim = await world.store.claim(None)
    world.store.give_to_another(brief.account)
    outcome = await world.execution.execute(Claimed(claim.briefs[0], world.clock.monotonic()))
    assert isinstance(outcome, Dropped)
    assert len(world.store.called("refuse")) == 1
    assert world.store.status(brief) == "ready"


@in_virtual_time
async def test_an_order_that_the_venue_refused_fails_with_the_venues_code() -> None:
    world = World(ONE)
    world.exchange.break_next("place", Rejected("venue_rejected", "The market is closed."))
    (outcome,) = await carried(world)
    assert isinstance(outcome, Failed)
    assert outcome.position.failure_code == "venue_rejected"


@pytest.mark.parametrize(
    "error", [Unknown("no answer"), Transient("not sent"), TimeoutError(), ZeroDivisionError("a bug"), Broken("odd")]
)
def test_any_other_failure_after_admission_is_a_doubt_and_nothing_is_sent_again(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(ONE)
        world.exchange.break_next("place", error)
        (outcome,) = await carried(world)
        assert isinstance(outcome, InDoubt)
        assert not outcome.unheard  # nothing was told to the rows
        assert len(world.exchange.placed) == 1
        assert world.store.orders[outcome.order_id].order.status == "submitting"
        assert world.store.status(ONE) == "executing"

    scenario()


@pytest.mark.parametrize("error", [Transient("down"), Broken("odd"), ZeroDivisionError("a bug")])
def test_a_fill_of_whose_booking_nothing_is_heard_is_a_doubt(error: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(ONE)
        world.store.break_next("record", error)
        (outcome,) = await carried(world)
        assert isinstance(outcome, InDoubt)
        assert (outcome.account, outcome.unheard) == (ONE.account, True)

    scenario()


@in_virtual_time
async def test_a_fill_of_an_order_that_is_another_workers_by_now_is_dropped() -> None:
    world = World(ONE)
    world.store.break_next("record", Dismissed("dead"))
    (outcome,) = await carried(world)
    assert isinstance(outcome, Dropped)


@in_virtual_time
async def test_stop_and_target_follow_the_price_paid() -> None:
    settings = specimens.sized_by("fixed", "100", stop_loss_percent="5", take_profit_percent="10")
    brief = specimens.brief(1, risk_config=settings)
    world = World(brief)
    world.market.price = Decimal(101)  # the order is filled at 100
    (outcome,) = await carried(world, brief)
    assert isinstance(outcome, Opened)
    assert (outcome.position.stop_loss_price, outcome.position.take_profit_price) == (95, 110)


@in_virtual_time
async def test_an_admission_whose_answer_is_lost_sends_nothing() -> None:
    world = World(ONE)
    world.store.lose_answer("admit")
    (outcome,) = await carried(world)
    assert isinstance(outcome, Deferred)
    assert world.exchange.placed == []
    assert world.store.status(ONE) == "executing"  # for recovery to settle


@pytest.mark.parametrize("verb", ["quote", "funds", "admit"])
def test_what_cannot_be_reached_defers_the_signal(verb: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        world = World(ONE)
        port = {"quote": world.market, "funds": world.exchange, "admit": world.store}[verb]
        port.break_next(verb, Transient("down"))
        (outcome,) = await carried(world)
        assert isinstance(outcome, Deferred)
        assert world.store.status(ONE) == "ready"
        assert world.store.signals[ONE.id].tries == 0

    scenario()


@in_virtual_time
async def test_a_refusal_that_cannot_be_written_defers_the_signal() -> None:
    brief = specimens.brief(1, side="short")
    world = World(brief)
    world.store.take_down("refuse")
    (outcome,) = await carried(world, brief)
    assert isinstance(outcome, Deferred)


@in_virtual_time
async def test_a_worker_declared_dead_drops_the_signal() -> None:
    world = World(ONE)
    world.store.break_next("admit", Dismissed("dead"))
    (outcome,) = await carried(world)
    assert isinstance(outcome, Dropped)


@in_virtual_time
async def test_a_brief_grown_old_is_read_anew_and_dropped_where_it_is_ours_no_more() -> None:
    world = World(ONE)
    await world.presence.register()
    claim = await world.store.claim(None)
    claimed = Claimed(claim.briefs[0], world.clock.monotonic())
    await passed(1.5)
    world.store.give_to_another(ONE.account)
    outcome = await world.execution.execute(claimed)
    assert isinstance(outcome, Dropped)
    assert len(world.store.called("brief")) == 1


@in_virtual_time
async def test_each_signal_of_an_account_is_sized_from_what_the_one_before_left() -> None:
    half = specimens.sized_by("percent", "50")
    world = World(*(specimens.brief(number, risk_config=half) for number in (1, 2, 3)))
    await world.start()
    await passed(1)
    spent = [row.order.total_value for row in world.store.orders.values()]
    assert len(spent) == 3
    assert spent[0] / 2 * Decimal("0.98") < spent[1] < spent[0] * Decimal("0.52")
    assert spent[1] / 2 * Decimal("0.98") < spent[2] < spent[1] * Decimal("0.52")
    await world.stop()


@in_virtual_time
async def test_signals_of_an_account_go_in_order_and_accounts_side_by_side() -> None:
    briefs = [
        specimens.brief(number, user_id=user, ready_at=f"2026-03-01T12:00:{59 - number:02}Z")
        for number, user in enumerate([specimens.ANNA, specimens.BEN] * 5, start=1)
    ]
    world = World(*briefs)
    world.exchange.latency = 1.0
    await world.start()
    await passed(30)
    await world.stop()
    for user in (specimens.ANNA, specimens.BEN):
        opened = [one.position.signal_id.int for one in world.of(Opened) if one.position.user_id == user]
        assert opened == sorted(opened, reverse=True)
        assert len(opened) == 5
        assert world.exchange.most_underway[user] == 1
    last_opened = max(at for at, outcome in world.timed if isinstance(outcome, Opened))
    assert last_opened == pytest.approx(2 * 5, abs=1)  # pyright: ignore[reportUnknownMemberType]


@in_virtual_time
async def test_a_poisoned_signal_is_refused_after_three_tries_and_disturbs_nobody() -> None:
    poison = specimens.brief(1, symbol="BUG/USDT")
    world = World(poison, specimens.brief(2), specimens.brief(3, user_id=specimens.BEN))
    await world.start()
    await passed(1)
    assert {one.position.signal_id.int for one in world.of(Opened)} == {2, 3}
    assert world.store.status(poison) == "ready"
    await passed(3 * SWEEP)
    assert (world.store.status(poison), world.store.signals[poison.id].code) == ("rejected", "internal_error")
    assert [one.code for one in world.of(TurnedAway)] == ["internal_error"]
    tries = len(world.of(Deferred))
    await passed(10 * SWEEP)
    assert len(world.of(Deferred)) == tries == 2
    await world.stop()


@in_virtual_time
async def test_a_signal_deferred_is_tried_at_the_next_sweep() -> None:
    world = World(ONE)
    world.market.break_next("quote", Transient("down"))
    await world.start()
    await passed(SWEEP / 2)
    assert [type(one) for one in world.outcomes] == [Deferred]
    await passed(SWEEP)
    assert [type(one) for one in world.outcomes][:2] == [Deferred, Opened]
    await world.stop()


@in_virtual_time
async def test_what_was_begun_at_the_venue_is_finished_when_nobody_listens_any_more() -> None:
    world = World(ONE)
    world.exchange.latency = 5.0
    subscription = await world.start()
    await passed(7)
    assert len(world.exchange.called("place")) == 1
    subscription.dispose()
    assert world.exchange.underway[specimens.ANNA] == 1
    await passed(5)
    assert world.exchange.underway[specimens.ANNA] == 0
    assert len(world.exchange.called("place")) == 1


@in_virtual_time
async def test_what_was_only_prepared_is_dropped_when_nobody_listens_any_more() -> None:
    world = World(ONE)
    world.market.latency = 5.0
    subscription = await world.start()
    await passed(2)
    subscription.dispose()
    await passed(10)
    assert world.store.called("admit") == []
    assert world.store.status(ONE) == "ready"
