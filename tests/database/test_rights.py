"""Every grant in the catalogue is on the list below, and nothing on the list is missing.

The list is what a project's default privileges would spoil: they grant everything to everybody's roles.
"""

from __future__ import annotations

import pytest

from tests.database.project import Project

PLATFORM = {"public", "anon", "authenticated", "service_role"}

OWNERS_READ = {
    "account_equity", "exchange_accounts", "execution_timeline", "orders", "paper_balances", "pnl_snapshots",
    "position_actions", "position_events", "position_marks", "positions", "risk_limits", "risk_refusals", "signals",
    "trader_performance", "traders", "trades",
}  # fmt: skip
SERVICE_READS = OWNERS_READ | {"accounts", "exchange_credentials", "key_access_log", "system_state", "workers"}
SERVICE_WRITES = {"exchange_accounts", "exchange_credentials", "paper_balances", "risk_limits", "signals", "traders"}

TABLES = (
    {("authenticated", table, "SELECT") for table in OWNERS_READ}
    | {("service_role", table, "SELECT") for table in SERVICE_READS}
    | {("service_role", table, verb) for table in SERVICE_WRITES for verb in ("INSERT", "UPDATE")}
    | {("service_role", "key_access_log", "INSERT")}
    | {("service_role", table, "DELETE") for table in ("exchange_accounts", "exchange_credentials")}
)

LIMITS = {
    "daily_loss_limit_percent", "daily_loss_limit_usdt", "max_drawdown_percent", "max_open_positions",
    "max_order_size_usdt", "max_position_size_percent", "max_position_size_usdt", "max_price_deviation_percent",
    "max_stop_loss_percent", "max_total_exposure_usdt", "min_order_interval_seconds", "min_position_size_usdt",
    "one_position_per_symbol", "require_stop_loss",
}  # fmt: skip
ASKED = ("position_id", "action", "details", "reasoning", "confidence")

COLUMNS = (
    {("authenticated", "traders", column, "INSERT") for column in ("user_id", "name", "risk_config")}
    | {("authenticated", "traders", column, "UPDATE") for column in ("name", "enabled", "risk_config")}
    | {("authenticated", "risk_limits", column, "INSERT") for column in LIMITS | {"user_id", "trader_id"}}
    | {("authenticated", "risk_limits", column, "UPDATE") for column in LIMITS}
    | {(role, "position_actions", column, "INSERT") for role in ("authenticated", "service_role") for column in ASKED}
)

FUNCTIONS = {
    ("authenticated", "pause_trading"),
    ("authenticated", "resume_trading"),
    ("authenticated", "emergency_stop"),
    ("authenticated", "set_trader_mode"),
} | {
    ("service_role", function)
    for function in (
        "admit_signal", "adopt_position", "claim_signals", "clear_system_stop", "close_position", "emergency_stop",
        "end_key_access", "held_positions", "note_keys", "open_positions", "prepare_exits", "read_credentials",
        "record_exits", "record_failed_try", "record_order", "reencrypt_credentials", "refuse_signal",
        "release_accounts", "resume_position", "revoke_credentials", "send_marks", "set_trader_mode",
        "settle_action", "signal_brief", "store_credentials", "unfinished_orders", "worker_heartbeat",
        "worker_register", "worker_retire", "write_marks",
    )
}  # fmt: skip

