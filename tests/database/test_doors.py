"""No door leads a user to another's rows, past the operator's pause, or to an exchange without keys and limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from itertools import product
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from tests.database.client import Client
from tests.database.project import Project
from tests.database.test_losses import mark, outcome
from tests.database.test_rights import COLUMNS, LIMITS
from tests.database.trading import Worker

# That a view cannot be written, or a column is the database's own to fill, is said before that one may not.
REFUSALS = (errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState, errors.GeneratedAlways)
ROLES = ("authenticated", "anon")
MODES = ("paper", "testnet", "live")
ENOUGH: dict[str, int] = {"max_total_exposure_usdt": 1000, "max_position_size_usdt": 100, "daily_loss_limit_usdt": 50}


@pytest.fixture
def town(project: Project, alice: UUID, bob: UUID) -> Project:
    """A project in which Alice and Bob have a row in every table that has users, and both are paused."""
    worker = project.worker()
    for user_id in (alice, bob):
        trader_id = project.trader(user_id)
        plan = project.open_position(worker, user_id, trader_id)
        worker.admitted(project.signal(user_id, trader_id, symbol="ETH/USDT"))
        mark(worker, plan, "99")
        with_keys(project, user_id, "testnet")
        refused = project.signal(user_id, trader_id)
        worker.claim(refused)
        worker.call("refuse_signal", p_signal_id=refused, p_code="unknown_symbol", p_reason="There is none.")
        project.owner.execute(
            "insert into public.position_actions (position_id, action) values (%s, 'hold')", plan["position_id"]
        )
        project.owner.execute(
            "insert into public.key_access_log (user_id, exchange, mode, outcome)"
            " values (%s, 'binance', 'testnet', 'decrypted')",
            user_id,
        )
        project.owner.execute(
            "insert into public.paper_balances (user_id, trader_id) values (%s, %s)", user_id, trader_id
        )
        project.limit(user_id, trader_id, **ENOUGH)
        project.service().call("emergency_stop", p_user_id=user_id)
    project.service().call("emergency_stop")
    return project


def with_keys(project: Project, user_id: UUID, mode: str) -> None:
    """Working keys, as their owner sees them and as they are kept."""
    project.keys(user_id, mode)
    project.owner.execute(
        "insert into public.exchange_accounts (user_id, mode) values (%s, %s) on conflict do nothing", user_id, mode
    )


def snapshot(project: Project, without: UUID | None = None) -> dict[str, Any]:
    """Every row there is, or every row that does not name one user."""
    tables = project.owner.column(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'fillstream')"
    )
    each = sql.SQL(
        "select {}, (select jsonb_agg(to_jsonb(one) order by to_jsonb(one)::text) from {} as one"
        " where position({} in to_jsonb(one)::text) = 0)"
    )
    named = str(without or uuid4())
    query = sql.SQL(" union all ").join(each.format(sql.Literal(name), sql.SQL(name), named) for name in tables)
    return dict(project.owner.rows(query))


def relations(project: Project) -> dict[str, list[str]]:
    """The columns of every table and view in public."""
    columns: dict[str, list[str]] = {}
    for relation, column in project.owner.rows(
        "select attrelid::regclass::text, attname::text from pg_attribute join pg_class on pg_class.oid = attrelid"
        " where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p', 'f')"
        " and attnum > 0 and not attisdropped order by attrelid, attnum"
    ):
        columns.setdefault(relation, []).append(column)
    assert len(columns) > 20
    return columns


def granted(role: str, relation: str, verb: str) -> list[str]:
    return sorted(column for who, table, column, what in COLUMNS if (who, table, what) == (role, relation, verb))


def row_of(project: Project, relation: str, columns: list[str], user_id: UUID) -> dict[str, Any]:
    """A row of a user; of what has no users, the only one."""
    whose = sql.SQL("where user_id = {}").format(user_id) if "user_id" in columns else sql.SQL("")
    query = sql.SQL("select to_jsonb(one) from {} as one {} limit 1").format(sql.Identifier(relation), whose)
    return project.owner.value(query)


def as_json(row: dict[str, Any]) -> Jsonb:
    return Jsonb(row, dumps=partial(json.dumps, default=str))


def opens(client: Client, query: sql.Composed, *values: object) -> bool:
    """Whether an attempt touches any row."""
    try:
        return client.execute(query, *values) != 0
    except REFUSALS:
        return False


def insertion(relation: str, columns: list[str]) -> sql.Composed:
    """An insert of these columns of one row given as JSON."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("insert into {0} ({1}) select {1} from jsonb_populate_record(null::{0}, %s)").format(
        sql.Identifier("public", relation), names
    )


