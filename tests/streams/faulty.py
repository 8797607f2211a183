"""A port that breaks as told."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque

from streams.domain.errors import Transient


class Faulty:
    """Counts calls of a port, and breaks them as told: before they do anything, or after."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str]] = []
        self._faults: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._lost: Counter[str] = Counter()
        self._down: set[str] = set()
        self.latency = 0.001

    def break_next(self, verb: str, *errors: Exception) -> None:
        """Raise these errors, one a call, instead of doing what is asked."""
        self._faults[verb].extend(errors)

    def forgive(self, verb: str) -> None:
        """Break no more of these calls."""
        self._faults[verb].clear()

    def lose_answer(self, verb: str, times: int = 1) -> None:
        """Do what is asked, and then say Transient."""
        self._lost[verb] += times

    def take_down(self, *verbs: str) -> None:
        """Say Transient to these verbs until brought up again."""
        self._down.update(verbs)

    def bring_up(self) -> None:
        """Answer all verbs again."""
        self._down.clear()

    def called(self, verb: str) -> list[float]:
        """When a verb was called, in seconds of the loop."""
        return [at for at, name in self.calls if name == verb]

    async def enter(self, verb: str) -> None:
        """Begin a call: it takes its time, and may break."""
        self.calls.append((asyncio.get_running_loop().time(), verb))
        await asyncio.sleep(self.latency)
        if self._faults[verb]:
            raise self._faults[verb].popleft()
        if verb in self._down:
            raise Transient(f"{verb} cannot be reached")

    async def leave(self, verb: str) -> None:
        """End a call: its answer takes its time, and may be lost."""
        await asyncio.sleep(self.latency)
        if self._lost[verb]:
            self._lost[verb] -= 1
            raise Transient(f"the answer of {verb} was lost")
