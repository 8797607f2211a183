"""Where a market's price is at any moment: a mean-reverting random walk that is a pure function of time."""

from __future__ import annotations

from math import isqrt

__all__ = ["PricePath", "draw"]

_BITS = (1 << 64) - 1
_FINEST_MS = 1000
_OCTAVES = 11
_DAY_MS = 86_400_000


def draw(key: int, number: int) -> int:
    """The 64-bit random number of that number under that key; the finalizer of SplitMix64."""
    mixed = (key + number * 0x9E3779B97F4A7C15) & _BITS
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _BITS
    return mixed ^ (mixed >> 31)


class PricePath:
    """The walk of one symbol.

    It is the sum of eleven waves with random heights, from one second to twelve days long, each four times as
    long and twice as high as the one before, as the spread of a random walk grows. Any moment is had without
    the moments before it, so a market nobody looks at costs nothing, and history is there from the start.
    """

    def __init__(self, key: int, reference: int, volatility: int) -> None:
        """`reference` is the price it reverts to, `volatility` in parts per million a day."""
        self._reference = reference
        self._waves = [
            # uniform heights spread over the square root of 3 times their standard deviation
            _Wave(draw(key, octave), period, volatility * 1732 * isqrt(period * 10**6 // _DAY_MS) // 1000)
            for octave, period in ((octave, _FINEST_MS * 4**octave) for octave in range(_OCTAVES))
        ]

    def at(self, moment_ms: int) -> int:
        """The price at that moment, in the unit of the reference, at least 1."""
        deviation = 0
        for wave in self._waves:
            deviation += wave.at(moment_ms)
        # ppm of volatility times the thousandths of the period's root: parts per 10^9
        return max(1, self._reference + self._reference * deviation // 10**9)


class _Wave:
    """Random heights at even distances, joined by straight lines; remembers the line it was last asked for."""

    __slots__ = ("_height", "_key", "_left", "_number", "_period", "_right")

    def __init__(self, key: int, period_ms: int, height: int) -> None:
        self._key = key
        self._period = period_ms
        self._height = height
        self._number = -1
        self._left = self._right = 0

    def at(self, moment_ms: int) -> int:
        number, into = divmod(moment_ms, self._period)
        if number != self._number:
            self._left = self._right if number == self._number + 1 else self._point(number)
            self._right = self._point(number + 1)
            self._number = number
        return self._left + (self._right - self._left) * into // self._period

    def _point(self, number: int) -> int:
        return (draw(self._key, number) % 2_000_001 - 1_000_000) * self._height // 1_000_000
