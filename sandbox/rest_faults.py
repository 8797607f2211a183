"""Faults ordered for coming REST requests, for tests and demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PREFIX = "/rest/v1"
_KEYS = {"path", "status", "times", "after_commit", "delay_ms"}


@dataclass(slots=True)
class RestFault:
    """What happens to the next `times` requests for `path` (None: to all until cleared).

    `status` is answered instead of what PostgREST says, 0 breaks the connection without an answer, None
    leaves the answer alone. With `after_commit` the request is carried out first and then its answer lost.
    """

    path: str
    status: int | None
    times: int | None
    after_commit: bool
    delay_ms: int

    def described(self) -> dict[str, object]:
        return {
            "path": self.path,
            "status": self.status,
            "times": self.times,
            "after_commit": self.after_commit,
            "delay_ms": self.delay_ms,
        }


def fault_from(settings: object) -> RestFault:
    """Read a fault as a client ordered it.

    Raises:
        ValueError: with what is wrong.
    """
    if not isinstance(settings, dict):
        raise ValueError('an object is wanted: {"path", "status", "times", "after_commit", "delay_ms"}')
    order: dict[str, Any] = settings  # pyright: ignore[reportUnknownVariableType]
    if unknown := set(order) - _KEYS:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(_KEYS))}")
    path = order.get("path")
    if not isinstance(path, str) or not path:
        raise ValueError("path is wanted, as in /rest/v1/rpc/name, rpc/name or * for every request")
    after_commit = order.get("after_commit", False)
    if not isinstance(after_commit, bool):
        raise ValueError("after_commit is true or false")
    delay = _number(order, "delay_ms", 0, 0, 600_000) or 0
    status = _number(order, "status", None, 0, 599)
    if status is not None and 0 < status < 200:
        raise ValueError("status is from 200 to 599, or 0 to break the connection")
    if status is None and after_commit:
        status = 0
    if status is None and not delay:
        raise ValueError("status, after_commit or delay_ms is wanted: this fault would do nothing")
    times = _number(order, "times", 1, 1, 1_000_000)
    return RestFault(_inner(path), status, times, after_commit, delay)


class RestFaults:
    """The faults in force, matched in the order they were given."""

    def __init__(self) -> None:
        self._faults: list[RestFault] = []

    def add(self, fault: RestFault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def described(self) -> list[dict[str, object]]:
        return [fault.described() for fault in self._faults]

    def take(self, path: str) -> RestFault | None:
        """The fault for a request to `path`, used up once."""
        if not self._faults:
            return None
        wanted = _inner(path)
        for fault in self._faults:
            if fault.path not in ("*", wanted):
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
            return fault
        return None


def _inner(path: str) -> str:
    return path.removeprefix(_PREFIX).strip("/")


def _number(order: dict[str, Any], name: str, default: int | None, low: int, high: int) -> int | None:
    value = order.get(name, default)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} is a whole number from {low} to {high}")
    return value
