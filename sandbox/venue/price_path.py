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
        self._periods = tuple(_FINEST_MS * 4**octave for octave in range(_OCTAVES))
        self._keys = tuple(draw(key, octave) for octave in range(_OCTAVES))
        # heights are uniform, so they reach the square root of 3 times their standard deviation
        self._heights = tuple(volatility * 1732 * isqrt(period * 10**6 // _DAY_MS) // 1000 for period in self._periods)
        # of each wave, the straight line last asked for: which it is, and its two ends
        self._numbers = [-1] * _OCTAVES
        self._lefts = [0] * _OCTAVES
        self._rights = [0] * _OCTAVES

    def at(self, moment_ms: int) -> int:
        """The price at that moment, in the unit of the reference, at least 1."""
        deviation = 0
        numbers, lefts, rights = self._numbers, self._lefts, self._rights
        for octave, period in enumerate(self._periods):
            number = moment_ms // period
            if number != numbers[octave]:
                follows = number == numbers[octave] + 1
                lefts[octave] = rights[octave] if follows else self._point(octave, number)
                rights[octave] = self._point(octave, number + 1)
                numbers[octave] = number
            left = lefts[octave]
            deviation += left + (rights[octave] - left) * (moment_ms - number * period) // period
        # ppm of volatility times the thousandths of the period's root: parts per 10^9
        return max(1, self._reference + self._reference * deviation // 10**9)

    def _point(self, octave: int, number: int) -> int:
        return (draw(self._keys[octave], number) % 2_000_001 - 1_000_000) * self._heights[octave] // 1_000_000
