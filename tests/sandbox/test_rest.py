"""REST as the platform answers it: real PostgREST behind the project's keys, faults to order."""

# The client's type of a row is recursive and partly unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from postgrest import APIError, CountMethod

from supabase import Client, ClientOptions, create_client
from tests.conftest import SandboxProcess

_SCHEMA = """
create table public.sandbox_notes (
  id bigint generated always as identity primary key,
  user_id uuid not null default auth.uid() references auth.users (id),
  text text not null check (text <> ''),
  price numeric
);
alter table public.sandbox_notes enable row level security;
create policy own on public.sandbox_notes using (user_id = (select auth.uid()));
create function public.sandbox_whoami() returns jsonb language sql stable as
  $$ select jsonb_build_object('role', auth.role(), 'id', auth.uid()) $$;
"""


@pytest.fixture(scope="module")
def notes(stack: SandboxProcess) -> Iterator[SandboxProcess]:
    """The shared sandbox with a table under row level security."""
    with psycopg.connect(stack.env["SUPABASE_DB_URL"]) as connection:
        connection.execute(_SCHEMA)
    # The API hears of the change by itself. It reads from a table that it has not heard of, but calls no such function.
    deadline = time.monotonic() + 10
    while httpx.post(f"{stack.url}/rest/v1/rpc/sandbox_whoami", headers=stack.headers(), json={}).status_code != 200:
        assert time.monotonic() < deadline
    yield stack
    with psycopg.connect(stack.env["SUPABASE_DB_URL"]) as connection:
        connection.execute("drop table public.sandbox_notes; drop function public.sandbox_whoami")


@contextmanager
def _client(stack: SandboxProcess, key: str = "SUPABASE_ANON_KEY", token: str | None = None) -> Generator[Client]:
    with httpx.Client() as http:
        headers = {"Authorization": f"Bearer {stack.env[token]}"} if token else {}
        options = ClientOptions(headers=headers, auto_refresh_token=False, persist_session=False, httpx_client=http)
        yield create_client(stack.url, stack.env[key], options)


def test_each_user_sees_their_own_rows(notes: SandboxProcess) -> None:
    with (
        _client(notes, token="SANDBOX_USER_A_TOKEN") as a,
        _client(notes, token="SANDBOX_USER_B_TOKEN") as b,
        _client(notes) as anon,
        _client(notes, "SUPABASE_SERVICE_ROLE_KEY") as service,
    ):
        made: Any
        [made] = a.table("sandbox_notes").insert({"text": "of A"}).execute().data
        assert made["user_id"] == notes.env["SANDBOX_USER_A_ID"]
        b.table("sandbox_notes").insert({"text": "of B"}).execute()

        def texts(client: Client) -> list[str]:
            rows: Any = client.table("sandbox_notes").select("text").order("id").execute().data
            return [row["text"] for row in rows]

        assert texts(a) == ["of A"]
        assert texts(b) == ["of B"]
        assert texts(anon) == []
        assert texts(service) == ["of A", "of B"]
        assert b.table("sandbox_notes").update({"text": "stolen"}).eq("id", made["id"]).execute().data == []
        with pytest.raises(APIError) as refused:
            b.table("sandbox_notes").insert({"text": "x", "user_id": notes.env["SANDBOX_USER_A_ID"]}).execute()
        assert refused.value.code == "42501"
        counted = service.table("sandbox_notes").select("*", count=CountMethod.exact, head=True).execute()
        assert counted.count == 2
        service.table("sandbox_notes").delete().gt("id", 0).execute()


def test_functions_know_who_calls(notes: SandboxProcess) -> None:
    with _client(notes, token="SANDBOX_USER_A_TOKEN") as a, _client(notes, "SUPABASE_SERVICE_ROLE_KEY") as service:
        assert a.rpc("sandbox_whoami").execute().data == {
            "role": "authenticated",
            "id": notes.env["SANDBOX_USER_A_ID"],
        }
        assert service.rpc("sandbox_whoami").execute().data == {"role": "service_role", "id": None}


def test_a_database_error_keeps_its_code(notes: SandboxProcess) -> None:
    with _client(notes, token="SANDBOX_USER_A_TOKEN") as a, pytest.raises(APIError) as refused:
        a.table("sandbox_notes").insert({"text": ""}).execute()
    assert refused.value.code == "23514"


def test_money_crosses_without_loss(notes: SandboxProcess) -> None:
    exact = "12345678901234567890.123456789012345678"
    with _client(notes, token="SANDBOX_USER_A_TOKEN") as a:
        a.table("sandbox_notes").insert({"text": "money", "price": exact}).execute()
        row: Any
        [row] = a.table("sandbox_notes").select("price::text").eq("text", "money").execute().data
        assert Decimal(row["price"]) == Decimal(exact)
        a.table("sandbox_notes").delete().eq("text", "money").execute()


def test_filters_reach_the_database_as_they_were_written(notes: SandboxProcess) -> None:
    with _client(notes, token="SANDBOX_USER_A_TOKEN") as a:
        text = 'a+b & "c", é/%2F'
        a.table("sandbox_notes").insert({"text": text}).execute()
        assert len(a.table("sandbox_notes").select("id").eq("text", text).execute().data) == 1
        a.table("sandbox_notes").delete().eq("text", text).execute()


