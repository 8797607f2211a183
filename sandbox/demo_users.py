"""The two demo users: an account, a paper trader with limits, coins at the venue, and keys to them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol

import aiohttp
import psycopg
from psycopg.types.json import Jsonb

from sandbox.auth import Auth
from sandbox.credentials import Person
from sandbox.users import Row, Users

_TOKEN_SECONDS = 30 * 86_400
_VENUE_USDT = Decimal(100_000)
_KEYS_SECONDS = 20.0
_RISK_CONFIG: dict[str, Any] = {
    "position_size": {"type": "fixed", "value": "100"},
    "stop_loss_percent": "2",
    "take_profit_percent": "4",
}


class VenueAccounts(Protocol):
    """Where accounts are opened at the venue."""

    def add_account(self, api_key: str, secret: str, balances: dict[str, Decimal]) -> None: ...


async def settle(
    name: str, person: Person, *, users: Users, auth: Auth, venue: VenueAccounts, owner_dsn: str
) -> dict[str, str]:
    """Make what is missing of one demo user and return their variables of the env file."""
    user = await users.by_email(person.email) or await users.create(person.email, person.password)
    venue.add_account(person.api_key, person.api_secret, {"USDT": _VENUE_USDT})
    session = await auth.session(await users.open_session(user), _TOKEN_SECONDS)
    values = {
        "ID": str(user["id"]),
        "EMAIL": person.email,
        "PASSWORD": person.password,
        "TOKEN": str(session["access_token"]),
        "TRADER_ID": await _trader(user, owner_dsn),
        "API_KEY": person.api_key,
    }
    return {f"SANDBOX_USER_{name}_{key}": value for key, value in values.items()}


async def lacks_keys(user_id: str, owner_dsn: str) -> bool:
    """Whether a user never stored testnet keys; False without a schema."""
    async with await psycopg.AsyncConnection.connect(owner_dsn) as connection:
        cursor = await connection.execute("select to_regclass('public.exchange_accounts') is not null")
        if await cursor.fetchone() != (True,):
            return False
        cursor = await connection.execute(
            "select from public.exchange_accounts where user_id = %s and exchange = 'binance' and mode = 'testnet'",
            (user_id,),
        )
        return await cursor.fetchone() is None


async def store_keys(url: str, anon_key: str, token: str, person: Person) -> str | None:
    """Hand a user's testnet keys over as a frontend does; the answer is why they were not taken."""
    keys = {"exchange": "binance", "mode": "testnet", "label": "Sandbox", "apiKey": person.api_key}
    timeout = aiohttp.ClientTimeout(total=_KEYS_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                f"{url}/functions/v1/store-api-keys",
                headers={"apikey": anon_key, "Authorization": f"Bearer {token}"},
                json={**keys, "secret": person.api_secret},
            ) as response,
        ):
            return None if response.status == 200 else await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"


async def _trader(user: Row, owner_dsn: str) -> str:
    """The user's first trader, made with generous limits where there is none; empty without a schema."""
    async with await psycopg.AsyncConnection.connect(owner_dsn) as connection:
        cursor = await connection.execute("select to_regclass('public.traders') is not null")
        if await cursor.fetchone() != (True,):
            return ""
        cursor = await connection.execute(
            "select id::text from public.traders where user_id = %s order by created_at, id limit 1",
            (user["id"],),
        )
        known = await cursor.fetchone()
        if known is None:
            cursor = await connection.execute(
                "insert into public.traders (user_id, name, risk_config) values (%s, %s, %s) returning id::text",
                (user["id"], "Paper trader", Jsonb(_RISK_CONFIG)),
            )
            known = await cursor.fetchone()
            await connection.execute(
                """update public.risk_limits
                   set max_position_size_usdt = 10000, max_total_exposure_usdt = 100000,
                     max_open_positions = 100, daily_loss_limit_usdt = 1000
                   where user_id = %s and trader_id is null""",
                (user["id"],),
            )
    assert known is not None
    return str(known[0])
