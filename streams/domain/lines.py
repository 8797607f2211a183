"""Between which bids nothing has to be decided about a position: what lets thousands of prices a second cost little."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.domain.exits import TRAIL_STEP_PERCENT, trailing_level
from streams.domain.held import Held
from streams.domain.market import MarketRules
from streams.domain.money import ZERO, exact, raised_by

INFINITY = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Lines:
    """A bid at `floor` or below it, or at `ceiling` or above it, has crossed something.

    Above `peak` the trailing stop rises; at `moves_at` it has risen so far that the one at the venue is to follow.
    """

    floor: Decimal = ZERO
    ceiling: Decimal = INFINITY
    peak: Decimal = INFINITY
    moves_at: Decimal = ZERO

    def crossed(self, low: Decimal, high: Decimal) -> bool:
        """Whether any bid between these has crossed something."""
        return low <= self.floor or high >= self.ceiling

    @property
    def move_is_due(self) -> bool:
        """Whether what rests at the venue lags too far behind."""
        return self.floor >= self.moves_at


@exact
def lines_of(held: Held, rules: MarketRules, peak: Decimal | None) -> Lines:
    """The lines of a position whose highest bid so far is `peak`."""
    position, guards = held.position, held.guards
    trailing = trailing_level(position, rules, peak)
    stops = [order.stop_price for order in guards if order.purpose == "stop_loss" and order.stop_price is not None]
    targets = [order.stop_price for order in guards if order.purpose == "take_profit" and order.stop_price is not None]
    floors = [price for price in (trailing, position.stop_loss_price, *stops) if price is not None]
    ceilings = [price for price in (position.take_profit_price, *targets) if price is not None]
    return Lines(
        floor=max(floors, default=ZERO),
        ceiling=min(ceilings, default=INFINITY),
        peak=INFINITY if trailing is None else peak or ZERO,
        moves_at=raised_by(max(stops), TRAIL_STEP_PERCENT) if stops else ZERO,
    )
