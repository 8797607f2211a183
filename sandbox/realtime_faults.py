"""The ways Realtime fails on its users, to be switched on for tests and demonstrations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from sandbox.realtime_timing import Timing

PATHS = ("broadcast", "postgres_changes")
_COUNTS = ("lose", "duplicate")
_SWITCHES = ("drop", "refuse_joins", "off")
_WAITS = {"poll_ms": "poll", "system_ok_ms": "system_ok", "join_error_ms": "join_error",
          "handshake_error_ms": "handshake_error"}  # fmt: skip


@dataclass(slots=True)
class Path:
    """The faults of one way a message takes; by default there are none."""

    lose: int = 0
    """Coming messages that reach nobody."""
    duplicate: int = 0
    """Coming messages that arrive twice."""
    delay_ms: float = 0
    refuse_joins: bool = False
    off: bool = False
    _not_before: float = field(default=0.0, init=False)

    def carry(self, deliver: Callable[[], None]) -> None:
        """Deliver one message now, later, twice or never; order is kept."""
        if self.off:
            return
        if self.lose > 0:
            self.lose -= 1
            return
        times = 1
        if self.duplicate > 0:
            self.duplicate -= 1
            times = 2
        loop = asyncio.get_running_loop()
        now = loop.time()
        when = max(now + self.delay_ms / 1000, self._not_before)
        for _ in range(times):
            if when <= now:
                deliver()
            else:
                self._not_before = when
                loop.call_at(when, deliver)

    def as_settings(self) -> dict[str, object]:
        """Return what is set, with the counts that remain."""
        return {
            "lose": self.lose,
            "duplicate": self.duplicate,
            "delay_ms": self.delay_ms,
            "refuse_joins": self.refuse_joins,
            "off": self.off,
        }


class Faults:
    """The faults of both paths and the server's timing, behind one control message."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.broadcast = Path()
        self.postgres_changes = Path()

    def apply(self, settings: dict[str, object]) -> set[str]:
        """Take over the settings, all or none of them; return the paths whose sockets are to be cut.

        Raises:
            ValueError: an unknown name or a value of the wrong kind, said in one line.
        """
        checked: dict[str, dict[str, object]] = {}
        for name, value in settings.items():
            if name not in (*PATHS, "timing"):
                raise ValueError(f"{name}: unknown; use broadcast, postgres_changes or timing")
            if not isinstance(value, dict):
                raise ValueError(f"{name}: give an object of settings")
            asked = cast("dict[str, object]", value)
            for key, setting in asked.items():
                (_check_timing if name == "timing" else _check_path)(f"{name}.{key}", key, setting)
            checked[name] = asked
        cut: set[str] = set()
        for name, asked in checked.items():
            if name == "timing":
                self._set_timing(asked)
                continue
            path = self.broadcast if name == "broadcast" else self.postgres_changes
            for key, setting in asked.items():
                if key != "drop":
                    setattr(path, key, setting)
            if asked.get("drop") or asked.get("off"):
                cut.add(name)
        return cut

    def as_settings(self) -> dict[str, object]:
        """Return everything that is set."""
        return {
            "broadcast": self.broadcast.as_settings(),
            "postgres_changes": self.postgres_changes.as_settings(),
            "timing": self.timing.as_settings(),
        }

    def _set_timing(self, asked: dict[str, object]) -> None:
        for key, value in asked.items():
            if key == "cold":
                self.timing.cold = bool(value)
            elif key == "resubscribe_ms":
                low, high = cast("list[float]", value)
                self.timing.resubscribe = (low / 1000, high / 1000)
            else:
                setattr(self.timing, _WAITS[key], cast("float", value) / 1000)


def _check_path(name: str, key: str, value: object) -> None:
    if key in _COUNTS:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name}: give a count of messages, 0 or more")
    elif key in _SWITCHES:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: give true or false")
    elif key == "delay_ms":
        _check_ms(name, value)
    else:
        raise ValueError(f"{name}: unknown; use drop, lose, duplicate, delay_ms, refuse_joins or off")


def _check_timing(name: str, key: str, value: object) -> None:
    if key == "cold":
        if not isinstance(value, bool):
            raise ValueError(f"{name}: give true or false")
    elif key == "resubscribe_ms":
        pair = cast("list[object]", value) if isinstance(value, list) else []
        if len(pair) != 2:
            raise ValueError(f"{name}: give the least and the most, in milliseconds")
        for item in pair:
            _check_ms(name, item)
    elif key in _WAITS:
        _check_ms(name, value)
    else:
        raise ValueError(f"{name}: unknown; use {', '.join(_WAITS)}, resubscribe_ms or cold")


def _check_ms(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3_600_000:
        raise ValueError(f"{name}: give milliseconds from 0 to 3600000")
