"""How a test wants the orders of a symbol to be filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.venue.fixed_point import E8

__all__ = ["FillPlan"]

_MODES = ("instant", "partial", "never")


@dataclass(frozen=True, slots=True)
class FillPlan:
    """`instant`: at once. `partial`: in `parts` equal parts, the first at once and the last after `seconds`.
    `never`: rests untouched, whatever its kind, until it is cancelled.

    `lag`: for so many seconds after an order was taken, queries know nothing of it. `late`: so many seconds after
    it was cancelled, its rest is filled all the same.
    """

    mode: str = "instant"
    parts: int = 2
    seconds: float = 1.0
    lag: float = 0.0
    late: float | None = None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> FillPlan:
        """From the control request. Raises ValueError saying what is wrong with it."""
        unknown = set(body) - {"symbol", "mode", "parts", "seconds", "lag", "late"}
        if unknown:
            raise ValueError(f"fills have no {', '.join(sorted(unknown))}")
        mode, parts = body.get("mode", "instant"), body.get("parts", 2)
        if mode not in _MODES:
            raise ValueError(f"mode is one of {', '.join(_MODES)}")
        if not isinstance(parts, int) or isinstance(parts, bool) or not 1 <= parts <= 100:
            raise ValueError("parts is a whole number from 1 to 100")
        late = body.get("late")
        return cls(
            mode,
            parts,
            _seconds(body.get("seconds", 1), "seconds"),
            _seconds(body.get("lag", 0), "lag"),
            None if late is None else _seconds(late, "late"),
        )

    def released(self, quantity: E8, elapsed_ms: int, step: E8) -> E8:
        """How much of the quantity may be filled by then."""
        due = self._parts_due(elapsed_ms)
        if due >= self.parts:
            return quantity
        part = quantity * due // self.parts
        return part - part % step

    def next_part(self, elapsed_ms: int) -> int | None:
        """When the part after those due comes, in milliseconds from the start; None after the last."""
        due = self._parts_due(elapsed_ms)
        return None if due >= self.parts else -(-due * self._span_ms // (self.parts - 1))

    def document(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "parts": self.parts,
            "seconds": self.seconds,
            "lag": self.lag,
            "late": self.late,
        }

    @property
    def _span_ms(self) -> int:
        return int(self.seconds * 1000)

    def _parts_due(self, elapsed_ms: int) -> int:
        if self.mode != "partial" or self.parts == 1 or elapsed_ms >= self._span_ms:
            return self.parts
        return elapsed_ms * (self.parts - 1) // self._span_ms + 1


def _seconds(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 3600:
        raise ValueError(f"{name} is a number from 0 to 3600")
    return float(value)
