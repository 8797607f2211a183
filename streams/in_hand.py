"""Which orders this process is working on right now, so that recovery leaves them alone."""

from __future__ import annotations

from collections import Counter
from uuid import UUID


class InHand:
    """Counts holders: an order passes from execution to the tracker without a moment in nobody's hand."""

    def __init__(self) -> None:
        self._holders: Counter[UUID] = Counter()

    def hold(self, order_id: UUID) -> None:
        """Take an order in hand."""
        self._holders[order_id] += 1

    def release(self, order_id: UUID) -> None:
        """Let go of an order held before."""
        self._holders[order_id] -= 1
        if self._holders[order_id] <= 0:
            del self._holders[order_id]

    def __contains__(self, order_id: UUID) -> bool:
        return order_id in self._holders

    def __len__(self) -> int:
        return len(self._holders)
