"""The demo users' keys are stored through the real functions, at the sandbox's own exchange."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sandbox.credentials import Credentials
from tests.conftest import SandboxProcess, StartSandbox
from tests.connections import HTTP
from tests.end_to_end.product import Project, User
from tests.functions import leaks


def _call(stack: SandboxProcess, name: str, body: dict[str, Any], token: str) -> httpx.Response:
    headers = {"apikey": stack.env["SUPABASE_ANON_KEY"], "Authorization": f"Bearer {token}"}
    return HTTP.post(f"{stack.url}/functions/v1/{name}", headers=headers, json=body)


def _decrypted(stack: SandboxProcess, name: str) -> dict[str, Any]:
    body = {"userId": stack.env[f"SANDBOX_USER_{name}_ID"], "exchange": "binance", "mode": "testnet"}
    return _call(stack, "decrypt-api-keys", body, stack.env["SUPABASE_SERVICE_ROLE_KEY"]).raise_for_status().json()


@pytest.mark.parametrize("name", ["A", "B"])
def test_a_worker_is_given_the_demo_users_keys(stack: SandboxProcess, name: str) -> None:
    person = Credentials.of(stack.data).people[name]
    assert stack.env[f"SANDBOX_USER_{name}_API_KEY"] == person.api_key
    assert _decrypted(stack, name) == {"apiKey": person.api_key, "secret": person.api_secret, "version": 1}


def test_the_exchange_of_the_sandbox_refuses_a_wrong_key(stack: SandboxProcess, project: Project, alice: User) -> None:
    person = Credentials.of(stack.data).people["A"]
    keys = {"exchange": "binance", "mode": "testnet", "apiKey": person.api_key}
    refused = _call(stack, "store-api-keys", {**keys, "secret": person.api_secret[::-1]}, alice.token)
    assert (refused.status_code, refused.json()["code"]) == (422, "keys_rejected")
    for mode in ("testnet", "live"):  # which has no withdrawals to tell of
        taken = _call(stack, "store-api-keys", {**keys, "mode": mode, "secret": person.api_secret}, alice.token)
        assert taken.json()["permissions"] == {"trade": True, "withdraw": None, "ip_restricted": None}


def test_an_exchange_that_is_down_is_no_wrong_key(stack: SandboxProcess, project: Project, alice: User) -> None:
    person = Credentials.of(stack.data).people["A"]
    fault = {"method": "GET", "path": "/api/v3/account", "kind": "status", "status": 503, "code": -1008, "times": 1}
    project.venue("POST", "faults", {**fault, "execute": False})
    try:
        keys = {"exchange": "binance", "mode": "testnet", "apiKey": person.api_key, "secret": person.api_secret}
        answer = _call(stack, "store-api-keys", keys, alice.token)
    finally:
        project.venue("DELETE", "faults")
    assert (answer.status_code, answer.json()["code"]) == (502, "exchange_unavailable")


def test_the_demo_secrets_are_in_no_row_log_or_argument(stack: SandboxProcess) -> None:
    credentials = Credentials.of(stack.data)
    for name in credentials.people:
        _decrypted(stack, name)
    data_keys: dict[str, str] = json.loads(credentials.data_keys)["keys"]
    secrets = {
        "service role": credentials.service_role_key,
        "JWT": credentials.jwt_secret,
        **{f"data key {version}": key for version, key in data_keys.items()},
        **{f"secret of {name}": person.api_secret for name, person in credentials.people.items()},
        **{f"key of {name}": person.api_key for name, person in credentials.people.items()},
        **{f"password of {name}": person.password for name, person in credentials.people.items()},
    }
    assert leaks.leaks(secrets, leaks.rows(stack.env["SUPABASE_DB_URL"])) == []
    assert leaks.leaks(secrets, leaks.logs(stack.data)) == []
    assert leaks.leaks(secrets, [("its own log", stack.said())]) == []
    assert leaks.leaks(secrets, leaks.arguments(stack.process.pid)) == []


def test_keys_outlive_a_restart_and_a_revoked_one_stays_revoked(start_sandbox: StartSandbox) -> None:
    first = start_sandbox("--no-fsync")
    place = {"exchange": "binance", "mode": "testnet"}
    _call(first, "revoke-api-keys", place, first.env["SANDBOX_USER_B_TOKEN"]).raise_for_status()
    kept = _decrypted(first, "A")
    assert first.end() == 0
    again = start_sandbox("--no-fsync", data=first.data)
    try:
        assert _decrypted(again, "A") == kept
        body = {**place, "userId": again.env["SANDBOX_USER_B_ID"]}
        missing = _call(again, "decrypt-api-keys", body, again.env["SUPABASE_SERVICE_ROLE_KEY"])
        assert missing.json()["code"] == "keys_missing"
        assert "warning" not in again.said()
    finally:
        again.end()
