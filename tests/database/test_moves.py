"""Positions, orders and signals change state along their tables and no other way."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql

from streams.domain import order, position
from tests.database.project import Project


def _moves(project: Project, query: LiteralString) -> dict[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for from_status, to_status in project.owner.rows(query):
        found[from_status].add(to_status)
    return {status: frozenset(following) for status, following in found.items()}


def test_positions_move_as_the_worker_believes(project: Project) -> None:
    expected = {status: following for status, following in position.MOVES.items() if following}
    assert _moves(project, "select * from fillstream.position_moves()") == expected


def test_orders_move_as_the_worker_believes(project: Project) -> None:
    expected = {status: following for status, following in order.MOVES.items() if following}
    assert _moves(project, "select * from fillstream.order_moves()") == expected


@pytest.mark.parametrize("table", ["positions", "orders"])
def test_the_states_of_the_check_are_those_of_the_worker(project: Project, table: str) -> None:
    moves = position.MOVES if table == "positions" else order.MOVES
    check = project.owner.value(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = %s", f"{table}_status_check"
    )
    assert {word for word in check.split("'") if word.isidentifier()} - {"text"} >= set(moves)


def test_a_position_takes_every_move_of_its_table_and_no_other(project: Project, alice: UUID) -> None:
    allowed = {(from_status, to_status) for from_status, following in position.MOVES.items() for to_status in following}
    parents = _parents(project, alice)
    for from_status in position.MOVES:
        for to_status in set(position.MOVES) - {from_status}:
            assert _may_move(project, parents, "positions", from_status, to_status) == (
                (from_status, to_status) in allowed
            ), (from_status, to_status)


def test_an_order_takes_every_move_of_its_table_and_no_other(project: Project, alice: UUID) -> None:
    allowed = {(from_status, to_status) for from_status, following in order.MOVES.items() for to_status in following}
    parents = _parents(project, alice)
    for from_status in order.MOVES:
        for to_status in set(order.MOVES) - {from_status}:
            assert _may_move(project, parents, "orders", from_status, to_status) == (
                (from_status, to_status) in allowed
            ), (from_status, to_status)


def _parents(project: Project, user_id: UUID) -> dict[str, UUID]:
    trader_id = project.trader(user_id)
    return {"user": user_id, "trader": trader_id, "signal": project.signal(user_id, trader_id)}


def _may_move(project: Project, parents: dict[str, UUID], table: str, from_status: str, to_status: str) -> bool:
    """Put a row into a state with triggers off, then try the move with them on; nothing stays."""
    with psycopg.connect(project.server.superuser_dsn) as connection:
        connection.execute("set local session_replication_role = replica")
        signal_status = "in_position" if to_status == "closed" else "executing"
        connection.execute("update public.signals set status = %s", (signal_status,))
        ids = parents | {"position": uuid4(), "order": uuid4()}
        # With a fill where the table of moves is what is asked about, without where failing is.
        quantity = None if to_status == "failed" else 1
        connection.execute(
            "insert into public.positions (id, user_id, trader_id, signal_id, symbol, mode, status, entry_quantity)"
            " values (%(position)s, %(user)s, %(trader)s, %(signal)s, 'BTC/USDT', 'paper', %(status)s, %(quantity)s)",
            ids | {"status": from_status if table == "positions" else "submitting", "quantity": quantity},
        )
        connection.execute(
            "insert into public.orders"
            " (id, position_id, user_id, purpose, client_order_id, symbol, side, type, quantity, mode, status)"
            " values (%(order)s, %(position)s, %(user)s, 'entry', 'c', 'BTC/USDT', 'buy', 'market', 1, 'paper',"
            " %(status)s)",
            ids | {"status": from_status if table == "orders" else "created"},
        )
        connection.execute("set local session_replication_role = origin")
        query = sql.SQL("update public.{} set status = %s").format(sql.Identifier(table))
        try:
            connection.execute(query, (to_status,))
        except errors.CheckViolation:
            return False
        finally:
            connection.rollback()
        return True


def test_rows_begin_as_created(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    signal_id = project.signal(alice, trader_id)
    with pytest.raises(errors.CheckViolation, match="begins as created, not as open"):
        project.owner.execute(
            "insert into public.positions (user_id, trader_id, signal_id, symbol, mode, status)"
            " values (%s, %s, %s, 'BTC/USDT', 'paper', 'open')",
            alice,
            trader_id,
            signal_id,
        )


def test_a_position_opens_only_with_a_fill(project: Project, alice: UUID) -> None:
    plan = _submitting(project, alice)
    with pytest.raises(errors.CheckViolation, match="without a fill"):
        project.owner.execute("update public.positions set status = 'open' where id = %s", plan["position_id"])


def test_a_position_that_holds_coins_does_not_fail(project: Project, alice: UUID) -> None:
    plan = _submitting(project, alice)
    with pytest.raises(errors.CheckViolation, match="holds coins"):
        project.owner.execute(
            "update public.positions set status = 'failed', entry_quantity = 1 where id = %s", plan["position_id"]
        )


def test_each_state_is_an_event_with_its_number_and_its_worker(project: Project, alice: UUID) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, project.trader(alice))
    events = project.owner.rows(
        "select seq, from_status, to_status, worker_id, user_id from public.position_events"
        " where position_id = %s order by seq",
        plan["position_id"],
    )
    assert events == [
        (1, None, "created", worker.id, alice),
        (2, "created", "submitting", worker.id, alice),
        (3, "submitting", "open", worker.id, alice),
    ]


def test_each_state_is_told_to_listeners(project: Project, alice: UUID) -> None:
    project.owner.execute("listen position_state_change")
    plan = project.open_position(project.worker(), alice, project.trader(alice))
    heard = [json.loads(notice.payload) for notice in project.owner.connection.notifies(timeout=10, stop_after=3)]
    assert [(one["from_status"], one["to_status"]) for one in heard] == [
        (None, "created"),
        ("created", "submitting"),
        ("submitting", "open"),
    ]
    assert {one["position_id"] for one in heard} == {plan["position_id"]}


def test_events_are_append_only(project: Project, alice: UUID) -> None:
    project.open_position(project.worker(), alice, project.trader(alice))
    with pytest.raises(errors.RestrictViolation, match="append-only"):
        project.owner.execute("update public.position_events set to_status = 'closed'")
    with pytest.raises(errors.RestrictViolation, match="append-only"):
        project.owner.execute("delete from public.position_events")


def test_a_signal_follows_its_position_to_the_end(project: Project, alice: UUID) -> None:
    worker = project.worker()
    plan = project.open_position(worker, alice, project.trader(alice))
    signal_id = UUID(project.position_row(plan["position_id"])["signal_id"])
    assert project.signal_row(signal_id)["status"] == "in_position"
    for status in ("closing", "closed"):
        project.owner.execute("update public.positions set status = %s where id = %s", status, plan["position_id"])
    row = project.signal_row(signal_id)
    assert row["status"] == "completed"
    assert row["closed_at"] is not None


@pytest.mark.parametrize("status", ["executing", "in_position", "completed", "rejected", "failed", "expired"])
def test_a_producer_moves_no_signal_where_only_functions_may(project: Project, alice: UUID, status: str) -> None:
    signal_id = project.signal(alice, project.trader(alice))
    with pytest.raises((errors.InsufficientPrivilege, errors.CheckViolation)):
        project.service().execute("update public.signals set status = %s where id = %s", status, signal_id)
    with pytest.raises(errors.CheckViolation, match="begins as ready or monitoring"):
        project.signal(alice, project.trader(alice), status=status)


def test_a_producer_cannot_take_back_a_signal_under_way_but_may_annotate_it(project: Project, alice: UUID) -> None:
    plan = _submitting(project, alice)
    signal_id = project.position_row(plan["position_id"])["signal_id"]
    producer = project.service()
    for column, value in {"status": "ready", "symbol": "ETH/USDT", "stop_loss": 1, "user_id": uuid4()}.items():
        query = sql.SQL("update public.signals set {} = %s where id = %s").format(sql.Identifier(column))
        with pytest.raises((errors.InsufficientPrivilege, errors.CheckViolation)):
            producer.execute(query, value, signal_id)
    producer.execute("update public.signals set metadata = '{\"model\": 2}' where id = %s", signal_id)
    assert project.signal_row(UUID(signal_id))["metadata"] == {"model": 2}


def _submitting(project: Project, user_id: UUID) -> dict[str, str]:
    return project.worker().admitted(project.signal(user_id, project.trader(user_id)))
