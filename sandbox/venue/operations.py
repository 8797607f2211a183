"""A signed operation: what it is called over REST and over the websocket, what it reads, weighs and does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from sandbox.venue.accounts import Account
from sandbox.venue.parameters import Parameters

__all__ = ["Call", "Operation"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an account, its signature checked; `received_ns` is when it arrived."""

    account: Account
    sent: Parameters
    received_ns: int


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` is its method on the websocket API; `orders`, how many new orders it counts as."""

    method: str
    path: str
    name: str
    known: frozenset[str]
    weigh: Callable[[MultiMapping[str]], int]
    carry_out: Callable[[Call], Any]
    orders: int = 0
