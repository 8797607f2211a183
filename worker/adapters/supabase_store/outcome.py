"""What a failed call of the database means for the next step."""

from __future__ import annotations

import httpx

from streams.domain.errors import Broken, Dismissed, ExecutionError, Transient
from supabase import PostgrestAPIError as APIError

NOT_OURS = ("FSD01", "FSD02")
"""This worker was declared dead, or the account is not held by it."""
SQLSTATE_LENGTH = 5
PASSING_CLASSES = ("08", "40", "53", "55", "57", "58")
"""SQLSTATE classes of failures that pass: connections, deadlocks, resources, locks, shutdowns, the system."""


def sort_error(error: APIError | httpx.HTTPError) -> ExecutionError:
    """Sort a failed call by what to do next."""
    if isinstance(error, httpx.HTTPError):
        return Transient(f"the database could not be reached: {type(error).__name__}: {error}")
    code = str(error.code or "")
    if code in NOT_OURS:
        return Dismissed(error.message or "the work is not this worker's any more")
    if code in ("401", "403", "42501", "PGRST301", "PGRST302") or any(
        word in str(error.message) for word in ("JWT", "API key")
    ):
        return Broken(
            f"SUPABASE_SERVICE_ROLE_KEY: the project refused it ({code} {error.message}); "
            "copy the service role's key of this project"
        )
    if code in ("PGRST202", "42883"):
        return Broken(f"SUPABASE_URL: the schema is not in this project ({error.message}); run `supabase db push`")
    if code.startswith("PGRST0") or (len(code) == SQLSTATE_LENGTH and code.startswith(PASSING_CLASSES)):
        return Transient(f"the database could not answer: {code} {error.message}")
    if code in ("408", "429") or (code.isdigit() and int(code) in range(500, 600)):
        return Transient(f"the database could not answer: {code} {error.message}")
    if not code or code == "404":
        return Broken(f"SUPABASE_URL: no Supabase project answers there ({code} {str(error.message)[:80]})")
    return Broken(f"the database refused the call: {code} {error.message}")