@pytest.mark.parametrize("role", ROLES)
def test_no_column_is_changed_but_those_listed_of_ones_own_rows(
    town: Project, alice: UUID, bob: UUID, role: str
) -> None:
    client, before, opened = town.client(role, alice), snapshot(town), list[tuple[str, ...]]()
    for relation, columns in relations(town).items():
        for whose, other in ((alice, bob), (bob, alice)):
            foreign = as_json(row_of(town, relation, columns, other))
            for column in columns:
                if whose == alice and column in granted(role, relation, "UPDATE"):
                    continue
                query = sql.SQL("update {0} set {1} = (jsonb_populate_record(null::{0}, %s)).{1}{2}").format(
                    sql.Identifier("public", relation),
                    sql.Identifier(column),
                    sql.SQL(" where user_id = {}").format(whose) if "user_id" in columns else sql.SQL(""),
                )
                if opens(client, query, foreign):
                    opened.append((relation, column, "own" if whose == alice else "another's"))
    assert opened == []
    assert snapshot(town) == before


@pytest.mark.parametrize("role", ROLES)
def test_no_column_is_written_into_a_new_row_but_those_listed(town: Project, alice: UUID, role: str) -> None:
    client, before, opened = town.client(role, alice), snapshot(town), list[tuple[str, str]]()
    for relation, columns in relations(town).items():
        own, allowed = as_json(row_of(town, relation, columns, alice)), granted(role, relation, "INSERT")
        for column in set(columns) - set(allowed):
            if opens(client, insertion(relation, [*allowed, column]), own):
                opened.append((relation, column))
    assert opened == []
    assert snapshot(town) == before


@pytest.mark.parametrize("role", ROLES)
def test_no_new_row_names_what_is_anothers(town: Project, alice: UUID, bob: UUID, role: str) -> None:
    client, before, opened = town.client(role, alice), snapshot(town), list[tuple[str, ...]]()
    for relation, columns in relations(town).items():
        own, foreign = (row_of(town, relation, columns, user_id) for user_id in (alice, bob))
        written = granted(role, relation, "INSERT") or columns
        pointing = [name for name in written if name in _ANOTHERS]
        rows = [foreign, *(own | {name: town.owner.value(_ANOTHERS[name], bob)} for name in pointing)]
        for row in rows:
            for ending in ("", " on conflict do nothing"):
                if opens(client, insertion(relation, written) + sql.SQL(ending), as_json(row)):
                    opened.append((relation, str(row), ending))
    assert opened == []
    assert snapshot(town) == before


_ANOTHERS: dict[str, LiteralString] = {
    "user_id": "select %s",
    "trader_id": "select id from public.traders where user_id = %s limit 1",
    "position_id": "select id from public.positions where user_id = %s limit 1",
    "signal_id": "select id from public.signals where user_id = %s limit 1",
    "order_id": "select id from public.orders where user_id = %s limit 1",
    "worker_id": "select worker_id from public.accounts where user_id = %s and mode = 'paper'",
}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_deleted(town: Project, alice: UUID, role: str) -> None:
    client, before = town.client(role, alice), snapshot(town)
    for relation in relations(town):
        for attempt in ("delete from {}", "truncate {} cascade"):
            with pytest.raises((*REFUSALS, errors.WrongObjectType)):
                client.execute(sql.SQL(attempt).format(sql.Identifier("public", relation)))
    assert snapshot(town) == before


