"""Entries on a known book: resting, reached, given up, cut short, bounded; sizes, stops and targets to the digit."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.books import assert_books
from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, User, Worker, launch_worker, wait_until

SOON = {"MAX_EXECUTION_TIME": "2.5", "POLL_INTERVAL": "0.2"}
LATE = {"MAX_EXECUTION_TIME": "60", "POLL_INTERVAL": "0.2"}
FEE = Decimal("0.001")
DEEP = "100000"


@pytest.fixture
def worker(start_worker: StartWorker) -> Worker:
    """A worker that gives a limit entry two and a half seconds."""
    return start_worker(**SOON)


class TestResting:
    """A limit below the market."""

    def test_it_fills_at_its_limit_when_the_price_comes_to_it(
        self, project: Project, start_worker: StartWorker
    ) -> None:
        start_worker(**LATE)
        user = project.sign_up()
        project.venue("POST", "price", {"symbol": "ADA/USDT", "price": "0.5000"})
        signal = project.signal(user, "ADA/USDT", order_type="limit", limit_price="0.4")
        order = _rests(project, signal)
        assert (order["quantity"], order["price"], order["reserved"]) == (250, Decimal("0.4"), Decimal("100.1"))
        assert _balance(project, user) == (10000, Decimal("100.1"))
        assert project.statuses([signal]) == ["executing"]
        project.venue("POST", "price", {"symbol": "ADA/USDT", "price": "0.3900"})
        project.wait_for([signal])
        wait_until("it is filled", lambda: _order(project, signal)["status"] == "filled")
        assert _order(project, signal)["avg_fill_price"] == Decimal("0.4")
        assert _balance(project, user) == (10000 - 100 - Decimal("0.1"), 0)
        assert_books(project, user)

    def test_never_reached_it_is_given_up_and_its_money_is_free_again(self, project: Project, worker: Worker) -> None:
        user = project.sign_up()
        _book(project, "DOT/USDT", asks=[("3.000", DEEP)])
        signal = project.signal(user, "DOT/USDT", order_type="limit", limit_price="2.5")
        _rests(project, signal)
        taken = project.wait_for([signal], "failed")
        assert taken > 1.5
        position, order = _position(project, signal), _order(project, signal)
        assert (position["status"], position["failure_code"]) == ("failed", "entry_not_filled")
        assert position["failure_reason"].endswith(".")
        assert (order["status"], order["filled_quantity"]) == ("cancelled", 0)
        assert _balance(project, user) == (10000, 0)
        assert_books(project, user)

    def test_reached_in_part_it_opens_and_is_cut_short(self, project: Project, worker: Worker) -> None:
        user = project.sign_up()
        _book(project, "LINK/USDT", asks=[("10.00", "4"), ("11.00", DEEP)])
        signal = project.signal(user, "LINK/USDT", order_type="limit", limit_price="10")
        project.wait_for([signal])
        # What a book offers again and again would fill the rest; this one offers nothing more at the limit.
        _book(project, "LINK/USDT", asks=[("11.00", DEEP)])
        wait_until("the rest is cancelled", lambda: _order(project, signal)["status"] == "cancelled")
        position, order = _position(project, signal), _order(project, signal)
        assert position["status"] in ("open", "monitoring")
        assert order["quantity"] == 10
        assert order["filled_quantity"] == position["entry_quantity"] > 0
        assert order["filled_quantity"] % 4 == 0
        assert position["entry_value"] == order["filled_quantity"] * 10
        assert _balance(project, user) == (10000 - position["entry_value"] * (1 + FEE), 0)
        assert_books(project, user)

    def test_it_goes_on_after_a_restart_of_the_worker(self, project: Project, start_worker: StartWorker) -> None:
        user = project.sign_up()
        _book(project, "UNI/USDT", asks=[("8.000", DEEP)])
        first = start_worker(**LATE)
        signal = project.signal(user, "UNI/USDT", order_type="limit", limit_price="7")
        resting = _rests(project, signal)
        assert first.stop() == 0
        assert _order(project, signal)["status"] == "submitted"
        start_worker(**LATE)
        _book(project, "UNI/USDT", asks=[("6.900", DEEP)])
        project.wait_for([signal])
        order = _order(project, signal)
        assert (order["id"], order["avg_fill_price"]) == (resting["id"], 7)
        assert_books(project, user)

    def test_its_time_runs_on_while_no_worker_does(self, project: Project, start_worker: StartWorker) -> None:
        user = project.sign_up()
        _book(project, "ATOM/USDT", asks=[("3.000", DEEP)])
        first = start_worker(**LATE)
        signal = project.signal(user, "ATOM/USDT", order_type="limit", limit_price="2")
        _rests(project, signal)
        assert first.stop() == 0
        start_worker(**(SOON | {"MAX_EXECUTION_TIME": "0.5"}))
        project.wait_for([signal], "failed", 5.0)
        assert _position(project, signal)["failure_code"] == "entry_not_filled"
        assert_books(project, user)


@pytest.fixture(scope="class")
def serving(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests of a class."""
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log")
    worker.wait_for("ready")
    yield worker
    assert worker.stop() == 0


