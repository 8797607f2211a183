"""How a test wants the orders of a symbol to be filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FillPlan"]

_MODES = ("instant", "partial", "never")


@dataclass(frozen=True, slots=True)
class FillPlan:
    """`instant`: at once. `partial`: in `parts` equal parts spread over `seconds`. `never`: rests untouched."""

    mode: str = "instant"
    parts: int = 2
    seconds: float = 1.0

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> FillPlan:
        """From the control request. Raises ValueError saying what is wrong with it."""
        mode, parts, seconds = body.get("mode"), body.get("parts", 2), body.get("seconds", 1)
        if mode not in _MODES:
            raise ValueError(f"mode is one of {', '.join(_MODES)}")
        if not isinstance(parts, int) or isinstance(parts, bool) or not 1 <= parts <= 100:
            raise ValueError("parts is a whole number from 1 to 100")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
            raise ValueError("seconds is a number from 0 to 3600")
        return cls(mode, parts, float(seconds))
