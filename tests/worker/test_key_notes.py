"""What the exchange says of keys reaches their owner's row in the background, the last word last."""

from __future__ import annotations

import asyncio

import pytest

from streams.domain.errors import Broken, Dismissed, ExecutionError, Transient
from tests.domain import specimens
from tests.streams.fakes import FakeClock, FakeStore
from tests.streams.virtual_loop import in_virtual_time
from worker.key_notes import KeyNotes

ANNA = specimens.account(mode="testnet")
REFUSED = "The exchange refused the key."


async def _held() -> FakeStore:
    """A table in which Anna's account is this worker's."""
    store = FakeStore(FakeClock(), specimens.brief(mode="testnet"))
    await store.register(specimens.ANNA)
    await store.claim(None)
    return store


@in_virtual_time
async def test_a_note_is_written_and_holds_nobody_up() -> None:
    store = await _held()
    notes = KeyNotes(store)
    notes.note(ANNA, 1, REFUSED)
    assert store.key_errors == {}
    await asyncio.sleep(1)
    assert store.key_errors == {(ANNA, 1): REFUSED}
    notes.note(ANNA, 1, None)
    await asyncio.sleep(1)
    assert store.key_errors == {(ANNA, 1): None}


@in_virtual_time
async def test_the_last_word_is_written_last_however_slow_the_first_is() -> None:
    store = await _held()
    notes, store.latency = KeyNotes(store), 5.0
    notes.note(ANNA, 1, REFUSED)
    await asyncio.sleep(1)
    store.latency = 0.1
    notes.note(ANNA, 1, REFUSED)
    notes.note(ANNA, 1, None)
    await asyncio.sleep(10)
    assert store.key_errors == {(ANNA, 1): None}
    assert len(store.called("note_keys")) == 2


@in_virtual_time
async def test_a_late_word_on_older_keys_does_not_replace_one_on_newer() -> None:
    store = await _held()
    notes = KeyNotes(store)
    notes.note(ANNA, 2, None)
    notes.note(ANNA, 1, REFUSED)
    await asyncio.sleep(1)
    assert store.key_errors == {(ANNA, 2): None}


@pytest.mark.parametrize("error", [Transient("down"), Dismissed("another's"), Broken("odd")])
@in_virtual_time
async def test_a_note_that_fails_is_left_and_the_next_is_written(error: ExecutionError) -> None:
    store = await _held()
    notes = KeyNotes(store)
    store.break_next("note_keys", error)
    notes.note(ANNA, 1, REFUSED)
    await asyncio.sleep(1)
    assert store.key_errors == {}
    notes.note(ANNA, 1, REFUSED)
    await asyncio.sleep(1)
    assert store.key_errors == {(ANNA, 1): REFUSED}


@in_virtual_time
async def test_what_is_not_written_at_the_end_is_left() -> None:
    store = await _held()
    notes, store.latency = KeyNotes(store), 60.0
    notes.note(ANNA, 1, REFUSED)
    await asyncio.sleep(1)
    await notes.close()
    assert store.key_errors == {}