class TestAtOnce:
    """What the book offers when the entry comes."""

    def test_a_limit_above_the_market_fills_at_the_markets_prices(self, project: Project, serving: Worker) -> None:
        user = project.sign_up()
        _book(project, "NEAR/USDT", asks=[("2.000", "10"), ("2.100", "10"), ("2.200", DEEP)])
        signal = project.signal(user, "NEAR/USDT", order_type="limit", limit_price="2.5")
        project.wait_for([signal])
        order = _order(project, signal)
        assert (order["status"], order["quantity"]) == ("filled", 40)
        assert order["total_value"] == 10 * Decimal("2.0") + 10 * Decimal("2.1") + 20 * Decimal("2.2")
        assert order["avg_fill_price"] == Decimal("2.125")
        trades = project.rows("select price, quantity from trades where order_id = %s order by price", order["id"])
        assert [(one["price"], one["quantity"]) for one in trades] == [
            (2, 10),
            (Decimal("2.1"), 10),
            (Decimal("2.2"), 20),
        ]
        assert _balance(project, user) == (10000 - 85 * (1 + FEE), 0)
        assert_books(project, user)

    def test_a_market_entry_never_pays_more_than_its_bound(self, project: Project, serving: Worker) -> None:
        user = project.sign_up(_sized("fixed", "100", max_slippage_percent="1"))
        _book(project, "APT/USDT", asks=[("2.000", "10"), ("2.020", "5"), ("2.021", DEEP)])
        signal = project.signal(user, "APT/USDT")
        project.wait_for([signal])
        position, order = _position(project, signal), _order(project, signal)
        assert (order["status"], order["price"], order["time_in_force"]) == ("expired", Decimal("2.02"), "IOC")
        assert (order["quantity"], order["filled_quantity"]) == (Decimal("49.50"), 15)
        assert position["entry_value"] == 20 + Decimal("10.1")
        assert _balance(project, user) == (10000 - Decimal("30.1") * (1 + FEE), 0)
        assert_books(project, user)

    def test_nothing_within_the_bound_is_no_position(self, project: Project, serving: Worker) -> None:
        user = project.sign_up(_sized("fixed", "100", max_slippage_percent="0.1"))
        _book(project, "ARB/USDT", asks=[("0.2500", DEEP)])
        # The price that the worker hears is half a second old: by then the market has moved.
        late = {"method": "GET", "path": "/api/v3/ticker/bookTicker", "kind": "delay", "seconds": 0.5}
        project.venue("POST", "faults", late)
        signal = project.signal(user, "ARB/USDT")
        wait_until("the worker asked for the price", lambda: not project.venue("GET", "faults").json()["faults"])
        _book(project, "ARB/USDT", asks=[("0.3000", DEEP)])
        project.wait_for([signal], "failed")
        assert _position(project, signal)["failure_code"] == "entry_not_filled"
        assert (_order(project, signal)["price"], _order(project, signal)["status"]) == (Decimal("0.2502"), "expired")
        assert _balance(project, user) == (10000, 0)
        assert_books(project, user)

    def test_without_a_bound_a_market_entry_takes_what_it_needs(self, project: Project, serving: Worker) -> None:
        user = project.sign_up(_sized("fixed", "100", max_slippage_percent="0"))
        _book(project, "OP/USDT", asks=[("0.400", "100"), ("0.410", DEEP)])
        signal = project.signal(user, "OP/USDT")
        project.wait_for([signal])
        order = _order(project, signal)
        assert (order["type"], order["price"], order["status"]) == ("market", None, "filled")
        # Sized at 5 % above the best ask, so that it never costs more than the trader said.
        assert order["quantity"] == Decimal("238.09")
        assert order["total_value"] == 100 * Decimal("0.4") + Decimal("138.09") * Decimal("0.41")
        assert_books(project, user)


SIZES: dict[str, tuple[tuple[str, str], dict[str, str], str]] = {
    # 0.5 % above an ask of 2.000 is 2.010, the worst price; the quantity is rounded down to steps of 0.01.
    "fixed": (("fixed", "100"), {}, "49.75"),
    # a tenth of what 10000 buys with its fee: 10000 / 1.001 / 10 / 2.010 = 497.015…
    "percent": (("percent", "10"), {}, "497.01"),
    # 1 % of 10000 lost between 2.010 and a stop at 1.9: 100 / 0.11 = 909.0909…
    "risk": (("risk", "1"), {"stop_loss": "1.9"}, "909.09"),
    # never more than there is: 10000 / 1.001 / 2.010 = 4970.15…
    "risk with a near stop": (("risk", "5"), {"stop_loss": "1.998"}, "4970.15"),
}


