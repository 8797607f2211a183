"""How far this worker's lease reaches: what it stamps beyond that, another worker may have to answer for."""

from __future__ import annotations

from streams.domain.errors import Transient
from streams.domain.order import Stamp
from streams.ports import Exchange, Store


class Leash:
    """Stamps requests that change something at a venue and have no row of their own, as cancels do."""

    def __init__(self, store: Store, recv_window_ms: int) -> None:
        self._store = store
        self._recv_window_ms = recv_window_ms

    def stamp(self, exchange: Exchange) -> Stamp:
        """A stamp of this moment, whose window ends within the lease. Raises Transient where it would not."""
        if self._store.now_ms() + self._recv_window_ms > self._store.lease_ends_ms():
            raise Transient("too little is left of this worker's lease to change anything at the exchange")
        venue_ms = exchange.now_ms()
        return Stamp(self._store.now_ms() if venue_ms is None else venue_ms, self._recv_window_ms)
