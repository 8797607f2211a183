"""One budget for all requests: market data gives way to questions, questions to orders, all to a pause."""

from __future__ import annotations

import pytest

from streams.domain.errors import Transient
from tests.domain import specimens
from tests.streams.fakes import FakeClock
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import passed
from worker.adapters.ccxt_exchange.order_count import MOST_ENTRIES, WINDOW_SECONDS, OrderCount
from worker.adapters.ccxt_exchange.request_budget import WEIGHT_PER_MINUTE, RequestBudget, Urgency

MINUTE_MS = 60_000


class VenueTime:
    """The venue's clock, as a test sets it."""

    def __init__(self) -> None:
        self.ms = 10 * MINUTE_MS

    def __call__(self) -> int:
        return self.ms


def budget_at(used: int) -> tuple[RequestBudget, VenueTime]:
    """A budget of which so much is gone in this minute."""
    time = VenueTime()
    budget = RequestBudget(FakeClock(), time)
    budget.answered(200, {"X-MBX-USED-WEIGHT-1M": str(used)}, None)
    return budget, time


def takes(budget: RequestBudget, urgency: Urgency, weight: int = 1) -> bool:
    try:
        with budget.spending(weight, urgency):
            return True
    except Transient:
        return False


@pytest.mark.parametrize(
    ("used", "served"),
    [
        (0, set(Urgency)),
        (WEIGHT_PER_MINUTE * 75 // 100, {Urgency.ENTRY, Urgency.QUESTION, Urgency.CANCEL, Urgency.ORDER}),
        (WEIGHT_PER_MINUTE * 80 // 100, {Urgency.QUESTION, Urgency.CANCEL, Urgency.ORDER}),
        (WEIGHT_PER_MINUTE * 90 // 100, {Urgency.CANCEL, Urgency.ORDER}),
        (WEIGHT_PER_MINUTE * 98 // 100, {Urgency.ORDER}),
        (WEIGHT_PER_MINUTE - 1, {Urgency.ORDER}),
        (WEIGHT_PER_MINUTE, set[Urgency]()),
    ],
)
@in_virtual_time
async def test_as_the_minute_is_used_up_orders_find_room_last_of_all(used: int, served: set[Urgency]) -> None:
    budget, _ = budget_at(used)
    assert {urgency for urgency in Urgency if takes(budget, urgency)} == served


@in_virtual_time
async def test_what_is_on_its_way_counts_until_it_is_answered() -> None:
    budget, _ = budget_at(WEIGHT_PER_MINUTE - 10)
    with budget.spending(10, Urgency.ORDER):
        assert not takes(budget, Urgency.ORDER)
    assert takes(budget, Urgency.ORDER)


@in_virtual_time
async def test_a_new_minute_of_the_venues_is_a_new_budget() -> None:
    budget, time = budget_at(WEIGHT_PER_MINUTE)
    time.ms += MINUTE_MS
    assert takes(budget, Urgency.MARKET)


@pytest.mark.parametrize("status", [418, 429])
@in_virtual_time
async def test_while_the_venue_asked_for_a_pause_nothing_is_sent(status: int) -> None:
    budget, _ = budget_at(0)
    budget.answered(status, {"Retry-After": "7"}, "-1003")
    await passed(6.9)
    assert not takes(budget, Urgency.ORDER)
    await passed(0.2)
    assert takes(budget, Urgency.MARKET)


@in_virtual_time
async def test_a_shorter_pause_told_later_does_not_end_a_longer_one() -> None:
    budget, _ = budget_at(0)
    budget.answered(418, {"Retry-After": "100"}, None)
    budget.answered(429, {"Retry-After": "1"}, None)
    await passed(50)
    assert not takes(budget, Urgency.ORDER)


@in_virtual_time
async def test_one_accounts_own_limit_silences_nobody_else() -> None:
    budget, _ = budget_at(0)
    budget.answered(429, {"Retry-After": "7"}, "-1015")
    assert takes(budget, Urgency.MARKET)


@in_virtual_time
async def test_entries_wait_while_their_account_sent_too_many_orders_and_others_do_not() -> None:
    count, busy, idle = (
        OrderCount(FakeClock()),
        specimens.account(mode="testnet"),
        specimens.account(specimens.BEN, "testnet"),
    )
    for _ in range(MOST_ENTRIES):
        count.check_room(busy)
        count.note(busy)
    with pytest.raises(Transient):
        count.check_room(busy)
    count.check_room(idle)
    await passed(WINDOW_SECONDS)
    count.check_room(busy)
