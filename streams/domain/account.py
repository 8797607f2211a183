"""The unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Account:
    """One user in one mode, held by one live worker."""

    user_id: UUID
    mode: str
