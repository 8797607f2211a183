"""The processes below one of ours, and whether they have ended."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, with its command line."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    commands: dict[int, str] = {}
    for each in found[1:]:
        with suppress(OSError):
            commands[each] = Path(f"/proc/{each}/cmdline").read_text()
    return commands


def left_after(pids: Iterable[int], seconds: float) -> list[int]:
    """Wait for processes to end; those still there after `seconds`."""
    deadline = time.monotonic() + seconds
    left: list[int] = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
                left.append(pid)
        finally:
            os.close(handle)
    return left