_ACL_OF_TABLES = """
select coalesce(nullif(grant_.grantee, 0)::regrole::text, 'public'), class.relname, grant_.privilege_type
from pg_class as class, aclexplode(coalesce(class.relacl, acldefault('r', class.relowner))) as grant_
where class.relnamespace = any (array['public', 'fillstream']::regnamespace[])
  and class.relkind in ('r', 'v', 'm', 'p') and grant_.grantee <> class.relowner
"""
_ACL_OF_SEQUENCES = """
select coalesce(nullif(grant_.grantee, 0)::regrole::text, 'public'), class.relname
from pg_class as class, aclexplode(coalesce(class.relacl, acldefault('s', class.relowner))) as grant_
where class.relnamespace = any (array['public', 'fillstream']::regnamespace[])
  and class.relkind = 'S' and grant_.grantee <> class.relowner
"""
_ACL_OF_COLUMNS = """
select
  coalesce(nullif(grant_.grantee, 0)::regrole::text, 'public'), class.relname, attribute.attname,
  grant_.privilege_type
from pg_attribute as attribute
join pg_class as class on class.oid = attribute.attrelid, aclexplode(attribute.attacl) as grant_
where class.relnamespace = any (array['public', 'fillstream']::regnamespace[])
"""
_ACL_OF_FUNCTIONS = """
select coalesce(nullif(grant_.grantee, 0)::regrole::text, 'public'), function.proname
from pg_proc as function, aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) as grant_
where function.pronamespace = any (array['public', 'fillstream']::regnamespace[])
  and grant_.grantee <> function.proowner
"""


def test_tables_and_views_are_granted_as_listed(project: Project) -> None:
    assert set(project.owner.rows(_ACL_OF_TABLES)) == TABLES


def test_columns_are_granted_as_listed(project: Project) -> None:
    assert set(project.owner.rows(_ACL_OF_COLUMNS)) == COLUMNS


def test_sequences_are_granted_to_nobody(project: Project) -> None:
    assert project.owner.rows(_ACL_OF_SEQUENCES) == []


def test_functions_are_granted_as_listed(project: Project) -> None:
    assert set(project.owner.rows(_ACL_OF_FUNCTIONS)) == FUNCTIONS


def test_the_private_schema_is_open_to_nobody(project: Project) -> None:
    roles = project.owner.column(
        "select grantee::regrole::text from pg_namespace, aclexplode(nspacl)"
        " where nspname = 'fillstream' and grantee <> nspowner"
    )
    assert roles == []


def test_every_table_has_row_security(project: Project) -> None:
    bare = project.owner.column(
        "select relname from pg_class where relkind in ('r', 'p') and not relrowsecurity"
        " and relnamespace = any (array['public', 'fillstream']::regnamespace[])"
    )
    assert bare == []


def test_functions_with_their_owners_rights_fix_their_search_path(project: Project) -> None:
    loose = project.owner.column(
        "select proname from pg_proc where prosecdef"
        " and pronamespace = any (array['public', 'fillstream']::regnamespace[])"
        " and not coalesce('search_path=\"\"' = any (proconfig), false)"
    )
    assert loose == []


def test_policies_are_for_signed_in_users_alone(project: Project) -> None:
    roles = project.owner.column("select distinct unnest(roles)::text from pg_policies where schemaname = 'public'")
    assert roles == ["authenticated"]


def test_default_privileges_of_the_project_stay_as_they_were(project: Project) -> None:
    granted = project.owner.column(
        "select distinct grantee::regrole::text from pg_default_acl, aclexplode(defaclacl)"
        " where defaclrole = 'postgres'::regrole and defaclobjtype = 'r'"
    )
    assert {"anon", "authenticated", "service_role"} <= set(granted)


PUBLISHED = ["orders", "paper_balances", "position_actions", "positions", "risk_limits", "signals"]


@pytest.mark.parametrize("table", PUBLISHED)
def test_published_tables_are_told_by_their_key_and_have_no_array(project: Project, table: str) -> None:
    identity, arrays = project.owner.rows(
        "select class.relreplident, array(select attname::text from pg_attribute join pg_type on pg_type.oid = atttypid"
        " where attrelid = class.oid and attnum > 0 and not attisdropped and typcategory = 'A')"
        " from pg_class as class where class.oid = ('public.' || %s)::regclass",
        table,
    )[0]
    assert (identity, arrays) == ("d", [])


def test_exactly_the_tables_for_screens_are_published(project: Project) -> None:
    published = project.owner.column(
        "select tablename::text from pg_publication_tables where pubname = 'supabase_realtime' order by 1"
    )
    assert published == PUBLISHED
