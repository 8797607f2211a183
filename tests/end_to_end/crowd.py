"""Many users with a position on each of many symbols, all kept by one worker."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.connections import HTTP
from tests.end_to_end.product import Project, User, wait_until
from tests.end_to_end.testnet import join_testnet

FINE = Decimal("0.0003")
SIZE = {"position_size": {"type": "fixed", "value": "50"}}
WIDE = {"stop_loss_percent": "8", "take_profit_percent": "8"}
HELD = "select count(*) as held from positions where user_id = any (%s) and status = 'monitoring'"


@dataclass(frozen=True)
class Crowd:
    """Users by what trailing stop they trade with, in percent, and the symbols on which each has a position."""

    users: Mapping[Decimal, User]
    symbols: Sequence[str]

    @property
    def ids(self) -> list[uuid.UUID]:
        return [uuid.UUID(user.id) for user in self.users.values()]

    @property
    def size(self) -> int:
        """How many positions they have in all."""
        return len(self.users) * len(self.symbols)


def gather(
    project: Project, modes: Sequence[str], trails: Sequence[Decimal], symbols: Sequence[str], seconds: float
) -> Crowd:
    """Sign users up, one a trailing stop and in the modes by turns, and have them hold every symbol."""

    def join(number: int) -> User:
        risk = {**SIZE, **WIDE, "trailing_stop_percent": str(trails[number])}
        if modes[number % len(modes)] == "paper":
            return project.sign_up(risk)
        return join_testnet(project, risk_config=risk)

    with ThreadPoolExecutor(4) as at_once:
        users = list(at_once.map(join, range(len(trails))))
    crowd = Crowd(dict(zip(trails, users, strict=True)), symbols)
    project.signals([_signal(user, symbol) for symbol in symbols for user in users])
    wait_until(
        f"{crowd.size} positions are monitored",
        lambda: project.rows(HELD, crowd.ids)[0]["held"] == crowd.size,
        seconds,
    )
    return crowd


def _signal(user: User, symbol: str) -> dict[str, Any]:
    return {"user_id": user.id, "trader_id": user.trader_id, "symbol": symbol}


def fine_symbols(project: Project, count: int) -> Mapping[str, Decimal]:
    """Symbols whose tick is less than 0.03 % of their price, with their ticks."""
    venue = f"{project.env['EXCHANGE_BASE_URL']}/api/v3"
    listed = HTTP.get(f"{venue}/exchangeInfo").raise_for_status().json()["symbols"]
    prices = {one["symbol"]: Decimal(one["price"]) for one in HTTP.get(f"{venue}/ticker/price").json()}
    found: dict[str, Decimal] = {}
    for one in listed:
        tick = Decimal(one["filters"][0]["tickSize"])
        if one["quoteAsset"] == "USDT" and one["status"] == "TRADING" and tick / prices[one["symbol"]] < FINE:
            found[f"{one['baseAsset']}/USDT"] = tick
    return dict(list(found.items())[:count])
