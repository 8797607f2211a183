"""What a failed call of the database means for the next step."""

from __future__ import annotations

import httpx
import pytest

from streams.domain.errors import Broken, Dismissed, ExecutionError, Transient
from supabase import PostgrestAPIError as APIError
from worker.adapters.supabase_store.outcome import sort_error

REQUEST = httpx.Request("POST", "http://127.0.0.1/rest/v1/rpc/claim_signals")


def answered(code: object, message: str = "said the database") -> ExecutionError:
    """How an answer with this code is sorted."""
    return sort_error(APIError({"code": code, "message": message, "hint": None, "details": None}))


@pytest.mark.parametrize("code", ["FSD01", "FSD02"])
def test_work_that_is_not_ours_any_more_is_dropped(code: str) -> None:
    error = answered(code, "worker 1 was declared dead")
    assert isinstance(error, Dismissed)
    assert "declared dead" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        "08006",
        "40001",
        "40P01",
        "53300",
        "55P03",
        "57014",
        "57P01",
        "58030",
        "PGRST000",
        "PGRST003",
        "500",
        "503",
        "429",
    ],
)
def test_what_passes_is_tried_again(code: str) -> None:
    assert isinstance(answered(code), Transient)


@pytest.mark.parametrize("code", ["22P02", "23505", "42P01", "P0001", "PGRST116", None])
def test_what_stays_wrong_is_an_alarm(code: str | None) -> None:
    assert isinstance(answered(code), Broken)


def test_a_request_that_is_wrong_is_an_alarm() -> None:
    assert isinstance(answered("400"), Broken)


@pytest.mark.parametrize("code", ["404", 404, "", None])
def test_an_address_where_no_project_is_names_its_setting(code: object) -> None:
    error = answered(code, "<html>Not Found</html>")
    assert isinstance(error, Broken)
    assert "SUPABASE_URL" in str(error)


@pytest.mark.parametrize("code", ["401", "403", "42501", "PGRST301"])
def test_a_key_that_is_refused_names_its_setting(code: str) -> None:
    error = answered(code)
    assert isinstance(error, Broken)
    assert "SUPABASE_SERVICE_ROLE_KEY" in str(error)


@pytest.mark.parametrize("code", ["PGRST202", "42883"])
def test_a_project_without_the_schema_says_what_to_do(code: str) -> None:
    error = answered(code)
    assert isinstance(error, Broken)
    assert "supabase db push" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused", request=REQUEST),
        httpx.ReadTimeout("slow", request=REQUEST),
        httpx.RemoteProtocolError("cut", request=REQUEST),
        httpx.PoolTimeout("busy", request=REQUEST),
    ],
)
def test_a_database_out_of_reach_is_tried_again(error: httpx.HTTPError) -> None:
    sorted_error = sort_error(error)
    assert isinstance(sorted_error, Transient)
    assert type(error).__name__ in str(sorted_error)