@pytest.fixture(scope="class")
def flat(project: Project, serving: Worker) -> str:
    """A symbol with all on offer at 2.000, a tick of 0.001 and a step of 0.01."""
    _book(project, "FIL/USDT", asks=[("2.000", DEEP)], bids=[("1.999", DEEP)])
    return "FIL/USDT"


class TestOnAFlatBook:
    """Sizes, stops and targets as computed by hand."""

    @pytest.mark.parametrize(("size", "columns", "quantity"), SIZES.values(), ids=SIZES.keys())
    def test_the_size_is_what_the_trader_said(
        self, project: Project, flat: str, size: tuple[str, str], columns: dict[str, str], quantity: str
    ) -> None:
        user = project.sign_up(_sized(*size))
        signal = project.signal(user, flat, **columns)
        project.wait_for([signal])
        position = _position(project, signal)
        value = Decimal(quantity) * 2
        assert (position["entry_quantity"], position["entry_value"]) == (Decimal(quantity), value)
        assert (position["entry_price"], position["fees_paid"]) == (2, value * FEE)
        assert _balance(project, user) == (10000 - value * (1 + FEE), 0)
        assert_books(project, user)

    def test_percentages_are_of_the_price_paid(self, project: Project, flat: str) -> None:
        user = project.sign_up(_sized("fixed", "100", stop_loss_percent="2.03", take_profit_percent="4.01"))
        signal = project.signal(user, flat)
        project.wait_for([signal])
        position = _position(project, signal)
        # 2 - 2.03 % = 1.9594 and 2 + 4.01 % = 2.0802, both up to the tick: never more loss, never less gain.
        assert (position["stop_loss_price"], position["take_profit_price"]) == (Decimal("1.96"), Decimal("2.081"))

    def test_what_the_signal_says_comes_before_the_traders_percentages(self, project: Project, flat: str) -> None:
        user = project.sign_up(_sized("fixed", "100", stop_loss_percent="2", take_profit_percent="4"))
        signal = project.signal(user, flat, stop_loss="1.5", take_profit="3.25")
        project.wait_for([signal])
        position = _position(project, signal)
        assert (position["stop_loss_price"], position["take_profit_price"]) == (Decimal("1.5"), Decimal("3.25"))

    def test_percentages_of_a_balance_follow_it(self, project: Project, flat: str) -> None:
        user = project.sign_up(_sized("percent", "50"))
        ids = project.signals([{"user_id": user.id, "trader_id": user.trader_id, "symbol": flat} for _ in range(2)])
        project.wait_for(ids)
        balance = Decimal(10000)
        for signal in ids:
            quantity = (balance / (1 + FEE) / 2 / Decimal("2.01")).quantize(Decimal("0.01"), "ROUND_FLOOR")
            assert _position(project, signal)["entry_quantity"] == quantity
            balance -= quantity * 2 * (1 + FEE)
        assert _balance(project, user) == (balance, 0)
        assert_books(project, user)


def _sized(kind: str, value: str, **settings: str) -> dict[str, Any]:
    return {"position_size": {"type": kind, "value": value}, **settings}


def _book(
    project: Project, symbol: str, asks: list[tuple[str, str]], bids: list[tuple[str, str]] | None = None
) -> None:
    """Set a symbol's whole book."""
    low = [(str((Decimal(asks[0][0]) * Decimal("0.9")).quantize(Decimal(asks[0][0]))), DEEP)]
    project.venue("POST", "book", {"symbol": symbol, "asks": asks, "bids": bids or low})


def _rests(project: Project, signal: str) -> dict[str, Any]:
    """The entry order, once it rests at its limit."""
    query = "select 1 from orders join positions on positions.id = position_id where signal_id = %s and "
    wait_until("the order rests", lambda: project.rows(f"{query} orders.status = 'submitted'", signal))
    return _order(project, signal)


def _order(project: Project, signal: str) -> dict[str, Any]:
    """The entry order; the position may have protective ones by then."""
    query = "select orders.* from orders join positions on positions.id = position_id where purpose = 'entry'"
    [order] = project.rows(f"{query} and signal_id = %s", signal)
    return order


def _position(project: Project, signal: str) -> dict[str, Any]:
    [position] = project.rows("select * from positions where signal_id = %s", signal)
    return position


def _balance(project: Project, user: User) -> tuple[Decimal, Decimal]:
    [row] = project.rows("select current_balance, reserved from paper_balances where user_id = %s", user.id)
    return row["current_balance"], row["reserved"]