def test_a_change_of_all_rows_is_one_of_ones_own(town: Project, alice: UUID) -> None:
    client, before, own = town.user(alice), snapshot(town, without=alice), snapshot(town)
    for relation in relations(town):
        for column in granted("authenticated", relation, "UPDATE"):
            # Without a condition, and with a value read from nowhere: the policy on reading has no say in it.
            query = sql.SQL("update {0} set {1} = (jsonb_populate_record(null::{0}, %s)).{1}")
            value = as_json(row_of(town, relation, ["user_id"], alice))
            assert client.execute(query.format(sql.Identifier("public", relation), sql.Identifier(column)), value) > 0
    assert snapshot(town, without=alice) == before
    assert snapshot(town) != own


ROUNDABOUT: dict[str, LiteralString] = {
    "everybody's limits in one update": (
        "update public.risk_limits set max_total_exposure_usdt = 1000000 where user_id <> %(alice)s"
    ),
    "another's limits by a merge": (
        "merge into public.risk_limits as own using (values (%(bob)s::uuid)) as theirs (id) on own.user_id = theirs.id"
        " when matched then update set max_open_positions = 99"
        " when not matched then insert (user_id, max_open_positions) values (theirs.id, 99)"
    ),
    "another's limits by an upsert": (
        "insert into public.risk_limits (user_id, max_total_exposure_usdt) values (%(bob)s, 1000000)"
        " on conflict (user_id, trader_id) do update set max_total_exposure_usdt = excluded.max_total_exposure_usdt"
    ),
    "another's limits beside one's own": (
        "insert into public.risk_limits (user_id, max_open_positions) values (%(alice)s, 99), (%(bob)s, 99)"
        " on conflict (user_id, trader_id) do update set max_open_positions = excluded.max_open_positions"
    ),
    "one's own limits given to another by an upsert": (
        "insert into public.risk_limits (user_id) values (%(alice)s)"
        " on conflict (user_id, trader_id) do update set user_id = %(bob)s"
    ),
    "one's own limits as another's trader's": (
        "insert into public.risk_limits (user_id) values (%(alice)s)"
        " on conflict (user_id, trader_id) do update set trader_id = %(theirs)s"
    ),
    "limits of another's trader in one's own name": (
        "insert into public.risk_limits (user_id, trader_id, max_open_positions) values (%(alice)s, %(theirs)s, 99)"
    ),
    "one's own pause by an upsert": (
        "insert into public.risk_limits (user_id) values (%(alice)s)"
        " on conflict (user_id, trader_id) do update set trading_paused = false, paused_by = null"
    ),
    "one's own pause in a part of a query": (
        "with lifted as (update public.risk_limits set trading_paused = false returning *) select * from lifted"
    ),
    "the operator's pause as one's own": "update public.risk_limits set paused_by = 'user'",
    "the stop of everybody": "update public.system_state set stopped = false",
    "the stop of everybody by another row": "insert into public.system_state (id) values (false)",
    "a trader born live": "insert into public.traders (user_id, name, mode) values (%(alice)s, 'born live', 'live')",
    "a trader made live by an upsert": (
        "insert into public.traders (id, user_id, name) values (%(mine)s, %(alice)s, 'made live')"
        " on conflict (id) do update set mode = 'live'"
    ),
    "another's trader switched off": "update public.traders set enabled = false where id = %(theirs)s",
    "another's trader by an upsert": (
        "insert into public.traders (id, user_id, name) values (%(theirs)s, %(alice)s, 'taken')"
        " on conflict (id) do update set name = 'taken', enabled = false"
    ),
    "another's positions closed": (
        "insert into public.position_actions (position_id, action) values (%(position)s, 'close')"
    ),
    "another's positions closed beside one's own": (
        "insert into public.position_actions (position_id, action) values (%(own)s, 'close'), (%(position)s, 'close')"
    ),
    "another's positions closed in their own name": (
        "insert into public.position_actions (position_id, user_id, action) values (%(position)s, %(bob)s, 'close')"
    ),
    "another's stop moved": (
        "insert into public.position_actions (position_id, action, details)"
        """ values (%(position)s, 'adjust_sl', '{"stop_loss_price": "99.99"}')"""
    ),
    "every position closed that there is": (
        "insert into public.position_actions (position_id, action) select id, 'close' from public.positions"
        " where user_id <> %(alice)s"
    ),
    "an action of one's own turned on another's position": (
        "update public.position_actions set position_id = %(position)s, status = 'pending'"
    ),
}


