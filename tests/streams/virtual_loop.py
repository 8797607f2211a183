"""An event loop whose clock jumps to the next timer as soon as nothing is ready: minutes pass in milliseconds.

`asyncio.sleep`, `asyncio.timeout` and the Rx timers share its clock. A deadlock fails at once instead of hanging.
It knows no sockets and no threads.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on a clock of its own, which starts at zero."""

    # What the base class keeps, and does not declare.
    _scheduled: list[Any]
    _ready: Any
    _timer_cancelled_count: int

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # a cancelled timer must not be waited for
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._ready:
            if not self._scheduled:
                raise AssertionError("deadlock: nothing is ready and no timer is pending")
            self._now = max(self._now, self._scheduled[0]._when)
        super()._run_once()  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


def in_virtual_time(scenario: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a scenario; whatever the loop complains of fails it too."""

    @wraps(scenario)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            runner.run(scenario(*args, **kwargs))
            assert loop.complaints == []

    return test
