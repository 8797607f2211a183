"""Users, sessions and refresh tokens, kept in the schema `auth` of the database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

_SCRYPT = {"n": 2**12, "r": 8, "p": 1}
_REUSE_SECONDS = 10  # a client that lost the answer may renew once more
_COLUMNS = """id::text, aud, role, email, phone, raw_app_meta_data as app_metadata,
  raw_user_meta_data as user_metadata, email_confirmed_at, confirmed_at, last_sign_in_at,
  created_at, updated_at, banned_until, deleted_at, is_anonymous"""

Row = dict[str, Any]


class UserExists(ValueError):
    """The address belongs to somebody."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A session's next refresh token."""

    user: Row
    session_id: str
    refresh_token: str


class Users:
    """The store; give it the connection URL of a role that owns the schema `auth`."""

    def __init__(self, dsn: str) -> None:
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=0,
            max_size=4,
            open=False,
            kwargs={"autocommit": True, "row_factory": dict_row},
            check=AsyncConnectionPool.check_connection,
        )

    async def start(self) -> None:
        await self._pool.open()

    async def stop(self) -> None:
        await self._pool.close(timeout=0.5)

    async def create(
        self,
        email: str,
        password: str | None,
        *,
        user_metadata: Row | None = None,
        app_metadata: Row | None = None,
        user_id: str | None = None,
    ) -> Row:
        """A new user, confirmed at once.

        Raises:
            UserExists: the address is taken.
        """
        app = {"provider": "email", "providers": ["email"], **(app_metadata or {})}
        try:
            return await self._one(
                f"""insert into auth.users (instance_id, id, aud, role, email, encrypted_password,
                      email_confirmed_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
                    values ('00000000-0000-0000-0000-000000000000', %s, 'authenticated', 'authenticated', %s, %s,
                      now(), %s, %s, now(), now())
                    returning {_COLUMNS}""",  # noqa: S608
                user_id or str(uuid.uuid4()),
                email.lower(),
                await _hashed(password),
                Jsonb(app),
                Jsonb(user_metadata or {}),
            )
        except psycopg.errors.UniqueViolation as error:
            raise UserExists(email) from error

    async def by_id(self, user_id: str) -> Row | None:
        return await self._maybe(f"select {_COLUMNS} from auth.users where id = %s", user_id)  # noqa: S608

    async def by_email(self, email: str) -> Row | None:
        return await self._maybe(
            f"select {_COLUMNS} from auth.users where email = %s",  # noqa: S608
            email.lower(),
        )

    async def page(self, number: int, size: int) -> list[Row]:
        """Users in order of creation; pages count from 1."""
        return await self._all(
            f"select {_COLUMNS} from auth.users order by created_at, id limit %s offset %s",  # noqa: S608
            size,
            (number - 1) * size,
        )

    async def change(self, user_id: str, **columns: Any) -> Row | None:
        """Set columns by the names of the API: email, password, user_metadata, app_metadata."""
        parts: list[str] = ["updated_at = now()"]
        values: list[Any] = []
        if email := columns.get("email"):
            parts.append("email = %s")
            values.append(str(email).lower())
        if password := columns.get("password"):
            parts.append("encrypted_password = %s")
            values.append(await _hashed(str(password)))
        for name in ("user", "app"):
            if (metadata := columns.get(f"{name}_metadata")) is not None:
                parts.append(f"raw_{name}_meta_data = coalesce(raw_{name}_meta_data, '{{}}') || %s")
                values.append(Jsonb(metadata))
        try:
            return await self._maybe(
                f"update auth.users set {', '.join(parts)} where id = %s returning {_COLUMNS}",  # noqa: S608
                *values,
                user_id,
            )
        except psycopg.errors.UniqueViolation as error:
            raise UserExists(str(columns["email"])) from error

    async def remove(self, user_id: str) -> bool:
        return await self._maybe("delete from auth.users where id = %s returning id", user_id) is not None

    async def with_password(self, email: str, password: str) -> Row | None:
        """The user of that address and password, or None for either being wrong."""
        query = "select id::text, encrypted_password as hashed from auth.users where email = %s"
        known = await self._maybe(query, email.lower())
        if not await _matches(password, str(known["hashed"]) if known else None) or known is None:
            return None
        return await self._maybe(
            f"update auth.users set last_sign_in_at = now() where id = %s returning {_COLUMNS}",  # noqa: S608
            known["id"],
        )

    async def open_session(self, user: Row) -> Renewal:
        session_id = str(uuid.uuid4())
        await self._run(
            "insert into auth.sessions (id, user_id, created_at, updated_at) values (%s, %s, now(), now())",
            session_id,
            user["id"],
        )
        return Renewal(user, session_id, await self._issue(user["id"], session_id, None))

    async def renew(self, refresh_token: str) -> Renewal | None:
        """Use up a refresh token; None when it is unknown, or was used and its time of grace is over."""
        used = await self._maybe(
            """update auth.refresh_tokens set revoked = true, updated_at = now()
               where token = %s and (not revoked or updated_at > now() - make_interval(secs => %s))
               returning user_id, session_id::text""",
            refresh_token,
            _REUSE_SECONDS,
        )
        user = await self.by_id(str(used["user_id"])) if used else None
        if used is None or user is None:
            return None
        session_id = str(used["session_id"])
        return Renewal(user, session_id, await self._issue(user["id"], session_id, refresh_token))

    async def has_session(self, session_id: str) -> bool:
        return await self._maybe("select id from auth.sessions where id = %s", session_id) is not None

    async def end_sessions(self, user_id: str, session_id: str, scope: str) -> None:
        """Sign out: `local` this session, `others` all but this, `global` all."""
        condition = {"local": " and id = %s", "others": " and id <> %s"}.get(scope, "")
        await self._run(
            f"delete from auth.sessions where user_id = %s{condition}",  # noqa: S608
            user_id,
            *([session_id] if condition else []),
        )

    async def _issue(self, user_id: str, session_id: str, parent: str | None) -> str:
        token = secrets.token_urlsafe(16)
        await self._run(
            """insert into auth.refresh_tokens (token, user_id, revoked, parent, session_id, created_at, updated_at)
               values (%s, %s, false, %s, %s, now(), now())""",
            token,
            user_id,
            parent,
            session_id,
        )
        return token

    async def _run(self, query: str, *values: Any) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(query.encode(), values)

    async def _all(self, query: str, *values: Any) -> list[Row]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query.encode(), values)
            return [dict(row) for row in await cursor.fetchall()]

    async def _maybe(self, query: str, *values: Any) -> Row | None:
        rows = await self._all(query, *values)
        return rows[0] if rows else None

    async def _one(self, query: str, *values: Any) -> Row:
        [row] = await self._all(query, *values)
        return row


async def _hashed(password: str | None) -> str:
    if password is None:
        return ""
    salt = secrets.token_bytes(16)
    digest = await asyncio.to_thread(_digest, password, salt)
    return f"$scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


async def _matches(password: str, hashed: str | None) -> bool:
    # An unknown address takes as long as a wrong password.
    parts = (hashed or "").split("$")
    known = len(parts) == 4
    salt = base64.b64decode(parts[2]) if known else b"nobody"
    digest = await asyncio.to_thread(_digest, password, salt)
    return known and hmac.compare_digest(digest, base64.b64decode(parts[3]))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)