@pytest.mark.parametrize("role", ROLES)
def test_no_roundabout_statement_opens_a_door(town: Project, alice: UUID, bob: UUID, role: str) -> None:
    client, before = town.client(role, alice), snapshot(town)
    ids: dict[str, object] = {"alice": alice, "bob": bob}
    ids |= {"mine": town.owner.value(_ANOTHERS["trader_id"], alice)}
    ids |= {"theirs": town.owner.value(_ANOTHERS["trader_id"], bob)}
    ids |= {"own": town.owner.value(_ANOTHERS["position_id"], alice)}
    ids |= {"position": town.owner.value(_ANOTHERS["position_id"], bob)}
    for name, attempt in ROUNDABOUT.items():
        with suppress(errors.InsufficientPrivilege):
            assert client.connection.execute(attempt, ids).rowcount == 0, name
        assert snapshot(town) == before, name


class Functions:
    """The functions of the public schema, each as calls that ask for what is Bob's."""

    def __init__(self, project: Project, bob: UUID) -> None:
        self.project = project
        working = project.owner.value(
            "select position_id from public.orders where user_id = %s and status <> 'filled'", bob
        )
        foreign: dict[str, list[object]] = {
            f"p_{name}": [project.owner.value(query, bob)] for name, query in _ANOTHERS.items()
        }
        more: dict[str, list[object]] = {
            "p_position_id": [foreign["p_position_id"][0], working],
            "p_user_id": [bob, None],
            "p_mode": [*MODES],
            "p_close_positions": [True, False],
            "p_reason": ["no reason"],
        }
        self.values = foreign | more

    def of(self, role: str, *, allowed: bool) -> Iterator[tuple[str, sql.Composed]]:
        """Every call that a role may make, or may not."""
        for name, arguments, types in self.project.owner.rows(
            "select proname::text, coalesce(proargnames[:pronargs], '{}'),"
            " array(select format_type(type, null) from unnest(proargtypes) with ordinality as one (type, place)"
            " order by place) from pg_proc where pronamespace = 'public'::regnamespace and prokind = 'f'"
            " and has_function_privilege(%s, oid, 'execute') = %s",
            role,
            allowed,
        ):
            if allowed:
                assert set(arguments) <= set(self.values), f"{name}: say what of another's it may be asked for"
            choices = [self.values.get(argument, [None]) for argument in arguments]
            for values in product(*choices):
                written = sql.SQL(", ").join(
                    sql.SQL("{} => {}::{}").format(sql.Identifier(argument), value, sql.SQL(type_))
                    for argument, value, type_ in zip(arguments, values, types, strict=True)
                )
                yield name, sql.SQL("select public.{}({})").format(sql.Identifier(name), written)


@pytest.mark.parametrize("role", ROLES)
def test_functions_of_the_worker_and_the_operator_answer_no_user(
    town: Project, alice: UUID, bob: UUID, role: str
) -> None:
    client, before, tried = town.client(role, alice), snapshot(town), set[str]()
    for name, call in Functions(town, bob).of(role, allowed=False):
        with pytest.raises(errors.InsufficientPrivilege, match=f"permission denied for function {name}"):
            client.rows(call)
        tried.add(name)
    assert len(tried) > 25
    assert snapshot(town) == before


@pytest.mark.parametrize("stopped", [True, False], ids=["everybody stopped", "nobody stopped"])
def test_functions_of_users_change_nothing_that_is_anothers(
    town: Project, alice: UUID, bob: UUID, stopped: bool
) -> None:
    if not stopped:
        town.service().call("clear_system_stop")
    client, before, tried = town.user(alice), snapshot(town, without=alice), set[str]()
    for name, call in Functions(town, bob).of("authenticated", allowed=True):
        with suppress(errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState):
            client.rows(call)
        tried.add(name)
        assert snapshot(town, without=alice) == before, name
    assert {"emergency_stop", "resume_trading", "set_trader_mode"} <= tried
    assert list(Functions(town, bob).of("anon", allowed=True)) == []


