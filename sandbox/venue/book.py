"""What rests in a symbol's book: best prices first, exact amounts, the same for the same moment and seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sandbox.venue.fixed_point import E8, ONE
from sandbox.venue.instrument import Instrument

__all__ = ["Book", "BookMaker", "Level", "Top"]

Level = tuple[E8, E8]
"""A price and the quantity resting there."""

_LEVELS = 400
_GRID_PER_MILLION = 40  # levels lie at least 0.4 basis points apart
_TEXTURE = 1024
# thousandths of the quantity at the best price: by the bit length of a level's rank
_WEIGHTS = (1000, 1200, 1500, 2000, 2600, 3500, 5000, 7000, 9000, 12000)


@dataclass(frozen=True, slots=True)
class Top:
    """The best bid and ask; zero where that side is empty."""

    bid: E8
    bid_quantity: E8
    ask: E8
    ask_quantity: E8


@dataclass(frozen=True, slots=True)
class Book:
    """Both sides at one moment, best first; `update_id` grows with every change."""

    update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    @property
    def top(self) -> Top:
        bid, bid_quantity = self.bids[0] if self.bids else (0, 0)
        ask, ask_quantity = self.asks[0] if self.asks else (0, 0)
        return Top(bid, bid_quantity, ask, ask_quantity)


class BookMaker:
    """Quotes one symbol around a price.

    Quantities belong to prices, not to ranks, and change only with a level's distance from the best: a market
    that moves by a tick leaves most of its book as it was.
    """

    def __init__(self, instrument: Instrument, key: int) -> None:
        self._instrument = instrument
        self._texture = hashlib.shake_128(key.to_bytes(8, "big")).digest(_TEXTURE)
        self._wide = instrument.tick * 10_000 < instrument.reference

    def best(self, price: E8, moment: int) -> tuple[E8, E8]:
        """Best bid and ask around a moving price: one tick apart, or up to three where a tick is little."""
        tick = self._instrument.tick
        spread = 1 + self._texture[moment & (_TEXTURE - 1)] % 3 if self._wide else 1
        bid = max(tick, price - price % tick - spread // 2 * tick)
        return bid, bid + spread * tick

    def quantity(self, moment: int) -> E8:
        """What changes hands in the trade of that moment."""
        return self._steps(
            self._unit(self._instrument.reference) * (128 + self._texture[moment & (_TEXTURE - 1)]) // 2048
        )

    def sides(self, bid: E8, ask: E8, anchor: E8, moment: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Both sides down and up from the best prices; `anchor` is the price that value and distance go by."""
        tick = self._instrument.tick
        grid = max(tick, anchor * _GRID_PER_MILLION // 1_000_000 // tick * tick)
        unit = self._unit(anchor)
        return (
            self._side(bid, grid, -1, unit, moment * 2),
            self._side(ask, grid, 1, unit, moment * 2 + 1),
        )

    def top(self, bid: E8, ask: E8, anchor: E8, moment: int) -> Top:
        """What `sides` would have at the best prices."""
        unit = self._unit(anchor)
        return Top(bid, self._at_best(unit, moment * 2), ask, self._at_best(unit, moment * 2 + 1))

    def _at_best(self, unit: int, flicker: int) -> E8:
        return self._steps(unit * (128 + self._texture[flicker & (_TEXTURE - 1)]) // 256)

    def _side(self, best: E8, grid: E8, direction: int, unit: int, flicker: int) -> tuple[Level, ...]:
        texture, step = self._texture, self._instrument.step
        levels = [(best, self._at_best(unit, flicker))]
        # the first multiple of the grid that lies beyond the best
        place = best // grid + 1 if direction > 0 else (best - 1) // grid
        rank = 1
        while rank < _LEVELS and place > 0:
            weight = _WEIGHTS[rank.bit_length()]
            quantity = unit * weight * (128 + texture[(place * 2 + direction) & (_TEXTURE - 1)]) // 256_000
            levels.append((place * grid, max(step, quantity - quantity % step)))
            place += direction
            rank += 1
        return tuple(levels)

    def _unit(self, anchor: E8) -> E8:
        return self._instrument.liquidity * ONE // anchor

    def _steps(self, quantity: E8) -> E8:
        step = self._instrument.step
        return max(step, quantity - quantity % step)
