"""How long the Realtime server takes for what: the platform's measured waits, each of them settable."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Timing:
    """Waits in seconds; a pair is the range of a uniform choice."""

    poll: float = 0.5
    """Between two looks at the row changes while there are none."""
    system_ok: float = 0.005
    """From a join's reply to the subscription of its row changes."""
    cold: bool = False
    """Whether the server behaves as just started: subscriptions take `subscribe_cold`."""
    subscribe_cold: tuple[float, float] = (1.0, 3.0)
    resubscribe: tuple[float, float] = (1.0, 3.0)
    """From a new token to the subscription under it."""
    join_error: float = 5.0
    """Before a join is refused."""
    handshake_error: float = 2.0
    """Before a connection is refused."""

    @classmethod
    def immediate(cls) -> Timing:
        """Return a server that never waits."""
        return cls(0.0, 0.0, False, (0.0, 0.0), (0.0, 0.0), 0.0, 0.0)

    def until_subscribed(self, renewed: bool) -> float:
        """Return the wait before a channel's row changes are subscribed to."""
        if renewed:
            return random.uniform(*self.resubscribe)  # noqa: S311
        return random.uniform(*self.subscribe_cold) if self.cold else self.system_ok  # noqa: S311

    def as_settings(self) -> dict[str, object]:
        """Return what the control endpoint shows and takes, in milliseconds."""
        return {
            "poll_ms": _ms(self.poll),
            "system_ok_ms": _ms(self.system_ok),
            "resubscribe_ms": [_ms(value) for value in self.resubscribe],
            "join_error_ms": _ms(self.join_error),
            "handshake_error_ms": _ms(self.handshake_error),
            "cold": self.cold,
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
