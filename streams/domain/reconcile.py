"""What to do with an order whose fate is not known: left by a dead worker, or by an answer that never came."""

from __future__ import annotations

from enum import Enum

from streams.domain.errors import Rejected, Transient
from streams.domain.order import ENDED, Order, OrderReport

UNSURE = frozenset({"submitting", "unknown"})
"""States of an order that may or may not be at its venue."""


class Next(Enum):
    """The next move for an unfinished order."""

    PLACE_ANEW = "place anew"
    GIVE_UP = "give up"
    FOLLOW = "follow"
    LEAVE = "leave"


def next_move(order: Order, expired: bool) -> Next:
    """Decide from the row alone.

    A paper fill and its record are one transaction, so a paper order at `submitting` was never filled: it is
    placed anew, or given up where its signal is stale by now. Every other order is followed: what a venue knows
    of it is looked up until its fate is proven, and one that was cancelled until no late fill is to be expected.
    """
    if order.status in ENDED and order.mode == "paper":
        return Next.LEAVE
    if order.mode != "paper" or order.status not in UNSURE:
        return Next.FOLLOW
    return Next.GIVE_UP if expired else Next.PLACE_ANEW


def failed_to_place(error: Exception) -> OrderReport:
    """The report of the one attempt at a venue that did not end in an answer of its own.

    Surely refused, and surely unsent, are ends; all else is unknown, and is looked up.
    """
    match error:
        case Rejected():
            return OrderReport("failed", failure_code=error.code, failure_reason=error.reason)
        case Transient():
            return OrderReport("failed", failure_code="venue_unavailable", failure_reason=f"Not placed: {error}.")
        case _:
            return OrderReport("unknown")


def proven_absent(order: Order, venue_ms: int, margin_ms: int) -> bool:
    """Whether "not found" is proof by now that the order was never accepted.

    Binance executes a signed request within its receive window, and takes 10 s at most over it (its API's
    time-out); the margin covers that and more.
    """
    return order.status in UNSURE and _is_past(order, venue_ms, margin_ms)


def proven_gone(order: Order, venue_ms: int, margin_ms: int) -> bool:
    """Whether "not found" means by now that the venue has forgotten an order that it had: no query lags so long."""
    return order.status not in UNSURE and _is_past(order, venue_ms, margin_ms)


def _is_past(order: Order, venue_ms: int, margin_ms: int) -> bool:
    return venue_ms > order.signed_at_ms + order.recv_window_ms + margin_ms


def never_accepted() -> OrderReport:
    """The report of an order that its venue surely never accepted."""
    return OrderReport(
        "failed",
        failure_code="entry_not_accepted",
        failure_reason="The exchange never accepted the order, and its time to do so is over.",
    )


def never_sent(reason: str) -> OrderReport:
    """The report of an order that was committed and then not sent."""
    return OrderReport("failed", failure_reason=f"Not sent: {reason}.")


def ended_bare(report: OrderReport) -> bool:
    """Whether an order has ended with nothing of it executed, as far as the report tells."""
    return report.status in ("cancelled", "expired") and not report.fills


def vanished() -> OrderReport:
    """The report of an order that its venue had and does not know any more: it was reset, or the order purged."""
    return OrderReport("cancelled", failure_reason="The exchange does not know the order any more.")


def never_placed(venue_was_out_of_reach: bool) -> OrderReport:
    """The report of a paper entry that was never filled, and why."""
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
