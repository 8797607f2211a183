"""Many users with a position on each of many symbols, all kept by one worker."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

from tests.connections import HTTP
from tests.end_to_end.product import Project, User, wait_until
from tests.end_to_end.testnet import join_testnet

FINE = Decimal("0.0003")
SIZE = {"position_size": {"type": "fixed", "value": "50"}}
WIDE = {"stop_loss_percent": "8", "take_profit_percent": "8"}
HELD = "select user_id, symbol from positions where user_id = any (%s) and status = 'monitoring'"
UNDER_WAY = """
  select from signals where user_id = any (%s) and status in ('ready', 'executing')
  union all
  select from positions where user_id = any (%s) and status in ('created', 'submitting', 'open', 'closing')
"""


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
    fill_up(project, crowd, seconds)
    return crowd


def fill_up(project: Project, crowd: Crowd, seconds: float) -> None:
    """Have every user of a crowd hold every symbol; what has been sold meanwhile is bought again."""
    while missing := _missing(project, crowd):
        project.signals(
            [{"user_id": user.id, "trader_id": user.trader_id, "symbol": symbol} for user, symbol in missing]
        )
        wait_until("every signal is worked on", lambda: not project.rows(UNDER_WAY, crowd.ids, crowd.ids), seconds)


def _missing(project: Project, crowd: Crowd) -> Sequence[tuple[User, str]]:
    held = {(str(row["user_id"]), row["symbol"]) for row in project.rows(HELD, crowd.ids)}
    everything = [(user, symbol) for symbol in crowd.symbols for user in crowd.users.values()]
    return [(user, symbol) for user, symbol in everything if (user.id, symbol) not in held]


def price_now(project: Project, symbol: str) -> Decimal:
    """A symbol's best bid at the exchange."""
    asked = {"symbol": symbol.replace("/", "")}
    told = HTTP.get(f"{project.env['EXCHANGE_BASE_URL']}/api/v3/ticker/bookTicker", params=asked).raise_for_status()
    return Decimal(told.json()["bidPrice"])


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
