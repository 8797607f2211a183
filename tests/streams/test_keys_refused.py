"""A key that the exchange refuses, or that is gone: what follows from it for the orders and positions there are."""

from __future__ import annotations

import pytest

from streams.domain.errors import Rejected
from streams.outcome import Failed, Monitored
from tests.domain import specimens
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import World, passed

REFUSED = Rejected("keys_rejected", "The exchange refused the key.")
TESTNET = specimens.brief(1, mode="testnet", stop_loss="90")


@in_virtual_time
async def test_an_entry_fails_for_it_and_is_not_sent_again() -> None:
    world = World(TESTNET)
    world.venue.break_next("place", REFUSED)
    await world.start()
    await passed(60)
    (failed,) = world.of(Failed)
    assert failed.position.failure_code == "keys_rejected"
    assert len(world.venue.called("place")) == 1
    await world.stop()


@in_virtual_time
async def test_a_protected_position_is_kept_all_the_same_and_nobody_is_alarmed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(TESTNET)
    await world.start()
    await passed(1)
    assert len(world.of(Monitored)) == 1
    placed, looks = len(world.venue.placed), len(world.venue.called("look_up"))
    world.venue.break_next("look_up", *[REFUSED] * 10_000)
    world.venue.tell(None)
    await passed(600)
    tries = len(world.venue.called("look_up")) - looks
    assert 5 < tries < 60
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    world.venue.forgive("look_up")
    await passed(60)
    assert len(world.venue.placed) == placed
    assert [row.status for row in world.store.positions.values()] == ["monitoring"]
    await world.stop()