def test_a_token_without_a_user_opens_nothing(town: Project, bob: UUID) -> None:
    before = snapshot(town)
    for _, call in Functions(town, bob).of("authenticated", allowed=True):
        with pytest.raises(errors.InsufficientPrivilege):
            town.client("authenticated").rows(call)
    assert snapshot(town) == before


def test_nothing_that_can_be_read_names_anything_of_anothers(town: Project, alice: UUID, bob: UUID) -> None:
    owned = (
        "traders",
        "signals",
        "positions",
        "orders",
        "trades",
        "risk_limits",
        "paper_balances",
        "exchange_accounts",
    )
    secrets = {str(bob)}
    for table in owned:
        query = sql.SQL("select id::text from {} where user_id = %s").format(sql.Identifier("public", table))
        secrets.update(town.owner.column(query, bob))
    client, read = town.user(alice), set[str]()
    for relation in relations(town):
        query = sql.SQL("select to_jsonb(one)::text from {} as one").format(sql.Identifier("public", relation))
        with suppress(errors.InsufficientPrivilege):
            rows = client.column(query)
            assert rows, relation
            assert not [row for row in rows if any(secret in row for secret in secrets)], relation
            read.add(relation)
    assert {"execution_timeline", "trader_performance", "positions", "risk_limits"} <= read


def test_every_view_reads_under_its_readers_rights(project: Project) -> None:
    views = project.owner.rows(
        "select relname::text, coalesce('security_invoker=true' = any (reloptions), false) from pg_class"
        " where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')"
    )
    assert [name for name, invoker in views if not invoker] == []
    assert len(views) >= 2


EVASIONS: dict[str, tuple[LiteralString, ...]] = {
    "asking": ("select public.resume_trading()", "select public.resume_trading()"),
    "pausing in its place": ("select public.pause_trading('mine')", "select public.resume_trading()"),
    "stopping in its place": ("select public.emergency_stop(null, true)", "select public.resume_trading()"),
    "stopping oneself by name": ("select public.emergency_stop(%(alice)s)", "select public.resume_trading()"),
    "lifting the stop of everybody": ("select public.clear_system_stop()", "select public.resume_trading()"),
    "another row of limits": ("insert into public.risk_limits (user_id) values (%(alice)s)",),
    "an upsert of limits": (
        "insert into public.risk_limits (user_id, max_open_positions) values (%(alice)s, 99)"
        " on conflict (user_id, trader_id) do update set max_open_positions = 99",
    ),
    "limits made anew": (
        "delete from public.risk_limits where user_id = %(alice)s",
        "insert into public.risk_limits (user_id) values (%(alice)s)",
    ),
    "no limits": (
        "update public.risk_limits set daily_loss_limit_usdt = null, daily_loss_limit_percent = null,"
        " max_drawdown_percent = null, max_total_exposure_usdt = null, max_position_size_usdt = null",
    ),
    "higher limits": (
        "update public.risk_limits set daily_loss_limit_usdt = 1000000, max_drawdown_percent = 100"
        " where user_id = %(alice)s",
    ),
    "limits of the trader's own": (
        "insert into public.risk_limits (user_id, trader_id, daily_loss_limit_usdt, max_drawdown_percent)"
        " values (%(alice)s, %(trader)s, 1000000, 100)",
    ),
    "another trader": ("insert into public.traders (user_id, name) values (%(alice)s, 'another')",),
    "another trader with limits": (
        "insert into public.traders (user_id, name) values (%(alice)s, 'another')",
        "insert into public.risk_limits (user_id, trader_id, daily_loss_limit_usdt)"
        " select user_id, id, 1000000 from public.traders where name = 'another'",
    ),
    "the trader off and on": (
        "update public.traders set enabled = false",
        "update public.traders set enabled = true, name = 'renamed'",
    ),
    "another mode": ("select public.set_trader_mode(%(trader)s, 'testnet')",),
    "another mode and back": (
        "select public.set_trader_mode(%(trader)s, 'testnet')",
        "select public.set_trader_mode(%(trader)s, 'paper')",
    ),
}
PAUSES = ("operator", "everybody", "daily_loss_limit", "drawdown_limit")
LIFTED_BY_ASKING = ("daily_loss_limit", "drawdown_limit")


