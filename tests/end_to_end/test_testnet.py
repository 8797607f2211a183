"""Real signed orders at the exchange: the ledger equals the rows, and a lost answer doubles and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest

from tests.end_to_end.product import Project, Worker, launch_worker
from tests.end_to_end.testnet import (
    HOLDING,
    SHORT,
    TestnetUser,
    asked,
    assert_ledger_equals_rows,
    at_venue,
    hand_over,
    join_testnet,
    ledger,
    settled,
)

FAULTS: dict[str, dict[str, Any]] = {
    "hang": {"kind": "hang", "seconds": 1},
    "dropped connection": {"kind": "drop"},
    "truncated answer": {"kind": "truncate"},
    "200 with HTML": {"kind": "html"},
    "503": {"kind": "status", "status": 503},
    "524": {"kind": "status", "status": 524},
    "-1006": {"kind": "status", "status": 400, "code": -1006},
    "-1007": {"kind": "status", "status": 503, "code": -1007},
}


# Every state that a row is ever committed in, whoever writes it.
WATCH = """
  create table public.seen (number bigint generated always as identity, at timestamptz, of text, id uuid, status text);
  create function public.see() returns trigger language plpgsql security definer set search_path = '' as $$
  begin
    insert into public.seen (at, of, id, status) values (clock_timestamp(), tg_table_name, new.id, new.status);
    return null;
  end $$;
  create trigger see after insert or update on public.orders for each row execute function public.see();
  create trigger see after insert or update on public.positions for each row execute function public.see();
"""


@pytest.fixture(scope="module")
def watched(project: Project) -> Project:
    """The project, with each state of each row written down."""
    project.execute(WATCH)
    return project


@pytest.fixture(scope="module")
def trading(watched: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for the whole module, its windows short."""
    worker = launch_worker(watched.env, tmp_path_factory.mktemp("worker") / "log", **SHORT)
    worker.wait_for("ready")
    yield worker
    worker.end()


@pytest.fixture(scope="module")
def user(watched: Project, trading: Worker) -> TestnetUser:
    return join_testnet(watched)


def seen(project: Project, of: str, identity: object) -> list[tuple[str, datetime]]:
    """The states that a row went through, and when each was first seen."""
    rows = project.rows("select status, at from seen where of = %s and id = %s order by number", of, identity)
    return [(state, next(changes)["at"]) for state, changes in groupby(rows, lambda row: row["status"])]


def test_the_ledger_equals_the_rows(watched: Project, user: TestnetUser) -> None:
    signals = [watched.signal(user, symbol) for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")]
    for signal in signals:
        order = settled(watched, signal)
        (there,) = at_venue(watched, order["client_order_id"])
        assert order["position_status"] in HOLDING
        assert (order["status"], there["status"]) == ("filled", "FILLED")
        assert order["entry_order_id"] == str(there["orderId"])
        assert order["entry_value"] == Decimal(there["cummulativeQuoteQty"])
        fees = sum(
            Decimal(one["commission"]) for one in ledger(watched)["trades"] if one["orderId"] == there["orderId"]
        )
        assert order["entry_quantity"] == order["filled_quantity"] - fees  # taken in the coin itself
    assert_ledger_equals_rows(watched, user)


def test_the_next_order_is_signed_with_the_keys_that_its_user_stored_last(watched: Project, trading: Worker) -> None:
    user = join_testnet(watched)
    first = settled(watched, watched.signal(user))
    api_key, _ = hand_over(watched, user)
    second = settled(watched, watched.signal(user))  # the worker still holds the others, and they still work
    sent_by = [at_venue(watched, order["client_order_id"])[0]["apiKey"] for order in (first, second)]
    assert sent_by == [user.api_key, api_key]
    assert [order["status"] for order in (first, second)] == ["filled", "filled"]


@pytest.mark.parametrize("executed", [True, False], ids=["carried out", "not carried out"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_answer_doubles_and_loses_nothing_and_no_row_lies_meanwhile(
    watched: Project, user: TestnetUser, fault: str, executed: bool
) -> None:
    told = {"method": "POST", "path": "/api/v3/order", "execute": executed, "times": 1, **FAULTS[fault]}
    watched.venue("POST", "faults", told)
    before = asked(watched, "POST /api/v3/order", user)
    order = settled(watched, watched.signal(user, "ETH/USDT"))
    watched.venue("DELETE", "faults")
    there = at_venue(watched, order["client_order_id"])
    states = seen(watched, "orders", order["id"])
    of_position = [state for state, _ in seen(watched, "positions", order["position_id"])]
    assert asked(watched, "POST /api/v3/order", user) == before + 1
    if executed:
        (placed,) = there
        assert [state for state, _ in states] == ["created", "submitting", "unknown", "filled"]
        assert of_position[:3] == ["created", "submitting", "open"]
        assert states[-1][1].timestamp() > placed["receivedNs"] / 1e9
        assert order["filled_quantity"] == Decimal(placed["executedQty"])
    else:
        assert there == []
        assert [state for state, _ in states] == ["created", "submitting", "unknown", "failed"]
        assert of_position == ["created", "submitting", "failed"]
        proven = order["signed_at"] + timedelta(milliseconds=order["recv_window_ms"], seconds=2)
        assert states[-1][1] > proven
        assert order["failure_code"] == "entry_not_accepted"
    assert_ledger_equals_rows(watched, user)
