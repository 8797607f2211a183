"""Every state that a row was ever written in, and whether any said more than could be known at its moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from tests.end_to_end.product import Project
from tests.end_to_end.testnet import TestnetUser, ledger

KEEP = """
  create table public.history (
    number bigint generated always as identity, at timestamptz, of text, id uuid, status text, quantity numeric,
    value numeric, venue_id text
  );
  create function public.keep_history() returns trigger language plpgsql security definer set search_path = '' as $$
  declare
    written constant jsonb := to_jsonb(new);
  begin
    insert into public.history (at, of, id, status, quantity, value, venue_id) values (
      clock_timestamp(), tg_table_name, new.id, new.status,
      coalesce(written ->> 'filled_quantity', written ->> 'entry_quantity', '0')::numeric,
      coalesce(written ->> 'total_value', written ->> 'entry_value', '0')::numeric,
      coalesce(written ->> 'exchange_order_id', written ->> 'entry_order_id')
    );
    return null;
  end $$;
  create trigger history after insert or update on public.orders for each row execute function public.keep_history();
  create trigger history after insert or update on public.positions for each row execute function public.keep_history();
"""
UNHEARD = frozenset({"created", "submitting", "unknown"})
"""An order of which the exchange has said nothing yet."""
HOLDING = frozenset({"open", "monitoring", "closing", "closed"})
WORKING = """
  select o.*, p.status as position_status, p.failure_code
  from orders as o join positions as p on p.id = o.position_id where o.user_id = %s and not o.is_paper_trade
"""


@dataclass(frozen=True)
class Moment:
    """What an order or a position said from `at` on; `quantity` and `value` are what was bought or sold by it."""

    at: datetime
    status: str
    quantity: Decimal
    value: Decimal
    venue_id: str | None


def keep_history(project: Project) -> None:
    """Have the project's database write down each state of each order and position from now on."""
    project.execute(KEEP)


def moments(project: Project, of: str, identity: object) -> list[Moment]:
    """All that a row ever said, the first first."""
    query = "select at, status, quantity, value, venue_id from history where of = %s and id = %s order by number"
    return [Moment(**row) for row in project.rows(query, of, identity)]


def states(said: Sequence[Moment]) -> list[str]:
    """The states that a row went through, one after the other."""
    return [status for status, _ in groupby(moment.status for moment in said)]


def since(said: Sequence[Moment], status: str) -> float:
    """When a row was first in a state, in Unix seconds."""
    return next(moment.at.timestamp() for moment in said if moment.status == status)


def assert_no_row_lied(project: Project, *users: TestnetUser, margin_seconds: float) -> None:
    """Hold each moment of these users' orders and positions against what the exchange had done by then.

    `margin_seconds`: after an order's window, before which nothing proves that it was not accepted.
    """
    book = ledger(project)
    for user in users:
        there = {one["clientOrderId"]: one for one in book["orders"] if one["apiKey"] == user.api_key}
        for row in project.rows(WORKING, user.id):
            order = there.get(row["client_order_id"])
            fills = [one for one in book["trades"] if order is not None and one["orderId"] == order["orderId"]]
            said = moments(project, "orders", row["id"])
            for moment in said:
                _check_order(moment, row["quantity"], order, fills)
            if row["purpose"] != "entry":
                continue
            for moment in moments(project, "positions", row["position_id"]):
                _check_position(moment, order, fills)
            if row["failure_code"] == "entry_not_accepted":
                window = timedelta(milliseconds=row["recv_window_ms"], seconds=margin_seconds)
                assert since(said, "failed") > (row["signed_at"] + window).timestamp()


def _check_order(moment: Moment, wanted: Decimal, order: dict[str, Any] | None, fills: list[dict[str, Any]]) -> None:
    if moment.status in UNHEARD:
        assert (moment.quantity, moment.value, moment.venue_id) == (0, 0, None), moment
    elif moment.status == "failed":
        assert order is None, (moment, order)
    else:
        assert order is not None, moment
        assert order["receivedNs"] / 1e9 <= moment.at.timestamp(), (moment, order)
        assert moment.venue_id == str(order["orderId"])
    # What is told is all that was done up to some moment before.
    assert moment.quantity in _sums(_by_then(moment, fills)), (moment, fills)
    assert (moment.status == "filled") == (moment.quantity == wanted), moment
    assert moment.status != "partially_filled" or moment.quantity > 0, moment


def _check_position(moment: Moment, order: dict[str, Any] | None, fills: list[dict[str, Any]]) -> None:
    assert (moment.quantity > 0) == (moment.status in HOLDING), moment
    assert moment.quantity <= sum(Decimal(one["qty"]) for one in _by_then(moment, fills)), (moment, fills)
    if moment.status == "failed":
        assert order is None or Decimal(order["executedQty"]) == 0, (moment, order)


def _by_then(moment: Moment, fills: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in fills if one["time"] / 1000 <= moment.at.timestamp()]


def _sums(fills: list[dict[str, Any]]) -> set[Decimal]:
    """What was filled after each trade, and before the first."""
    done = [Decimal(0)]
    for fill in fills:
        done.append(done[-1] + Decimal(fill["qty"]))
    return set(done)
