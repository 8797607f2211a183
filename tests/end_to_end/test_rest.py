"""A worker with nothing to do costs next to nothing and ends at once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.product import Project, Worker, launch_worker
from tests.end_to_end.test_closing import ask, position

pytestmark = pytest.mark.alone

MOST_OF_A_CORE = 0.01
STOP_SECONDS = 3.0
SETTLE_SECONDS = 14.0
"""It looks at the table 3 and 10 s after a subscription, and streams prices for 10 s after the last look at them."""


@pytest.fixture(scope="module")
def resting(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that has traded, is subscribed, and has come to rest."""
    worker = launch_worker(project.env, tmp_path_factory.mktemp("worker") / "log")
    for line in ("broadcast", "rows"):
        worker.wait_for(f"realtime line '{line}' is up")
    user = project.sign_up()
    signal = project.signal(user)
    project.wait_for([signal])
    ask(project, user, position(project, signal)["id"], "close")  # a position that is watched is no rest
    project.wait_for([signal], "completed")
    worker.live_for(SETTLE_SECONDS)
    yield worker
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < STOP_SECONDS


@pytest.mark.parametrize("seconds", [15.0, pytest.param(60.0, marks=pytest.mark.bench)])
def test_at_rest_it_uses_a_hundredth_of_a_core_at_most(resting: Worker, seconds: float) -> None:
    used, begun = resting.cpu_seconds(), time.monotonic()
    resting.live_for(seconds)
    share = (resting.cpu_seconds() - used) / (time.monotonic() - begun)
    print(f"{share:.2%} of a core over {seconds:g} s at rest")
    assert share <= MOST_OF_A_CORE, f"{share:.2%} of a core"
