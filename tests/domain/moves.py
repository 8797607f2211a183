"""The moves of positions and orders as the design page promises them to everybody who reads the tables."""

from __future__ import annotations

POSITION_MOVES = {
    "created": "submitting | failed",
    "submitting": "open | failed",
    "open": "monitoring | closing",
    "monitoring": "closing",
    "closing": "closed | monitoring",
    "closed": "",
    "failed": "",
}
ORDER_MOVES = {
    "created": "submitting | cancelled",
    "submitting": "submitted | partially_filled | filled | cancelled | expired | failed | unknown",
    "unknown": "submitted | partially_filled | filled | cancelled | expired | failed",
    "submitted": "partially_filled | filled | cancelled | expired | failed",
    "partially_filled": "filled | cancelled | expired",
    "cancelled": "partially_filled | filled",
    "expired": "partially_filled | filled",
    "filled": "",
    "failed": "",
}


def read(moves: dict[str, str]) -> dict[str, frozenset[str]]:
    """The written table as sets."""
    return {state: frozenset(to.split(" | ")) - {""} for state, to in moves.items()}
