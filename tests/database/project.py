"""A migrated project with users, traders and signals as a test wants them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sandbox.postgres import Server
from tests.database.client import Client
from tests.database.trading import Worker

_TABLES = """
select format('%I.%I', schemaname, tablename) from pg_tables
where schemaname in ('public', 'fillstream') and tablename <> 'system_state'
"""


class Project:
    """One migrated database on one PostgreSQL; every test begins with no rows."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._clients: list[Client] = []
        self._owner: Client | None = None

    @property
    def owner(self) -> Client:
        """The role migrations run as, which no row security holds back."""
        if self._owner is None:
            self._owner = self._made(Client(self.server.dsn, "postgres"))
        return self._owner

    def client(self, role: str, user_id: UUID | None = None) -> Client:
        """A client as PostgREST connects it."""
        return self._made(Client(self.server.dsn_of("authenticator"), role, user_id))

    def service(self) -> Client:
        return self.client("service_role")

    def user(self, user_id: UUID) -> Client:
        return self.client("authenticated", user_id)

    def worker(self, *modes: str, lease: float = 60, max_age: float = 120, registered: bool = True) -> Worker:
        """A registered worker over a connection of its own."""
        worker = Worker(self.service(), uuid4(), modes or ("paper",))
        if registered:
            worker.register(lease, max_age)
        return worker

    def sign_up(self) -> UUID:
        """A new user."""
        user_id = uuid4()
        with psycopg.connect(self.server.superuser_dsn) as connection:
            connection.execute("insert into auth.users (id) values (%s)", (user_id,))
        return user_id

    def trader(self, user_id: UUID, mode: str = "paper", **columns: object) -> UUID:
        """A trader, with keys where its mode needs them, and the limits that a first one brings lifted."""
        if mode != "paper":
            self.keys(user_id, mode)
        trader_id = self._insert("traders", {"user_id": user_id, "name": "trend", "mode": mode} | columns)
        self.owner.execute(
            "update public.risk_limits set max_total_exposure_usdt = null, max_position_size_usdt = null"
            " where user_id = %s and trader_id is null",
            user_id,
        )
        return trader_id

    def keys(self, user_id: UUID, mode: str) -> None:
        """Have keys on file for a user, unless there are some."""
        self.owner.execute(
            "insert into public.exchange_credentials (user_id, mode, api_key_ciphertext, secret_ciphertext)"
            " values (%s, %s, 'x', 'y') on conflict do nothing",
            user_id,
            mode,
        )

    def signal(self, user_id: UUID, trader_id: UUID, **columns: object) -> UUID:
        """A signal to enter BTC/USDT at market, unless said otherwise."""
        row = {"user_id": user_id, "trader_id": trader_id, "symbol": "BTC/USDT", "decision": "enter_trade"}
        return self._insert("signals", row | columns)

    def limit(self, user_id: UUID, trader_id: UUID | None = None, /, **limits: object) -> None:
        """Set limits of the account, or of one trader."""
        self.owner.execute(
            "insert into public.risk_limits (user_id, trader_id) values (%s, %s) on conflict do nothing",
            user_id,
            trader_id,
        )
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in limits
        )
        self.owner.execute(
            sql.SQL("update public.risk_limits set {} where user_id = %s and trader_id is not distinct from %s").format(
                assignments
            ),
            *limits.values(),
            user_id,
            trader_id,
        )

    def signal_row(self, signal_id: UUID) -> dict[str, Any]:
        return self.owner.value("select to_jsonb(s) from public.signals as s where id = %s", signal_id)

    def position_row(self, position_id: object) -> dict[str, Any]:
        return self.owner.value("select to_jsonb(p) from public.positions as p where id = %s", position_id)

    def states(self, position_id: object) -> list[str]:
        """Every state of a position so far, as position_events tells it."""
        return self.owner.column(
            "select to_status from public.position_events where position_id = %s order by seq", position_id
        )

    def open_position(self, worker: Worker, user_id: UUID, trader_id: UUID, **columns: object) -> dict[str, str]:
        """A position of 100 USDT, opened the ordinary way; its plan is the answer."""
        signal_id = self.signal(user_id, trader_id, **columns)
        plan = worker.admitted(signal_id)
        worker.record(plan["order_id"], status="filled", fills=[worker.fill("t1", "100", "1", fee="0.1")])
        return plan

    def close(self) -> None:
        """Close every connection that the test opened."""
        while self._clients:
            self._clients.pop().close()

    def clean(self) -> None:
        """Empty every table."""
        with psycopg.connect(self.server.superuser_dsn, autocommit=True) as connection:
            tables = sql.SQL(", ").join(sql.SQL(row[0]) for row in connection.execute(_TABLES).fetchall())
            connection.execute(sql.SQL("truncate {}").format(tables))
            connection.execute("update public.system_state set stopped = false, stop_reason = null, stopped_at = null")
            connection.execute("truncate realtime.messages")

    def _insert(self, table: str, row: dict[str, object]) -> UUID:
        query = sql.SQL("insert into public.{} ({}) values ({}) returning id").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() for _ in row),
        )
        return self.owner.value(query, *(Jsonb(value) if isinstance(value, dict) else value for value in row.values()))

    def _made(self, client: Client) -> Client:
        self._clients.append(client)
        return client
