"""When the request that is being answered came in, and how long a test keeps it waiting."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

__all__ = ["Arrival", "arrival"]


@dataclass(slots=True)
class Arrival:
    """`at_ns` since 1970; `held_seconds` is to pass before the request is carried out."""

    at_ns: int = field(default_factory=time.time_ns)
    held_seconds: float = 0.0


arrival: ContextVar[Arrival] = ContextVar("arrival")
"""Of the request at hand; every request has one."""
