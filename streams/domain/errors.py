"""Every failure, sorted by what to do next.

ExecutionError
 x Refused     we will not do it: a rule of ours. Expected, recorded on the row with a code and a sentence.
 x Transient   it passes, and may be tried again: nothing was placed, and whatever was written may be written again.
 x Rejected    the venue surely said no. Final.
 x Unknown     it may have reached the venue. Never sent again; settled by looking it up.
 x Broken      our bug or a corrupt row. An alarm; the item stops, the worker does not.
 x Dismissed   this worker was declared dead, or another one holds the work: drop it.
"""

from __future__ import annotations


class ExecutionError(Exception):
    """A signal or an order could not be carried one step further."""


class Refused(ExecutionError):
    """A rule refuses the signal; `code` is one of the closed list of refusal codes."""

    def __init__(
        self, code: str, reason: str, rule_value: object | None = None, limit_value: object | None = None
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.rule_value = None if rule_value is None else str(rule_value)
        self.limit_value = None if limit_value is None else str(limit_value)


class Transient(ExecutionError):
    """A failure that passes. No order was placed by it; a write may have been done, and may be repeated."""


class Rejected(ExecutionError):
    """The venue refused the order; `code` is the failure code for the position's row."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Unknown(ExecutionError):
    """The request may have been carried out; only a look-up can tell."""


class Broken(ExecutionError):
    """A row or an answer that cannot be, or a bug of ours."""


class Dismissed(ExecutionError):
    """This worker no longer holds the work, so it may change nothing about it."""
