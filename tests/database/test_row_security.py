"""Nobody reads or writes what is another's: tried on every table and every function, by every role."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql

from tests.database.project import Project
from tests.database.test_rights import OWNERS_READ

# That a view of several tables cannot be written, or a column is missing, is said before that one may not.
REFUSALS = (
    errors.InsufficientPrivilege,
    errors.ObjectNotInPrerequisiteState,
    errors.WrongObjectType,
    errors.UndefinedColumn,
)
WRITES = ("insert into {} default values", "update {} set user_id = user_id", "delete from {}", "truncate {}")


@pytest.fixture
def populated(project: Project, alice: UUID, bob: UUID) -> Project:
    """A project in which Alice and Bob have a row in every table."""
    worker = project.worker()
    owner = project.owner
    for user_id in (alice, bob):
        trader_id = project.trader(user_id)
        plan = project.open_position(worker, user_id, trader_id)
        ids = {"user": user_id, "position": plan["position_id"]}
        refused = project.signal(user_id, trader_id, symbol="nonsense")
        worker.claim(refused)
        worker.call("refuse_signal", p_signal_id=refused, p_code="unknown_symbol", p_reason="There is none.")
        for query in (
            "insert into public.position_marks (position_id, user_id) values (%(position)s, %(user)s)",
            "insert into public.pnl_snapshots (position_id, user_id) values (%(position)s, %(user)s)",
            "insert into public.position_actions (position_id, action) values (%(position)s, 'hold')",
            "insert into public.account_equity (user_id, mode) values (%(user)s, 'testnet')",
            "insert into public.exchange_accounts (user_id, mode) values (%(user)s, 'testnet')",
            "insert into public.exchange_credentials (user_id, mode, api_key_ciphertext, secret_ciphertext)"
            " values (%(user)s, 'testnet', 'x', 'y')",
            "insert into public.key_access_log (user_id, exchange, mode, outcome)"
            " values (%(user)s, 'binance', 'testnet', 'ok')",
        ):
            owner.connection.execute(query, ids)
    return project


def _everything(project: Project) -> list[tuple[str, str]]:
    return [
        (schema, name)
        for schema, name in project.owner.rows(
            "select relnamespace::regnamespace::text, relname::text from pg_class where relkind in ('r', 'v')"
            " and relnamespace = any (array['public', 'fillstream']::regnamespace[])"
        )
    ]


def test_a_user_reads_their_own_rows_and_no_others(populated: Project, alice: UUID, bob: UUID) -> None:
    for user_id, other in ((alice, bob), (bob, alice)):
        client = populated.user(user_id)
        for table in OWNERS_READ:
            owners = client.column(sql.SQL("select user_id from public.{}").format(sql.Identifier(table)))
            assert set(owners) == {user_id}, table
            asked = sql.SQL("select * from public.{} where user_id = %s").format(sql.Identifier(table))
            assert client.rows(asked, other) == []


def test_a_user_reads_nothing_else(populated: Project, alice: UUID) -> None:
    client = populated.user(alice)
    for schema, table in _everything(populated):
        if table not in OWNERS_READ:
            with pytest.raises(errors.InsufficientPrivilege):
                client.rows(sql.SQL("select * from {}").format(sql.Identifier(schema, table)))


def test_anon_reads_and_writes_nothing(populated: Project) -> None:
    client = populated.client("anon")
    for schema, table in _everything(populated):
        name = sql.Identifier(schema, table)
        for attempt in ("select * from {}", *WRITES):
            with pytest.raises(REFUSALS):
                client.execute(sql.SQL(attempt).format(name))


@pytest.mark.parametrize("own", [True, False], ids=["own rows", "another's rows"])
def test_a_user_writes_only_what_is_listed(populated: Project, alice: UUID, bob: UUID, own: bool) -> None:
    client = populated.user(alice)
    whose = alice if own else bob
    columns: dict[str, list[str]] = {}
    for table, column in populated.owner.rows(
        "select table_name::text, column_name::text from information_schema.columns"
        " where table_schema = 'public' and is_generated = 'NEVER' and is_identity = 'NO'"
    ):
        columns.setdefault(table, []).append(column)
    allowed = {
        ("traders", "name"), ("traders", "enabled"), ("traders", "risk_config"),
    } | {("risk_limits", column) for column in _limits(client)}  # fmt: skip
    for table, names in columns.items():
        for column in names:
            query = sql.SQL("update public.{} set {} = {} where user_id = %s").format(
                sql.Identifier(table), sql.Identifier(column), sql.Identifier(column)
            )
            if (table, column) in allowed:
                assert client.execute(query, whose) == (1 if own else 0), (table, column)
            else:
                with pytest.raises(REFUSALS):
                    client.execute(query, whose)
        for attempt in ("delete from {}", "truncate {}"):
            with pytest.raises(REFUSALS):
                client.execute(sql.SQL(attempt).format(sql.Identifier("public", table)))


def _limits(client: Any) -> list[str]:
    return client.column(
        "select column_name::text from information_schema.column_privileges"
        " where grantee = 'authenticated' and table_name = 'risk_limits' and privilege_type = 'UPDATE'"
    )


def test_a_user_makes_a_paper_trader_for_themselves(project: Project, alice: UUID, bob: UUID) -> None:
    client = project.user(alice)
    client.execute("insert into public.traders (user_id, name) values (%s, 'mine')", alice)
    assert client.rows("select mode, enabled, risk_config #>> '{position_size,value}' from public.traders") == [
        ("paper", True, "25")
    ]
    with pytest.raises(errors.InsufficientPrivilege):
        client.execute("insert into public.traders (user_id, name) values (%s, 'theirs')", bob)
    with pytest.raises(errors.InsufficientPrivilege):
        client.execute("insert into public.traders (user_id, name, mode) values (%s, 'real', 'live')", alice)


def test_a_first_trader_brings_cautious_limits_and_play_money(project: Project, alice: UUID) -> None:
    client = project.user(alice)
    for name in ("first", "second"):
        client.execute("insert into public.traders (user_id, name) values (%s, %s)", alice, name)
    assert client.rows(
        "select trader_id, max_position_size_usdt, max_total_exposure_usdt, daily_loss_limit_usdt, max_open_positions,"
        " trading_paused from public.risk_limits"
    ) == [(None, 100, 500, 50, None, False)]
    assert client.rows("select trader_id, initial_balance, current_balance, reserved from public.paper_balances") == [
        (None, 10000, 10000, 0)
    ]


def test_a_user_sets_limits_for_their_own_account_and_traders(project: Project, alice: UUID, bob: UUID) -> None:
    mine, theirs = project.trader(alice), project.trader(bob)
    client = project.user(alice)
    query = "insert into public.risk_limits (user_id, trader_id, max_open_positions) values (%s, %s, 3)"
    client.execute(query, alice, mine)
    with pytest.raises(errors.InsufficientPrivilege):
        client.execute(query, alice, theirs)
    with pytest.raises(errors.InsufficientPrivilege):
        client.execute(query, bob, None)
    for nonsense in ("-1", "NaN", "Infinity"):
        with pytest.raises(errors.CheckViolation):
            client.execute("update public.risk_limits set max_total_exposure_usdt = %s::numeric", nonsense)


def test_a_user_asks_actions_of_their_own_positions_alone(populated: Project, alice: UUID, bob: UUID) -> None:
    client = populated.user(alice)
    query = "insert into public.position_actions (position_id, action) values (%s, 'close') returning user_id, status"
    mine = populated.owner.value("select id from public.positions where user_id = %s", alice)
    theirs = populated.owner.value("select id from public.positions where user_id = %s", bob)
    assert client.rows(query, mine) == [(alice, "pending")]
    for foreign in (theirs, uuid4()):
        with pytest.raises(errors.InsufficientPrivilege):
            client.rows(query, foreign)


def test_worker_functions_are_the_service_roles_alone(project: Project, alice: UUID) -> None:
    functions = project.owner.rows(
        "select proname::text, pronargs - pronargdefaults, proacl::text from pg_proc"
        " where pronamespace = 'public'::regnamespace"
    )
    for role, user_id in (("anon", None), ("authenticated", alice)):
        client = project.client(role, user_id)
        for name, arguments, acl in functions:
            if f"{role}=" in acl:
                continue
            query = sql.SQL("select public.{}({})").format(
                sql.Identifier(name), sql.SQL(", ").join([sql.SQL("null")] * arguments)
            )
            with pytest.raises(errors.InsufficientPrivilege):
                client.rows(query)


def test_the_private_schema_is_closed_to_every_role(project: Project, alice: UUID) -> None:
    for client in (project.client("anon"), project.user(alice), project.service()):
        with pytest.raises(errors.InsufficientPrivilege):
            client.rows("select * from fillstream.position_moves()")
        with pytest.raises(errors.InsufficientPrivilege):
            client.rows("select * from fillstream.admissions")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_private_topics_are_ones_own_to_read_and_nobodys_to_write(
    project: Project, alice: UUID, bob: UUID, role: str
) -> None:
    own = role == "authenticated"
    with psycopg.connect(project.server.superuser_dsn) as connection:
        # What a project may have of its own: a policy that opens every topic.
        connection.execute("create policy everything on realtime.messages using (true) with check (true)")
        topics = ("workers", f"user:{alice}", f"user:{bob}", "user:", "chat")
        for topic in topics:
            connection.execute("select realtime.send('{}', 'event', %s)", (topic,))
        connection.execute("set local role authenticator")
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        if own:
            claims = f'{{"sub": "{alice}"}}'
            connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        read, written = set[str](), set[str]()
        for topic in topics:
            connection.execute("select set_config('realtime.topic', %s, true)", (topic,))
            if connection.execute("select from realtime.messages where topic = %s", (topic,)).fetchall():
                read.add(topic)
            try:
                with connection.transaction():
                    connection.execute(
                        "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", (topic,)
                    )
                written.add(topic)
            except errors.InsufficientPrivilege:
                pass
        connection.rollback()
    assert read == {"chat"} | ({f"user:{alice}"} if own else set())
    assert written == {"chat"}


def test_without_any_other_policy_only_ones_own_topic_can_be_read(project: Project, alice: UUID) -> None:
    project.owner.execute("select realtime.send('{}', 'event', 'chat'), realtime.send('{}', 'event', 'workers')")
    project.owner.execute("select realtime.send('{}', 'event', %s)", f"user:{alice}")
    client = project.user(alice)
    for topic, expected in (("chat", 0), ("workers", 0), (f"user:{alice}", 1)):
        client.execute("select set_config('realtime.topic', %s, false)", topic)
        assert len(client.rows("select from realtime.messages where topic = %s", topic)) == expected, topic