def pause(project: Project, worker: Worker, alice: UUID, plan: dict[str, str], how: str) -> None:
    if how == "daily_loss_limit":
        project.limit(alice, None, daily_loss_limit_usdt=20)
    if how == "drawdown_limit":
        project.limit(alice, None, max_drawdown_percent="0.2", daily_loss_limit_usdt=1000)
    for price in ("100", "70", "70"):
        mark(worker, plan, price)
    if how == "operator":
        project.service().call("emergency_stop", p_user_id=alice)
    if how == "everybody":
        project.service().call("emergency_stop")


def paused_now(project: Project, alice: UUID) -> tuple[Any, ...]:
    return project.owner.rows(
        "select trading_paused, paused_by, paused_rule, pause_reason, paused_at, stopped, stop_reason, stopped_at"
        " from public.risk_limits, public.system_state where user_id = %s and trader_id is null",
        alice,
    )[0]


def codes(project: Project, worker: Worker, alice: UUID) -> set[str]:
    """What becomes of a signal for each trader that Alice has."""
    traders = project.owner.column("select id from public.traders where user_id = %s", alice)
    return {outcome(project, worker, project.signal(alice, trader_id, symbol="SOL/USDT")) for trader_id in traders}


@pytest.mark.parametrize(
    ("how", "evasion"),
    [
        (how, evasion)
        for how, (evasion, steps) in product(PAUSES, EVASIONS.items())
        # What is paused by a limit goes on when its user asks for it.
        if how not in LIFTED_BY_ASKING or "select public.resume_trading()" not in steps
    ],
)
def test_a_pause_holds_against(project: Project, alice: UUID, how: str, evasion: str) -> None:
    worker, trader_id = project.worker(*MODES), project.trader(alice)
    with_keys(project, alice, "testnet")
    project.limit(alice, None, **ENOUGH | {"daily_loss_limit_usdt": 1000})
    pause(project, worker, alice, project.open_position(worker, alice, trader_id), how)
    before, user = paused_now(project, alice), project.user(alice)
    assert before[0] or before[5]
    for step in EVASIONS[evasion]:
        with suppress(errors.InsufficientPrivilege, errors.UniqueViolation):
            user.connection.execute(step, {"alice": alice, "trader": trader_id})
    if evasion == "another mode":
        assert project.owner.value("select mode from public.traders") == "testnet"
    after = paused_now(project, alice)
    if how == "everybody":  # her own pause is hers to make and to lift beneath it
        assert after[5:] == before[5:]
    else:
        assert after == before
    expected = how if how in LIFTED_BY_ASKING else "trading_paused"
    assert codes(project, worker, alice) == {expected}


@pytest.mark.parametrize("limit", LIFTED_BY_ASKING)
def test_a_pause_of_ones_own_in_place_of_a_limits_is_a_pause(project: Project, alice: UUID, limit: str) -> None:
    worker, trader_id = project.worker(), project.trader(alice)
    project.limit(alice, None, daily_loss_limit_usdt=1000)
    pause(project, worker, alice, project.open_position(worker, alice, trader_id), limit)
    project.user(alice).call("pause_trading")
    project.owner.execute("update public.risk_limits set paused_at = paused_at - interval '1 day'")
    worker.call("worker_heartbeat")
    assert paused_now(project, alice)[0] is True
    assert codes(project, worker, alice) <= {"trading_paused", limit}


@pytest.mark.parametrize("first", ["operator", "daily_loss_limit"])
def test_a_new_day_lifts_no_pause_of_the_operator(project: Project, alice: UUID, first: str) -> None:
    worker, trader_id = project.worker(), project.trader(alice)
    project.limit(alice, None, daily_loss_limit_usdt=20)
    plan = project.open_position(worker, alice, trader_id)
    for how in (first, "operator", "daily_loss_limit"):
        pause(project, worker, alice, plan, how)
    assert paused_now(project, alice)[:3] == (True, "operator", None)
    mark(worker, plan, "100")
    project.owner.execute("update public.risk_limits set paused_at = paused_at - interval '2 days'")
    worker.call("worker_heartbeat")
    assert paused_now(project, alice)[:3] == (True, "operator", None)
    assert codes(project, worker, alice) == {"trading_paused"}


