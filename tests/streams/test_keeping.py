"""Whatever prices, fills, faults and actions come: never sold twice, never bare for long, and closed to the coin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.action import Action
from streams.domain.money import ZERO
from streams.domain.order import Order, OrderReport, Stamp
from streams.domain.position import Position
from streams.monitor import Monitor, MonitorSettings
from streams.outcome import Closed, Monitored, Outcome
from tests.domain import specimens
from tests.streams.bourse import Bourse
from tests.streams.fakes import FakeClock, FakeMarket, FakeStore
from tests.streams.virtual_loop import VirtualLoop, in_virtual_time

QUANTITY = Decimal("1.0005")
SYMBOL = "BTC/USDT"
SECONDS = 120.0


@dataclass
class Room:
    """One position at a small exchange, kept by the real monitor on rows in memory."""

    terms: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.market = FakeMarket()
        brief = specimens.brief(1, mode="testnet")
        self.store = FakeStore(self.clock)
        self.store.lease_seconds = 1e6  # nobody beats here
        self.bourse = Bourse(self.market, self.clock, QUANTITY)
        entry = specimens.order(
            mode="testnet", status="filled", quantity=QUANTITY, filled_quantity=QUANTITY, total_value="100.05", fills=1
        )
        self.store.put_unfinished(entry, brief)
        self.identity = entry.position_id
        self.store.positions[self.identity] = self.store.positions[self.identity].model_copy(
            update={
                "status": "open",
                "entry_price": Decimal(100),
                "entry_quantity": QUANTITY,
                "entry_value": Decimal("100.05"),
                "entry_time": self.clock.now(),
                **self.terms,
            }
        )
        self.outcomes: list[Outcome] = []
        self.ended = asyncio.Event()
        numbers = iter(range(0x1000, 0x100000))
        keeping = MonitorSettings(1000, 1.0, 15_000)

        def new_id() -> UUID:
            return UUID(int=next(numbers))

        def no_entry(order: Order) -> None:
            raise AssertionError("the entry has ended")

        self.monitor = Monitor(
            self.store,
            {"testnet": self.market},
            {"testnet": self.bourse},
            self.clock,
            new_id,
            keeping,
            no_entry,
            lambda: False,
        )

    async def begin(self) -> None:
        await self.store.register(UUID(int=1))
        await self.store.claim(None)
        self.store.holders[self.position.account] = UUID(int=1)
        self.market.tick(SYMBOL, "100")
        self.kept = self.monitor.keep(self.position).subscribe(self._gather)
        await passed(0.5)

    def _gather(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if isinstance(outcome, Closed):
            self.ended.set()

    @property
    def position(self) -> Position:
        return self.store.positions[self.identity]

    @property
    def resting(self) -> dict[str, Order]:
        return {one.order.purpose: one.order for one in self.bourse.working}

    def ask(self, action: str, **details: str) -> Action:
        number = len(self.store.exits.actions) + len(self.store.exits.answers) + 1
        asked = Action(id=UUID(int=number), position_id=self.identity, action=action, details=details)
        self.store.exits.actions.append(asked)
        self.monitor.keep(self.position).subscribe()
        return asked

    async def closed(self) -> None:
        """Wait until it is, and check that every coin and every cent is accounted for."""
        async with asyncio.timeout(SECONDS):
            await self.ended.wait()
        sold = QUANTITY - self.bourse.coins
        assert self.bourse.working == []
        if self.position.exit_reason != "lost_at_venue":
            assert (self.position.exit_quantity or ZERO) == sold
            assert QUANTITY - sold < Decimal("0.06")  # dust: below NOTIONAL
            fees = (self.position.exit_value or ZERO) * Decimal("0.001")
            assert (self.position.exit_value or ZERO) - fees == self.bourse.cash
        assert len([one for one in self.outcomes if isinstance(one, Closed)]) == 1
        self.kept.dispose()
        await passed(0.1)
        assert self.bourse.listeners == []


async def passed(seconds: float) -> None:
    await asyncio.sleep(seconds)


Scenario = Callable[[Room], Coroutine[Any, Any, None]]


def kept(**terms: Any) -> Callable[[Scenario], Callable[[], None]]:
    """Make a test of a scenario with a position of these terms, kept from its first moment."""

    def make(scenario: Scenario) -> Callable[[], None]:
        @in_virtual_time
        async def test() -> None:
            room = Room({name: Decimal(value) for name, value in terms.items()})
            await room.begin()
            await scenario(room)

        test.__name__ = scenario.__name__  # pyright: ignore[reportFunctionMemberAccess]
        return test

    return make


BOTH = {"stop_loss_price": "98", "take_profit_price": "104"}


@kept(**BOTH)
async def test_it_is_protected_and_adopted(room: Room) -> None:
    assert {name: order.stop_price for name, order in room.resting.items()} == {"stop_loss": 98, "take_profit": 104}
    assert room.position.status == "monitoring"
    assert [type(one) for one in room.outcomes] == [Monitored]


@kept(**BOTH)
async def test_what_rests_is_fired_by_the_exchange_and_booked(room: Room) -> None:
    room.market.tick(SYMBOL, "97")
    await room.closed()
    assert room.position.exit_reason == "stop_loss"


@kept(**BOTH)
async def test_a_crossing_of_a_moment_is_not_missed_by_a_trailing_stop(room: Room) -> None:
    room.store.positions[room.identity] = room.position.model_copy(update={"trailing_stop_percent": Decimal(2)})
    room.monitor.keep(room.position).subscribe()
    await passed(1)
    room.market.tick(SYMBOL, "103.9", "101.8", "103.9")
    await room.closed()
    assert room.position.exit_reason == "trailing_stop"


TRAILING = {"stop_loss_price": "98", "trailing_stop_percent": "2"}


@kept(**TRAILING)
async def test_what_rests_is_executed_while_a_trailing_exit_is_on_its_way(room: Room) -> None:
    cancel_all = room.bourse.cancel_all

    async def too_late(orders: Sequence[Order], stamp: Stamp) -> Sequence[OrderReport | None]:
        room.bourse.trade(Decimal(90))
        return await cancel_all(orders, stamp)

    room.bourse.cancel_all = too_late
    room.market.tick(SYMBOL, "100.1", "98.05")
    await room.closed()
    (exit_order,) = [one for one in room.store.exits.orders.values() if one.purpose == "exit"]
    assert exit_order.status == "failed"
    assert exit_order.client_order_id not in room.bourse.orders


@kept(**TRAILING)
async def test_an_exit_is_not_sent_while_what_rests_cannot_be_cancelled(room: Room) -> None:
    room.bourse.in_reach = False
    room.market.tick(SYMBOL, "100.1", "98.05")
    await passed(20)
    assert [one.status for one in room.store.exits.orders.values() if one.purpose == "exit"] == ["failed"]
    room.bourse.in_reach = True
    async with asyncio.timeout(2.1):
        await room.ended.wait()
    await room.closed()
    assert room.position.exit_reason == "trailing_stop"


@kept(**TRAILING)
async def test_an_intent_whose_answer_was_lost_is_known_to_be_unsent(room: Room) -> None:
    room.store.lose_answer("prepare_exits")
    room.market.tick(SYMBOL, "100.1", "98.05")
    async with asyncio.timeout(1):
        await room.ended.wait()
    await room.closed()
    assert [one.status for one in room.store.exits.orders.values() if one.purpose == "exit"] == ["failed", "filled"]


@kept(**TRAILING)
async def test_a_trailing_stop_follows_the_price_to_the_tick(room: Room) -> None:
    room.market.tick(SYMBOL, "100.01")
    await passed(1)
    room.market.tick(SYMBOL, "98.01", "99")
    await room.closed()
    assert room.position.exit_reason == "trailing_stop"


@kept(**TRAILING)
async def test_a_trailing_stop_follows_a_rise(room: Room) -> None:
    room.market.tick(SYMBOL, "110")
    await passed(0.5)
    assert room.resting["stop_loss"].stop_price == Decimal("107.80")
    assert room.position.trailing_stop_price == Decimal("107.80")


@kept(**TRAILING)
async def test_what_rests_is_not_let_go_while_the_database_is_down(room: Room) -> None:
    room.store.take_down("prepare_exits")
    room.market.tick(SYMBOL, "110")
    await passed(10)
    assert room.resting["stop_loss"].stop_price == Decimal(98)
    room.store.bring_up()
    room.market.tick(SYMBOL, "110.01")
    await passed(30)
    assert room.resting["stop_loss"].stop_price == Decimal("107.81")


def test_an_exit_waits_for_no_stop_that_follows_a_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.monitor.MOVES_AT_ONCE", 0)

    @in_virtual_time
    async def scenario() -> None:
        room = Room({name: Decimal(value) for name, value in TRAILING.items()})
        await room.begin()
        room.market.tick(SYMBOL, "110")
        await passed(5)
        assert room.resting["stop_loss"].stop_price == Decimal(98)
        room.market.tick(SYMBOL, "107")
        async with asyncio.timeout(0.1):
            await room.ended.wait()
        await room.closed()
        assert room.position.exit_reason == "trailing_stop"

    scenario()


@kept(**BOTH)
async def test_a_rise_after_a_low_is_no_fall(room: Room) -> None:
    room.store.positions[room.identity] = room.position.model_copy(update={"trailing_stop_percent": Decimal(2)})
    room.monitor.keep(room.position).subscribe()
    await passed(1)
    room.market.tick(SYMBOL, "99", "103")
    await passed(5)
    assert room.position.status == "monitoring"


@kept(**BOTH)
async def test_a_price_that_stays_through_a_stop_that_is_not_fired_is_sold_by_the_worker(room: Room) -> None:
    room.bourse.trade = lambda price: None
    room.market.tick(SYMBOL, "97.5")
    await passed(1)
    assert room.position.status == "monitoring"
    await room.closed()
    assert room.position.exit_reason == "stop_loss"


@kept(**BOTH)
async def test_a_stop_filled_in_part_is_ended_and_the_rest_sold(room: Room) -> None:
    room.bourse.part = Decimal("0.3")
    room.market.tick(SYMBOL, "97.9")
    await room.closed()
    assert room.position.exit_reason == "stop_loss"


@pytest.mark.parametrize("fault", ["lost", "never came", "down", "refused"])
def test_a_fault_on_protection_leaves_it_protected_or_sold(fault: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        room = Room({name: Decimal(value) for name, value in BOTH.items()})
        room.bourse.faults.append(fault)
        await room.begin()
        await passed(20)
        assert room.resting.keys() == {"stop_loss", "take_profit"}
        assert room.position.status == "monitoring"
        room.market.tick(SYMBOL, "97")
        await room.closed()

    scenario()


@in_virtual_time
async def test_what_cannot_be_protected_is_sold_and_says_why() -> None:
    room = Room({name: Decimal(value) for name, value in BOTH.items()})
    room.bourse.faults.extend(["refused", "refused"])
    await room.begin()
    await room.closed()
    assert room.position.exit_reason == "protection_failed"


@kept(**BOTH)
async def test_protection_that_the_exchange_cancelled_is_placed_anew(room: Room) -> None:
    room.bourse.cancel_everything()
    room.bourse.tell(None)
    await passed(0.5)
    assert room.resting.keys() == {"stop_loss", "take_profit"}


@kept(**BOTH)
async def test_protection_that_was_cancelled_in_silence_is_found_missing(room: Room) -> None:
    room.bourse.cancel_everything()
    await passed(6)
    assert room.resting.keys() == {"stop_loss", "take_profit"}


@kept(**BOTH)
async def test_a_reset_of_the_exchange_ends_it_as_lost(room: Room) -> None:
    await passed(20)
    room.bourse.reset()
    await room.closed()
    assert room.position.exit_reason == "lost_at_venue"


@kept(**BOTH)
async def test_coins_that_were_sold_by_hand_end_it_as_lost(room: Room) -> None:
    room.bourse.cancel_everything()
    room.bourse.coins = ZERO
    room.bourse.tell(None)
    await room.closed()
    assert room.position.exit_reason == "lost_at_venue"


@kept(**BOTH)
async def test_a_close_that_keeps_being_refused_has_not_come_about(room: Room) -> None:
    room.bourse.faults.extend(["refused"] * 5)
    room.ask("close")
    await passed(60)
    assert "resume" in {verb for verb in ("resume",) if room.store.called("resume")}
    assert room.position.status in ("monitoring", "closing", "closed")


@kept(**BOTH)
async def test_what_is_asked_is_judged_by_the_price_of_now_though_none_was_heard_of_late(room: Room) -> None:
    await passed(30)
    room.ask("adjust_sl", stop_loss_price="101")
    await passed(1)
    (answer,) = room.store.exits.answers
    assert answer.status == "refused"


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("prices"), st.lists(st.integers(9000, 11000), min_size=1, max_size=4)),
        st.tuples(st.just("fault"), st.sampled_from(["refused", "down", "lost", "never came", "no coins"])),
        st.tuples(st.just("part"), st.sampled_from(["0.25", "0.5", "1"])),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.002, 0.05, 1.0, 3.0, 20.0])),
        st.tuples(st.just("cancelled"), st.none()),
        st.tuples(st.just("hint"), st.none()),
        st.tuples(st.just("reduce"), st.sampled_from(["0.3", "0.7", "2"])),
        st.tuples(st.just("adjust_sl"), st.sampled_from(["95", "99.5", "120"])),
        st.tuples(st.just("adjust_tp"), st.sampled_from(["101", "108", "80"])),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, stop=st.sampled_from(["98", None]), target=st.sampled_from(["104", None]), trail=st.booleans())
def test_whatever_happens_every_coin_is_sold_once_and_the_profit_is_the_cash(
    events: list[tuple[str, Any]], stop: str | None, target: str | None, trail: bool
) -> None:
    terms = {"stop_loss_price": stop, "take_profit_price": target, "trailing_stop_percent": "2" if trail else None}

    async def scenario() -> None:
        room = Room({name: Decimal(value) for name, value in terms.items() if value is not None})
        await room.begin()
        for what, value in events:
            match what:
                case "prices":
                    room.market.tick(SYMBOL, *(str(Decimal(price) / 100) for price in value))
                case "fault":
                    room.bourse.faults.append(value)
                case "part":
                    room.bourse.part = Decimal(value)
                case "pass":
                    await passed(value)
                case "cancelled":
                    room.bourse.cancel_everything()
                case "hint":
                    room.bourse.tell(None)
                case "reduce":
                    room.ask("reduce", quantity=value)
                case "adjust_sl":
                    room.ask("adjust_sl", stop_loss_price=value)
                case _:
                    room.ask("adjust_tp", take_profit_price=value)
        room.bourse.part = Decimal(1)
        await passed(40)
        if room.position.status != "closed":
            room.ask("close")
        await room.closed()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