@pytest.mark.parametrize("path", ["/rest/v1/", "/auth/v1/user", "/realtime/v1/api/broadcast"])
def test_a_request_needs_one_of_the_projects_keys(stack: SandboxProcess, path: str) -> None:
    ask: Callable[..., httpx.Response] = httpx.post if path.endswith("broadcast") else httpx.get
    missing = ask(f"{stack.url}{path}")
    assert (missing.status_code, missing.json()["message"]) == (401, "No API key found in request")
    wrong = ask(f"{stack.url}{path}", headers={"apikey": "nobodys"})
    assert (wrong.status_code, wrong.json()["message"]) == (401, "Invalid API key")


def test_the_key_may_be_in_the_address(notes: SandboxProcess) -> None:
    key = notes.env["SUPABASE_ANON_KEY"]
    answer = httpx.get(f"{notes.url}/rest/v1/sandbox_notes", params={"apikey": key, "select": "id"})
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_forged_token_is_refused(stack: SandboxProcess) -> None:
    token = stack.env["SANDBOX_USER_A_TOKEN"]
    forged = f"{token[:-4]}{'AAAA' if token[-4:] != 'AAAA' else 'BBBB'}"
    headers = {"apikey": stack.env["SUPABASE_ANON_KEY"], "Authorization": f"Bearer {forged}"}
    assert httpx.get(f"{stack.url}/rest/v1/", headers=headers).status_code == 401


def test_pages_of_other_origins_may_call(notes: SandboxProcess) -> None:
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "apikey,x-client-info",
    }
    preflight = httpx.options(f"{notes.url}/rest/v1/sandbox_notes", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "apikey,x-client-info"
    answer = httpx.get(f"{notes.url}/rest/v1/sandbox_notes", headers=notes.headers())
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    control = httpx.delete(f"{notes.url}/_control/rest", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in control.headers


def test_functions_answer_that_there_are_none(stack: SandboxProcess) -> None:
    answer = httpx.post(f"{stack.url}/functions/v1/nothing-here", headers=stack.headers())
    assert answer.status_code == 404
    assert "nothing-here" in answer.json()["message"]


@pytest.fixture
def faults(notes: SandboxProcess) -> Iterator[Callable[..., httpx.Response]]:
    """Order a fault of the shared sandbox's REST service; none is left in force."""
    control = f"{notes.url}/_control/rest"

    def order(**settings: object) -> httpx.Response:
        return httpx.post(control, json=settings)

    yield order
    httpx.delete(control).raise_for_status()


def test_a_request_fails_as_ordered_and_the_next_does_not(
    notes: SandboxProcess, faults: Callable[..., httpx.Response]
) -> None:
    assert faults(path="/rest/v1/sandbox_notes", status=503, times=1).status_code == 200
    url = f"{notes.url}/rest/v1/sandbox_notes?select=id"
    assert [httpx.get(url, headers=notes.headers()).status_code for _ in range(2)] == [503, 200]
    assert httpx.get(f"{notes.url}/_control/rest").json() == {"faults": []}


def test_an_answer_is_lost_after_the_work_was_done(
    notes: SandboxProcess, faults: Callable[..., httpx.Response]
) -> None:
    faults(path="sandbox_notes", after_commit=True)
    note = {"text": "lost", "user_id": notes.env["SANDBOX_USER_A_ID"]}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{notes.url}/rest/v1/sandbox_notes", json=note, headers=notes.headers())
    url = f"{notes.url}/rest/v1/sandbox_notes?text=eq.lost"
    assert len(httpx.get(url, headers=notes.headers()).json()) == 1
    httpx.delete(url, headers=notes.headers()).raise_for_status()


def test_a_request_lost_before_the_work_does_nothing(
    notes: SandboxProcess, faults: Callable[..., httpx.Response]
) -> None:
    faults(path="sandbox_notes", status=0)
    note = {"text": "never", "user_id": notes.env["SANDBOX_USER_A_ID"]}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{notes.url}/rest/v1/sandbox_notes", json=note, headers=notes.headers())
    url = f"{notes.url}/rest/v1/sandbox_notes?text=eq.never"
    assert httpx.get(url, headers=notes.headers()).json() == []


def test_a_delay_is_waited_and_other_paths_are_not(
    notes: SandboxProcess, faults: Callable[..., httpx.Response]
) -> None:
    faults(path="rpc/sandbox_whoami", delay_ms=300, times=None)
    began = time.monotonic()
    answer = httpx.post(f"{notes.url}/rest/v1/rpc/sandbox_whoami", headers=notes.headers())
    assert answer.status_code == 200
    assert time.monotonic() - began >= 0.3
    assert httpx.get(f"{notes.url}/_control/rest").json()["faults"][0]["times"] is None


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({}, "path is wanted"),
        ({"path": "t"}, "would do nothing"),
        ({"path": "t", "status": 99}, "status is from 200 to 599"),
        ({"path": "t", "status": "503"}, "status is a whole number"),
        ({"path": "t", "status": 503, "times": 0}, "times is a whole number"),
        ({"path": "t", "stat": 503}, "unknown: stat"),
    ],
)
def test_a_wrong_order_is_told_why(stack: SandboxProcess, order: dict[str, object], reason: str) -> None:
    answer = httpx.post(f"{stack.url}/_control/rest", json=order)
    assert answer.status_code == 400
    assert reason in answer.json()["message"]


def test_realtime_takes_its_orders_through_the_gateway(stack: SandboxProcess) -> None:
    url = f"{stack.url}/_control/realtime"
    assert httpx.post(url, json={"broadcast": {"lose": 0}}).status_code == 200
    for wrong in ({"presence": {}}, ["broadcast"]):
        assert httpx.post(url, json=wrong).status_code == 400
