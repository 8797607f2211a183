"""What the venue says is booked exactly: told once or five times, in order or late."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import pytest
from psycopg import Error

from streams.domain.money import average
from tests.database.concurrency import at_once
from tests.database.project import Project
from tests.database.trading import Worker


@pytest.fixture
def worker(project: Project) -> Worker:
    return project.worker()


@pytest.fixture
def plan(project: Project, worker: Worker, alice: UUID) -> dict[str, Any]:
    """An admitted entry of 2 BTC at 100 USDT at most, with 0.2 USDT reserved for its fee."""
    return worker.admitted(project.signal(alice, project.trader(alice)), quantity="2", fee="0.2")


def _balance(project: Project) -> tuple[Decimal, Decimal]:
    return project.owner.rows("select current_balance, reserved from public.paper_balances")[0]


def _order(project: Project) -> dict[str, Any]:
    return project.owner.value("select to_jsonb(o) from public.orders as o")


def test_a_filled_entry_opens_its_position(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    answer = worker.record(
        plan["order_id"],
        status="filled",
        exchange_order_id="4711",
        acknowledged_at="2030-01-01T00:00:00.5+00:00",
        fills=[
            worker.fill("1", "99", "1.5", fee="0.1485", at="2030-01-01T00:00:01+00:00"),
            worker.fill("2", "100", "0.5", fee="0.05", at="2030-01-01T00:00:02+00:00"),
        ],
        stop_loss_price="95",
        take_profit_price=None,
    )
    assert {key: answer[key] for key in ("order_status", "position_status", "entry_quantity", "changed")} == {
        "order_status": "filled",
        "position_status": "open",
        "entry_quantity": "2.0",
        "changed": True,
    }
    assert answer["position"]["entry_price"] == "99.25"
    row = project.position_row(plan["position_id"])
    assert (row["entry_price"], row["entry_quantity"], row["entry_value"]) == (Decimal("99.25"), 2, Decimal("198.5"))
    assert row["entry_order_id"] == "4711"
    assert row["admitted_at"] <= row["entry_time"] < "2030"  # on paper by the database's clock, whoever filled it
    assert (row["stop_loss_price"], row["take_profit_price"]) == (95, 120)
    assert row["fees_paid"] == Decimal("0.1985")
    order = _order(project)
    assert (order["filled_quantity"], order["avg_fill_price"], order["fees"]) == (
        2,
        Decimal("99.25"),
        Decimal("0.1985"),
    )
    assert order["acknowledged_at"] == "2030-01-01T00:00:00.5+00:00"
    assert order["submitted_at"] <= order["filled_at"] < "2030"
    assert _balance(project) == (Decimal("9801.3015"), 0)


def test_a_report_told_again_changes_nothing(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    report: dict[str, Any] = {"status": "filled", "fills": [worker.fill("1", "100", "2", fee="0.2")]}
    twins = [Worker(project.service(), worker.id, worker.modes) for _ in range(4)]
    answers = at_once([partial(twin.record, plan["order_id"], **report) for twin in twins])
    assert sorted(answer["changed"] for answer in answers) == [False, False, False, True]
    assert project.owner.value("select count(*) from public.trades") == 1
    assert _balance(project) == (Decimal("9799.8"), 0)


def test_fills_come_as_they_come(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    worker.record(plan["order_id"], status="submitted", exchange_order_id="1")
    assert project.states(plan["position_id"]) == ["created", "submitting"]
    assert _balance(project) == (10000, Decimal("200.2"))

    first = worker.fill("1", "90", "0.5", fee="0.045")
    assert worker.record(plan["order_id"], status="partially_filled", fills=[first])["position_status"] == "open"
    assert _balance(project) == (Decimal("9954.955"), Decimal("155.155"))

    second = worker.fill("2", "100", "0.5", fee="0.05")
    more = {"status": "partially_filled", "known_fills": 1, "fills": [second]}
    assert worker.record(plan["order_id"], **more)["changed"] is True
    row = project.position_row(plan["position_id"])
    assert (row["entry_quantity"], row["entry_value"], row["entry_price"]) == (1, 95, 95)

    last = worker.fill("3", "100", "1", fee="0.1")
    answer = worker.record(plan["order_id"], status="filled", known_fills=2, fills=[last])
    assert (answer["entry_quantity"], answer["entry_value"]) == ("2.0", "195.0")
    assert _balance(project) == (Decimal("9804.805"), 0)
    assert project.states(plan["position_id"]) == ["created", "submitting", "open"]


def test_fills_made_up_without_knowing_the_earlier_ones_are_not_booked(
    project: Project, worker: Worker, plan: dict[str, Any]
) -> None:
    worker.record(plan["order_id"], status="partially_filled", fills=[worker.fill("1", "100", "1", fee="0.1")])
    before = _balance(project)
    # Whoever did not hear of that answer walks the book for the whole quantity again.
    news = [worker.fill("1", "100", "1.5", fee="0.15"), worker.fill("2", "100", "0.5", fee="0.05")]
    answer = worker.record(plan["order_id"], status="filled", known_fills=0, fills=news)
    assert (answer["changed"], answer["order_status"], answer["entry_quantity"]) == (False, "partially_filled", "1")
    assert _balance(project) == before
    rest = [worker.fill("2", "100", "1", fee="0.1")]
    assert worker.record(plan["order_id"], status="filled", known_fills=1, fills=rest)["changed"] is True
    assert _balance(project) == (Decimal("9799.8"), 0)


@pytest.mark.parametrize("mode", ["paper", "testnet"])
def test_no_order_is_filled_beyond_its_quantity(project: Project, alice: UUID, mode: str) -> None:
    worker = project.worker(mode)
    plan = worker.admitted(project.signal(alice, project.trader(alice, mode)), quantity="2")
    with pytest.raises(Error) as refused:
        worker.record(plan["order_id"], status="filled", fills=[worker.fill("1", "100", "2.00000001")])
    assert refused.value.sqlstate == "FSD03"
    assert project.owner.value("select count(*) from public.trades") == 0


def test_an_order_given_up_was_acknowledged_by_nobody(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    worker.record(plan["order_id"], status="failed", failure_code="entry_not_accepted", failure_reason="Never placed.")
    assert _order(project)["acknowledged_at"] is None


def test_a_fill_at_a_venue_keeps_the_venues_time(project: Project, alice: UUID) -> None:
    testnet = project.worker("testnet")
    plan = testnet.admitted(project.signal(alice, project.trader(alice, "testnet")), quantity="2")
    testnet.record(plan["order_id"], status="filled", fills=[testnet.fill("1", "100", "2")])
    assert project.position_row(plan["position_id"])["entry_time"] == "2030-01-01T00:00:00+00:00"


def test_an_entry_cut_short_keeps_what_it_bought(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    answer = worker.record(plan["order_id"], status="expired", fills=[worker.fill("1", "100", "0.5", fee="0.05")])
    assert (answer["order_status"], answer["position_status"], answer["entry_quantity"]) == ("expired", "open", "0.5")
    assert _balance(project) == (Decimal("9949.95"), 0)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ({"status": "expired"}, "entry_not_filled"),
        ({"status": "cancelled"}, "entry_not_filled"),
        ({"status": "failed"}, "internal_error"),
        ({"status": "failed", "failure_code": "entry_not_accepted", "failure_reason": "Never placed."}, None),
    ],
)
def test_an_entry_that_came_to_nothing_fails_its_position_and_signal(
    project: Project, worker: Worker, plan: dict[str, Any], report: dict[str, str], code: str | None
) -> None:
    answer = worker.record(plan["order_id"], **report)
    row = project.position_row(plan["position_id"])
    assert (answer["position_status"], row["status"]) == ("failed", "failed")
    assert row["failure_code"] == (code or report["failure_code"])
    assert row["failure_reason"]
    signal = project.signal_row(UUID(row["signal_id"]))
    assert signal["status"] == "failed"
    assert signal["closed_at"] is not None
    assert _balance(project) == (10000, 0)


@pytest.mark.parametrize("told", ["submitting", "submitted", "unknown", "partially_filled", "created", "nonsense"])
def test_news_older_than_the_row_changes_nothing(
    project: Project, worker: Worker, plan: dict[str, Any], told: str
) -> None:
    fills = [worker.fill("1", "100", "2", fee="0.2")]
    worker.record(plan["order_id"], status="filled", fills=fills)
    before = _order(project)
    answer = worker.record(plan["order_id"], status=told, fills=fills)
    assert (answer["changed"], answer["order_status"]) == (False, "filled")
    assert _order(project) == before


def test_an_order_that_ended_is_not_taken_up_again_by_old_news(project: Project, alice: UUID) -> None:
    testnet = project.worker("testnet")
    plan = testnet.admitted(project.signal(alice, project.trader(alice, "testnet")), quantity="2")
    fills = [testnet.fill("1", "100", "1")]
    testnet.record(plan["order_id"], status="cancelled", fills=fills)
    answer = testnet.record(plan["order_id"], status="partially_filled", fills=fills)
    assert (answer["changed"], answer["order_status"]) == (False, "cancelled")


def test_an_unknown_answer_is_settled_later(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    answer = worker.record(plan["order_id"], status="unknown", error_message="the answer was lost")
    assert (answer["order_status"], answer["position_status"]) == ("unknown", "submitting")
    assert _order(project)["acknowledged_at"] is None
    worker.record(plan["order_id"], status="failed", failure_code="entry_not_accepted")
    assert project.position_row(plan["position_id"])["failure_code"] == "entry_not_accepted"


def test_a_late_fill_after_a_cancel_is_booked(project: Project, worker: Worker, alice: UUID) -> None:
    testnet = project.worker("testnet")
    plan = testnet.admitted(project.signal(alice, project.trader(alice, "testnet")), quantity="2")
    testnet.record(plan["order_id"], status="cancelled", fills=[testnet.fill("1", "100", "1")])
    late = testnet.fill("2", "100", "1")
    answer = testnet.record(plan["order_id"], status="filled", fills=[late])
    assert (answer["changed"], answer["order_status"], answer["entry_quantity"]) == (True, "filled", "2")


def test_a_late_fill_of_an_entry_told_to_be_cancelled_is_not_hidden(
    project: Project, worker: Worker, alice: UUID
) -> None:
    testnet = project.worker("testnet")
    plan = testnet.admitted(project.signal(alice, project.trader(alice, "testnet")))
    testnet.record(plan["order_id"], status="cancelled")
    testnet.record(plan["order_id"], status="filled", fills=[testnet.fill("1", "100", "1")])
    row = project.position_row(plan["position_id"])
    assert (row["status"], row["entry_quantity"]) == ("failed", 1)
    assert row["failure_reason"] == "The entry was said to have ended without a fill, but 1 was bought."


def test_an_ended_paper_order_has_no_late_fills(project: Project, worker: Worker, plan: dict[str, Any]) -> None:
    worker.record(plan["order_id"], status="expired", fills=[worker.fill("1", "100", "1", fee="0.1")])
    answer = worker.record(plan["order_id"], status="filled", fills=[worker.fill("2", "100", "1", fee="0.1")])
    assert (answer["changed"], answer["order_status"]) == (False, "expired")
    assert _balance(project) == (Decimal("9899.9"), 0)


def test_a_fill_of_an_order_that_surely_failed_is_an_alarm(project: Project, alice: UUID) -> None:
    testnet = project.worker("testnet")
    plan = testnet.admitted(project.signal(alice, project.trader(alice, "testnet")))
    testnet.record(plan["order_id"], status="failed", failure_code="venue_rejected")
    with pytest.raises(Error, match="surely failed") as caught:
        testnet.record(plan["order_id"], status="filled", fills=[testnet.fill("1", "100", "1")])
    assert caught.value.sqlstate == "FSD03"


def test_fees_in_the_base_asset_come_off_the_quantity(project: Project, alice: UUID) -> None:
    testnet = project.worker("testnet")
    plan = testnet.admitted(project.signal(alice, project.trader(alice, "testnet")))
    fills = [
        testnet.fill("1", "100", "0.6", fee="0.0006", fee_asset="BTC", fee_usdt="0.06"),
        testnet.fill("2", "100", "0.4", fee="0.001", fee_asset="BNB", fee_usdt="0.3"),
    ]
    testnet.record(plan["order_id"], status="filled", fills=fills)
    row = project.position_row(plan["position_id"])
    assert (row["entry_quantity"], row["entry_value"], row["entry_price"]) == (Decimal("0.9994"), 100, 100)
    assert row["fees_paid"] == Decimal("0.36")
    assert _balance(project) == (10000, 0)


def test_averages_are_rounded_as_the_worker_rounds_them(project: Project) -> None:
    random = Random(7)
    pairs = [(Decimal(random.randrange(1, 10**14)).scaleb(-6), Decimal(random.randrange(1, 10**9)).scaleb(-5))
             for _ in range(200)]  # fmt: skip
    # Halves of the last place, where rounding half-even differs from half-up.
    pairs += [(Decimal(odd).scaleb(-18), Decimal(2)) for odd in range(1, 20)]
    for value, quantity in pairs:
        found = project.owner.value("select fillstream.average(%s::numeric, %s::numeric)", value, quantity)
        assert found == average(value, quantity), (value, quantity)


def test_play_money_is_exact_over_many_fills(project: Project, worker: Worker, alice: UUID) -> None:
    random, trader_id = Random(11), project.trader(alice)
    for _ in range(5):
        plan = worker.admitted(project.signal(alice, trader_id), quantity="3", fee="0.3")
        for trade in range(3):
            price = Decimal(random.randrange(9_000_000, 10_000_000)).scaleb(-5)
            value = price * 1
            status = "filled" if trade == 2 else "partially_filled"
            fill = worker.fill(str(trade), str(price), "1", fee=str(value * Decimal("0.001")))
            worker.record(plan["order_id"], status=status, known_fills=trade, fills=[fill])
    spent = project.owner.value("select sum(value + fee_usdt) from public.trades")
    assert _balance(project) == (10000 - spent, 0)
