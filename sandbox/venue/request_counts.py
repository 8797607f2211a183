"""How often each endpoint was asked, and by whom: shows a test that a client does not storm."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["RequestCounts"]


class RequestCounts:
    """Requests as they arrive, whatever becomes of them, by endpoint and API key; an empty key is nobody's."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def count(self, endpoint: str, api_key: str) -> None:
        self._counts.setdefault(endpoint, Counter())[api_key] += 1

    def clear(self) -> None:
        self._counts.clear()

    def document(self) -> dict[str, Any]:
        """`{"requests": {"POST /api/v3/order": {apiKey: count}}}`."""
        return {"requests": {endpoint: dict(by_key) for endpoint, by_key in sorted(self._counts.items())}}