def test_whoever_is_stopped_before_their_first_trader_stays_so(project: Project, alice: UUID) -> None:
    project.service().call("emergency_stop", p_user_id=alice)
    before, worker, user = paused_now(project, alice), project.worker(), project.user(alice)
    user.execute("insert into public.traders (user_id, name) values (%s, 'first')", alice)
    with pytest.raises(errors.InsufficientPrivilege, match="operator"):
        user.call("resume_trading")
    assert paused_now(project, alice) == before
    assert codes(project, worker, alice) == {"trading_paused"}


@pytest.mark.parametrize("before", ["resume_trading", "pause_trading", "emergency_stop"])
def test_a_trader_that_the_operator_paused_stays_so_though_its_user_resumes(
    project: Project, alice: UUID, before: str
) -> None:
    worker, trader_id, user = project.worker(), project.trader(alice), project.user(alice)
    project.limit(alice, trader_id, trading_paused=True, paused_by="operator")
    user.call(before)
    user.call("resume_trading")
    assert codes(project, worker, alice) == {"trading_paused"}


@pytest.mark.parametrize("value", ["0", "1e-16383", "1e12", "1e20", "9e131071"])
@pytest.mark.parametrize("limit", sorted(LIMITS - {"one_position_per_symbol", "require_stop_loss"}))
def test_no_limit_of_ones_own_keeps_others_from_trading(
    project: Project, alice: UUID, bob: UUID, limit: str, value: str
) -> None:
    worker, traders = project.worker(), {user_id: project.trader(user_id) for user_id in (alice, bob)}
    plans = {user_id: project.open_position(worker, user_id, trader_id) for user_id, trader_id in traders.items()}
    for plan in plans.values():
        mark(worker, plan, "100")
    column = sql.Identifier(limit)
    with suppress(errors.CheckViolation, errors.NumericValueOutOfRange):
        project.user(alice).execute(
            sql.SQL("update public.risk_limits set {} = %s::numeric").format(column), Decimal(value)
        )
    signals = {user_id: project.signal(user_id, trader_id) for user_id, trader_id in traders.items()}
    assert signals[bob] in worker.claimed()
    worker.call("worker_heartbeat")
    worker.call("write_marks", p_marks=[{"position_id": plan["position_id"], "price": "99"} for plan in plans.values()])
    assert worker.admit(signals[bob], worker.plan(worker.brief(signals[bob])))["outcome"] == "admitted"
    assert project.signal_row(signals[alice])["status"] in ("ready", "rejected")


@pytest.mark.parametrize(
    "details",
    [
        '{"quantity": 1e131071}',
        '{"quantity": {"more": 1e131071}}',
        '{"quantity": [1e5000]}',
        '{"quantity": ' + "[" * 1010 + "]" * 1010 + "}",
        '["quantity"]',
        '"quantity"',
    ],
    ids=["a long number", "a long number further in", "a long number in a list", "a deep list", "a list", "a text"],
)
def test_nothing_asked_of_ones_own_position_keeps_others_from_being_read(
    project: Project, alice: UUID, bob: UUID, details: str
) -> None:
    worker = project.worker()
    plans = {user_id: project.open_position(worker, user_id, project.trader(user_id)) for user_id in (alice, bob)}
    with suppress(errors.CheckViolation, errors.NumericValueOutOfRange):
        project.user(alice).execute(
            "insert into public.position_actions (position_id, action, details) values (%s, 'reduce', %s::jsonb)",
            plans[alice]["position_id"],
            details,
        )
    project.user(bob).execute(
        "insert into public.position_actions (position_id, action) values (%s, 'close')", plans[bob]["position_id"]
    )
    for asked in (True, False):
        found = worker.call("held_positions", p_asked=asked)["positions"]
        assert plans[bob]["position_id"] in {held["position"]["id"] for held in found}


