"""Auth as real clients use it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import httpx
import jwt
import pytest
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from supabase import Client, ClientOptions, create_client
from tests.conftest import SandboxProcess

_numbers = itertools.count()


@pytest.fixture
def client(stack: SandboxProcess) -> Iterator[Client]:
    with httpx.Client() as http:
        options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        yield create_client(stack.url, stack.env["SUPABASE_ANON_KEY"], options)


@pytest.fixture
def service(stack: SandboxProcess) -> Iterator[Client]:
    with httpx.Client() as http:
        options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        yield create_client(stack.url, stack.env["SUPABASE_SERVICE_ROLE_KEY"], options)


@pytest.fixture
def email() -> str:
    return f"user-{os.getpid()}-{next(_numbers)}@sandbox.example"


def test_signing_up_signs_in(client: Client, stack: SandboxProcess, email: str) -> None:
    answer = client.auth.sign_up({"email": email, "password": "long enough", "options": {"data": {"name": "Ada"}}})
    assert answer.user is not None
    assert answer.session is not None
    assert answer.user.user_metadata == {"name": "Ada"}
    claims = jwt.decode(
        answer.session.access_token,
        stack.env["SUPABASE_JWT_SECRET"],
        algorithms=["HS256"],
        audience="authenticated",
    )
    assert (claims["sub"], claims["role"], claims["email"]) == (answer.user.id, "authenticated", email)
    assert claims["exp"] - claims["iat"] == 3600
    # The client now asks in the user's name.
    assert client.table("sandbox_nothing") is not None
    assert client.auth.get_user().user.id == answer.user.id  # pyright: ignore[reportOptionalMemberAccess]


def test_a_password_signs_in_and_a_wrong_one_does_not(client: Client, stack: SandboxProcess) -> None:
    address = stack.env["SANDBOX_USER_A_EMAIL"]
    answer = client.auth.sign_in_with_password({"email": address, "password": stack.env["SANDBOX_USER_A_PASSWORD"]})
    assert answer.user is not None
    assert answer.user.id == stack.env["SANDBOX_USER_A_ID"]
    for wrong in ({"email": address, "password": "wrong"}, {"email": "x@y.example", "password": "wrong"}):
        with pytest.raises(AuthApiError) as refused:
            client.auth.sign_in_with_password({"email": wrong["email"], "password": wrong["password"]})
        assert (refused.value.code, refused.value.status) == ("invalid_credentials", 400)


def test_addresses_are_taken_once(client: Client, stack: SandboxProcess) -> None:
    with pytest.raises(AuthApiError) as refused:
        client.auth.sign_up({"email": stack.env["SANDBOX_USER_A_EMAIL"].upper(), "password": "long enough"})
    assert refused.value.code == "user_already_exists"


def test_short_passwords_and_broken_addresses_are_refused(client: Client, email: str) -> None:
    with pytest.raises(AuthWeakPasswordError) as weak:
        client.auth.sign_up({"email": email, "password": "short"})
    assert weak.value.reasons == ["length"]
    with pytest.raises(AuthApiError, match="Unable to validate email address"):
        client.auth.sign_up({"email": "no address", "password": "long enough"})


def test_a_session_is_renewed(client: Client, email: str) -> None:
    first = client.auth.sign_up({"email": email, "password": "long enough"}).session
    assert first is not None
    second = client.auth.refresh_session(first.refresh_token).session
    assert second is not None
    assert second.refresh_token != first.refresh_token
    assert second.user.id == first.user.id
    with pytest.raises(AuthApiError, match="Refresh Token Not Found"):
        client.auth.refresh_session("made up")


def test_signing_out_ends_the_session(client: Client, stack: SandboxProcess, email: str) -> None:
    session = client.auth.sign_up({"email": email, "password": "long enough"}).session
    assert session is not None
    client.auth.sign_out()
    headers = {"apikey": stack.env["SUPABASE_ANON_KEY"], "Authorization": f"Bearer {session.access_token}"}
    answer = httpx.get(f"{stack.url}/auth/v1/user", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "session_not_found")
    with pytest.raises(AuthApiError):
        client.auth.refresh_session(session.refresh_token)


def test_a_user_changes_password_and_data(client: Client, email: str) -> None:
    client.auth.sign_up({"email": email, "password": "long enough"})
    changed = client.auth.update_user({"password": "longer still", "data": {"theme": "dark"}})
    assert changed.user.user_metadata == {"theme": "dark"}
    assert client.auth.sign_in_with_password({"email": email, "password": "longer still"}).user is not None


def test_the_service_role_administers_users(service: Client, client: Client, email: str) -> None:
    made = service.auth.admin.create_user(
        {"email": email, "password": "long enough", "email_confirm": True, "user_metadata": {"plan": "pro"}}
    ).user
    assert made.user_metadata == {"plan": "pro"}
    assert client.auth.sign_in_with_password({"email": email, "password": "long enough"}).user is not None
    assert made.id in [user.id for user in service.auth.admin.list_users(per_page=1000)]
    assert service.auth.admin.get_user_by_id(made.id).user.email == email
    service.auth.admin.delete_user(made.id)
    with pytest.raises(AuthApiError) as gone:
        service.auth.admin.get_user_by_id(made.id)
    assert gone.value.code == "user_not_found"


def test_nobody_else_administers_users(client: Client) -> None:
    with pytest.raises(AuthApiError) as refused:
        client.auth.admin.list_users()
    assert (refused.value.code, refused.value.status) == ("not_admin", 403)


def test_broken_requests_are_told_so(stack: SandboxProcess) -> None:
    headers = {"apikey": stack.env["SUPABASE_ANON_KEY"]}
    garbage = httpx.post(f"{stack.url}/auth/v1/signup", content=b"{", headers=headers)
    assert (garbage.status_code, garbage.json()["error_code"]) == (400, "bad_json")
    nowhere = httpx.post(f"{stack.url}/auth/v1/factors", json={}, headers=headers)
    assert nowhere.status_code == 404
    unsigned = httpx.get(f"{stack.url}/auth/v1/user", headers=headers)
    assert unsigned.status_code == 401
