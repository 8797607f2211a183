"""Leaves a venue alone that does not answer: however many ask, one question now and then tells when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from streams.domain.errors import Transient
from streams.ports import Clock

PASSING_FAILURES = 3
"""So many questions may find no answer, one after the other, before the others are kept back."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 2.0


class CircuitBreaker:
    """Counts questions that found no answer; any word of the venue's own, a refusal too, is an answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = 0.0
        self._open_until = 0.0

    @contextmanager
    def asking(self) -> Generator[None]:
        """Ask inside. Raises Transient, and nothing is asked, where the venue was silent a moment ago."""
        wait = self._open_until - self._clock.monotonic()
        if wait > 0:
            raise Transient(f"the exchange does not answer; it is asked again in {wait:.1f} s")
        if self._failures >= PASSING_FAILURES:
            self._hold()  # this question goes out alone
        try:
            yield
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, Transient) or getattr(error, "venue_code", None) is not None:
                self._close()
            else:
                self._fail()
            raise
        else:
            self._close()

    def _close(self) -> None:
        self._failures, self._pause, self._open_until = 0, 0.0, 0.0

    def _fail(self) -> None:
        self._failures += 1
        if self._failures == PASSING_FAILURES:
            self._hold()

    def _hold(self) -> None:
        self._pause = min(2 * self._pause or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        self._open_until = self._clock.monotonic() + self._pause
