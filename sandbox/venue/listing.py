"""Which symbols the venue lists: well-known ones first, then as many made-up ones as are asked for."""

from __future__ import annotations

from dataclasses import replace

from sandbox.venue.fixed_point import exact
from sandbox.venue.instrument import Instrument

__all__ = ["listing"]

_KNOWN = """
BTC  USDT 97250.00    0.01       0.00001 5      20000 4000 250
ETH  USDT 3420.00     0.01       0.0001  5      26000 3000 250
SOL  USDT 187.40      0.01       0.001   5      36000 1500 250
BNB  USDT 905.00      0.01       0.001   5      22000 1500 250
XRP  USDT 2.3150      0.0001     0.1     5      34000 1500 250
ADA  USDT 0.5820      0.0001     0.1     5      38000 700  500
DOGE USDT 0.17450     0.00001    1       1      42000 900  500
LTC  USDT 92.60       0.01       0.001   5      30000 600  500
LINK USDT 15.420      0.01       0.01    5      36000 600  500
AVAX USDT 18.750      0.01       0.01    5      38000 600  500
DOT  USDT 2.945       0.001      0.01    5      36000 400  500
TRX  USDT 0.2935      0.0001     0.1     5      18000 600  500
UNI  USDT 7.615       0.001      0.01    5      40000 350  500
ATOM USDT 2.872       0.001      0.01    5      36000 250  500
NEAR USDT 2.338       0.001      0.1     5      42000 300  500
APT  USDT 3.124       0.001      0.01    5      42000 250  500
ARB  USDT 0.2514      0.0001     0.1     5      44000 250  500
OP   USDT 0.3880      0.001      0.01    5      44000 200  500
SUI  USDT 2.1420      0.0001     0.1     5      44000 500  500
FIL  USDT 1.862       0.001      0.01    5      42000 200  500
SHIB USDT 0.00000912  0.00000001 1       1      40000 300  500
ETH  BTC  0.03517     0.00001    0.0001  0.0001 16000 0.02 500
BTC  USDC 97260.00    0.01       0.00001 5      20000 1500 500
LUNA USDT 0.1037      0.0001     0.01    5      60000 100  1000
"""
_SUSPENDED = {"LUNAUSDT"}
_SYLLABLES = tuple(consonant + vowel for consonant in "BDFGKLMNPRSTVZ" for vowel in "AEIOU")
_MAGNITUDES = ("0.00002", "0.003", "0.04", "0.5", "3", "25", "180")
_TICKS = ("0.00000001", "0.000001", "0.00001", "0.0001", "0.001", "0.01", "0.01")
_STEPS = ("1", "1", "1", "0.1", "0.1", "0.01", "0.001")


def listing(symbols: int, pace_ms: int | None = None) -> tuple[Instrument, ...]:
    """The first `symbols` of the venue's symbols, always the same; `pace_ms`, if given, is that of all their markets.

    Raises ValueError for fewer than 1 or more than 5000 symbols, and for a pace below a millisecond.
    """
    if not 1 <= symbols <= 5000:
        raise ValueError(f"{symbols} symbols cannot be listed; ask for 1 to 5000")
    if pace_ms is not None and pace_ms < 1:
        raise ValueError(f"a market cannot move every {pace_ms} ms; ask for 1 or more")
    known = [_known(line) for line in _KNOWN.strip().splitlines()]
    listed = (*known[:symbols], *(_invented(number) for number in range(symbols - len(known))))
    return listed if pace_ms is None else tuple(replace(one, pace_ms=pace_ms) for one in listed)


def _known(line: str) -> Instrument:
    base, quote, price, tick, step, min_notional, volatility, liquidity, pace_ms = line.split()
    return Instrument(
        base=base,
        quote=quote,
        tick=exact(tick),
        step=exact(step),
        reference=exact(price),
        min_notional=exact(min_notional),
        volatility=int(volatility),
        liquidity=exact(liquidity),
        pace_ms=int(pace_ms),
        status="BREAK" if base + quote in _SUSPENDED else "TRADING",
    )


def _invented(number: int) -> Instrument:
    """Named by number alone; the trailing X keeps it apart from every well-known name."""
    high, low = divmod(number, len(_SYLLABLES))
    kind = number % len(_MAGNITUDES)
    tick = exact(_TICKS[kind])
    reference = exact(_MAGNITUDES[kind]) * (100 + number * 37 % 400) // 100
    return Instrument(
        base=f"{_SYLLABLES[high % len(_SYLLABLES)]}{_SYLLABLES[low]}X",
        quote="USDT",
        tick=tick,
        step=exact(_STEPS[kind]),
        reference=reference - reference % tick,
        min_notional=exact("5"),
        volatility=30_000 + number * 611 % 40_000,
        liquidity=exact("100"),
        pace_ms=1000,
    )