READY: dict[str, object] = {"keys": True, "shown": True, "error": None, "active": True, **ENOUGH}
LACKING: dict[str, dict[str, object]] = {
    "no keys at all": {"keys": False, "shown": False},
    "keys that are shown and not there": {"keys": False},
    "keys that are there and not shown": {"shown": False},
    "keys that the exchange refuses": {"error": "-2015 Invalid API-key, IP, or permissions for action."},
    "an empty error": {"error": ""},
    "keys taken back": {"active": False},
    "no limit on a position": {"max_position_size_usdt": None},
    "no limit on exposure": {"max_total_exposure_usdt": None},
    "no limit on a day's loss": {"daily_loss_limit_usdt": None},
    "no limit but on a loss": {"max_position_size_usdt": None, "max_total_exposure_usdt": None},
}


def equip(project: Project, user_id: UUID, mode: str, given: dict[str, object]) -> None:
    """Keys and limits, as far as they are given."""
    if given["keys"]:
        project.keys(user_id, mode)
    if given["shown"]:
        project.owner.execute(
            "insert into public.exchange_accounts (user_id, mode, error, is_active) values (%s, %s, %s, %s)",
            user_id,
            mode,
            given["error"],
            given["active"],
        )
    project.limit(user_id, None, **{name: given[name] for name in ENOUGH})


def turned_away(project: Project, alice: UUID, trader_id: UUID, mode: str | None) -> bool:
    """Whether Alice's wish leaves everything as it was."""
    before = snapshot(project)
    try:
        project.user(alice).call("set_trader_mode", p_trader_id=trader_id, p_mode=mode)
    except (errors.ObjectNotInPrerequisiteState, errors.InvalidParameterValue, errors.InsufficientPrivilege):
        assert snapshot(project) == before
        return True
    return False


@pytest.mark.parametrize("mode", ["testnet", "live"])
@pytest.mark.parametrize("lacking", LACKING.values(), ids=LACKING)
def test_no_trader_goes_to_the_exchange_with(
    project: Project, alice: UUID, bob: UUID, mode: str, lacking: dict[str, object]
) -> None:
    trader_id, other_mode = project.trader(alice), {"testnet": "live", "live": "testnet"}[mode]
    project.trader(bob)
    equip(project, alice, mode, READY | lacking)
    # What is lacking is not had from the other mode, from another user, or from the trader's own limits.
    equip(project, alice, other_mode, READY | {name: (READY | lacking)[name] for name in ENOUGH})
    equip(project, bob, mode, READY)
    project.limit(alice, trader_id, **ENOUGH)
    assert turned_away(project, alice, trader_id, mode)


@pytest.mark.parametrize("mode", ["testnet", "live"])
@pytest.mark.parametrize("instead", ["max_position_size_percent", "daily_loss_limit_percent"])
def test_a_trader_goes_to_the_exchange_with_keys_and_limits_in_either_unit(
    project: Project, alice: UUID, mode: str, instead: str
) -> None:
    trader_id = project.trader(alice)
    equip(project, alice, mode, READY | {instead.replace("percent", "usdt"): None})
    assert turned_away(project, alice, trader_id, mode)
    project.limit(alice, None, **{instead: 5})
    assert not turned_away(project, alice, trader_id, mode)
    assert project.owner.value("select mode from public.traders where id = %s", trader_id) == mode


@pytest.mark.parametrize("mode", [None, "", "LIVE", " live", "live ", "margin"])
def test_no_other_spelling_of_a_mode_is_one(project: Project, alice: UUID, mode: str | None) -> None:
    trader_id = project.trader(alice)
    equip(project, alice, "live", READY)
    assert turned_away(project, alice, trader_id, mode)


@pytest.mark.parametrize("mode", MODES)
def test_ones_own_keys_and_limits_move_no_trader_of_anothers(
    project: Project, alice: UUID, bob: UUID, mode: str
) -> None:
    theirs = project.trader(bob, "testnet" if mode == "paper" else "paper")
    project.trader(alice)
    for user_id in (alice, bob):
        for each in ("testnet", "live"):
            equip(project, user_id, each, READY)
    assert turned_away(project, alice, theirs, mode)
    assert turned_away(project, alice, uuid4(), mode)
