"""What to do with an order that a stopped or dead worker left unfinished."""

from __future__ import annotations

from enum import Enum

from streams.domain.order import ENDED, Order, OrderReport


class Next(Enum):
    """The next move for an unfinished order."""

    PLACE_ANEW = "place anew"
    LOOK_UP = "look up"
    GIVE_UP = "give up"
    FOLLOW = "follow"
    LEAVE = "leave"


def next_move(order: Order, expired: bool) -> Next:
    """Decide from the row alone.

    A paper fill and its record are one transaction, so a paper order at `submitting` was never filled: it is
    placed anew, or given up where its signal is stale by now. At a venue, only looking it up can tell. An order
    that rests is followed.
    """
    if order.status in ENDED:
        return Next.LEAVE
    if order.status in ("submitted", "partially_filled"):
        return Next.FOLLOW
    if order.mode != "paper":
        return Next.LOOK_UP
    return Next.GIVE_UP if expired else Next.PLACE_ANEW


def never_placed(venue_was_out_of_reach: bool) -> OrderReport:
    """The report of an entry that never got to its venue, and why."""
    if venue_was_out_of_reach:
        return OrderReport(
            "failed",
            failure_code="venue_unavailable",
            failure_reason="The exchange could not be reached until the signal was too old to be traded.",
        )
    return OrderReport(
        "failed",
        failure_code="entry_not_accepted",
        failure_reason="The order was not placed before its worker stopped or lost touch; the signal is too old now.",
    )
