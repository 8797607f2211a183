"""A venue that does not answer is left alone, and asked by one at a time whether it is back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from ccxt.base import errors  # pyright: ignore[reportMissingTypeStubs]

from streams.domain.errors import Transient
from tests.streams.fakes import FakeClock
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import passed
from worker.adapters.ccxt_exchange.circuit_breaker import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PASSING_FAILURES,
    CircuitBreaker,
)


def refused() -> Exception:
    """A refusal as the venue words it."""
    error = errors.ExchangeError("No.")
    error.venue_code = "-2013"  # pyright: ignore[reportAttributeAccessIssue]
    return error


def asks(breaker: CircuitBreaker, error: BaseException | None = None) -> bool:
    """Whether a question is let out; it finds this answer."""
    try:
        with breaker.asking():
            if error is not None:
                raise error
    except BaseException as raised:
        return raised is error
    return True


def silent_venue() -> CircuitBreaker:
    """One that has just found no answer as often as may be."""
    breaker = CircuitBreaker(FakeClock())
    for _ in range(PASSING_FAILURES):
        assert asks(breaker, errors.ExchangeNotAvailable("503"))
    return breaker


@in_virtual_time
async def test_after_some_silence_nobody_asks_for_a_while() -> None:
    breaker = silent_venue()
    assert not asks(breaker)
    await passed(FIRST_PAUSE_SECONDS + 0.01)
    assert asks(breaker)
    assert all(asks(breaker) for _ in range(10))


@in_virtual_time
async def test_one_at_a_time_asks_less_and_less_often_while_the_silence_lasts() -> None:
    breaker = silent_venue()
    sent = 0
    for _ in range(600):
        await passed(0.1)
        sent += sum(asks(breaker, TimeoutError()) for _ in range(100))
    assert 60 / LONGEST_PAUSE_SECONDS - 2 <= sent <= 60 / LONGEST_PAUSE_SECONDS + 4


@in_virtual_time
async def test_many_that_fail_at_once_are_one_silence() -> None:
    breaker = CircuitBreaker(FakeClock())

    async def ask() -> None:
        with suppress(errors.RequestTimeout), breaker.asking():
            await asyncio.sleep(1)
            raise errors.RequestTimeout("no answer")

    await asyncio.gather(*(ask() for _ in range(100)))
    await passed(FIRST_PAUSE_SECONDS + 0.01)
    assert asks(breaker)


@pytest.mark.parametrize("answer", [None, refused(), Transient("nothing is on offer now")])
@in_virtual_time
async def test_any_answer_ends_the_count(answer: Exception | None) -> None:
    breaker = CircuitBreaker(FakeClock())
    for _ in range(5):
        for _ in range(PASSING_FAILURES - 1):
            assert asks(breaker, errors.ExchangeNotAvailable("503"))
        assert asks(breaker, answer)


@in_virtual_time
async def test_a_question_that_nobody_waits_for_says_nothing() -> None:
    breaker = CircuitBreaker(FakeClock())
    for _ in range(10 * PASSING_FAILURES):
        assert asks(breaker, asyncio.CancelledError())
