"""A symbol's bids as one shared stream, however many positions look at it; no price is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from streams.aio import spaced
from streams.domain.market import Quote
from streams.ports import Market

SPAN_SECONDS = 0.002
"""Quotes that come within so long are handed on together: at most so much later, and never one of them lost."""


@dataclass(frozen=True, slots=True)
class Span:
    """The bids of a short stretch of time, in their order, and the quote that it ended with."""

    bids: tuple[Decimal, ...]
    low: Decimal
    high: Decimal
    last: Quote


class Prices:
    """One subscription a symbol, held for as long as anybody looks at it."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._shared: dict[str, Observable[Span]] = {}

    def of(self, symbol: str) -> Observable[Span]:
        """The symbol's spans from now on; the first of several close ones comes at once."""
        shared = self._shared.get(symbol)
        if shared is None:
            shared = self._shared[symbol] = self._quotes(symbol).pipe(
                spaced(SPAN_SECONDS), ops.map(_span_of), ops.share()
            )
        return shared

    def _quotes(self, symbol: str) -> Observable[Quote]:
        def subscribe(observer: abc.ObserverBase[Quote], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            return Disposable(self._market.watch(symbol, observer.on_next))

        return rx.create(subscribe)


def _span_of(quotes: Sequence[Quote]) -> Span:
    bids = tuple(quote.bid for quote in quotes)
    return Span(bids, min(bids), max(bids), quotes[-1])
