"""What is done again and again is done in the same moments, as often as asked and never less."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streams.aio import LoopScheduler
from streams.cadence import Cadence
from tests.streams.virtual_loop import in_virtual_time


def heard(cadence: Cadence, seconds: float) -> list[float]:
    """The moments of one stream, as they come."""
    loop, times = asyncio.get_running_loop(), list[float]()
    cadence.every(seconds).subscribe(lambda _: times.append(round(loop.time(), 3)))
    return times


@pytest.mark.parametrize(
    ("base", "asked", "gap"),
    [(2.0, 2.0, 2.0), (2.0, 2.5, 2.0), (2.0, 5.0, 4.0), (2.0, 1.0, 2.0), (0.25, 2.0, 2.0), (0.1, 2.5, 2.5)],
)
def test_it_ticks_as_often_as_asked_in_whole_numbers_of_its_own_ticks(base: float, asked: float, gap: float) -> None:
    @in_virtual_time
    async def scenario() -> None:
        times = heard(Cadence(base, LoopScheduler(asyncio.get_running_loop())), asked)
        await asyncio.sleep(10 * gap + base / 2)
        assert times == pytest.approx([gap * number for number in range(1, 11)])

    scenario()


@in_virtual_time
async def test_all_of_its_streams_tick_in_the_same_moments() -> None:
    cadence = Cadence(2.0, LoopScheduler(asyncio.get_running_loop()))
    first: Sequence[float] = heard(cadence, 2.0)
    await asyncio.sleep(3)
    later = heard(cadence, 4.0)
    await asyncio.sleep(20)
    assert later == [4, 8, 12, 16, 20]
    assert set(later) < set(first)
