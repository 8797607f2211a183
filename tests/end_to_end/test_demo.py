"""The demonstration: everything from nothing, the numbers last, and no process left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.product import wait_until
from tests.processes import descendants, left_after

END_SECONDS = 30.0
INTERRUPTED = 130


def test_it_opens_all_but_the_planted_ones_and_says_so_last(tmp_path: Path) -> None:
    demo = _demo(tmp_path, "--signals", "20", "--json")
    children = _children_of(demo)
    said, shown = demo.communicate(timeout=90)
    assert demo.returncode == 0, shown
    result = json.loads(said.splitlines()[-1])
    latency = result.pop("latency_ms")
    assert result == {"signals": 20, "opened": 18, "refused": 2}
    assert 0 < latency["p50"] <= latency["p99"]
    for reason in ("unknown_symbol", "short_not_supported"):
        assert reason in shown
    assert left_after(children, 3.0) == []


def _early(demo: subprocess.Popen[str]) -> bool:
    return bool(descendants(demo.pid))


def _late(demo: subprocess.Popen[str]) -> bool:
    return any("worker\0run" in command for command in descendants(demo.pid).values())


@pytest.mark.parametrize("moment", [_early, _late], ids=["while the stack starts", "once the worker starts"])
def test_interrupted_it_ends_in_order(tmp_path: Path, moment: Callable[[subprocess.Popen[str]], bool]) -> None:
    demo = _demo(tmp_path, "--signals", "200", "--json")
    wait_until("the moment has come", lambda: moment(demo), 60.0)
    children = descendants(demo.pid)
    demo.send_signal(signal.SIGINT)
    said, shown = demo.communicate(timeout=END_SECONDS)
    assert demo.returncode == INTERRUPTED
    assert "Traceback" not in said + shown
    assert left_after(children, 3.0) == []


def _demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "demo", *arguments],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_mind_interrupts,
    )


def _mind_interrupts() -> None:
    """As in a terminal: a shell has what it starts in the background ignore them, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _children_of(demo: subprocess.Popen[str]) -> dict[int, str]:
    """Its processes, once all of them run."""
    wait_until("the worker runs", lambda: _late(demo), 60.0)
    return descendants(demo.pid)
