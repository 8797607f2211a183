"""Users' exchange keys, from a frontend's request to a worker's, through the gateway's check and the real database."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.end_to_end.product import Project, User
from tests.functions import leaks
from tests.functions.door import Door, data_key, data_keys, open_door

FUNCTIONS = ("store-api-keys", "decrypt-api-keys", "revoke-api-keys", "rotate-api-keys")


def _refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json()["message"]
    return answer.status_code, answer.json()["code"]


def _credential(project: Project, user: User) -> dict[str, Any]:
    [row] = project.rows("select * from exchange_credentials where user_id = %s", user.id)
    return row


def _outcomes(project: Project, user: User) -> list[str]:
    return [
        row["outcome"]
        for row in project.rows("select outcome from key_access_log where user_id = %s order by id", user.id)
    ]


@pytest.fixture
def keys(door: Door) -> tuple[str, str]:
    """A new key at the exchange, and its secret."""
    return door.exchange.open_account()


def test_a_stored_key_is_what_the_worker_gets(door: Door, project: Project, alice: User, keys: tuple[str, str]) -> None:
    stored = door.store(alice.token, keys).raise_for_status().json()
    assert stored == {
        "exchange": "binance",
        "mode": "testnet",
        "label": "main",
        "permissions": {"trade": True, "withdraw": None, "ip_restricted": None},
        "version": 1,
    }
    given = door.decrypt(alice.id).raise_for_status().json()
    assert given == {"apiKey": keys[0], "secret": keys[1], "version": 1}
    assert _outcomes(project, alice) == ["decrypted"]
    [seen] = project.request("GET", "/rest/v1/exchange_accounts", alice.token).json()
    assert (seen["label"], seen["is_active"], seen["error"]) == ("main", True, None)
    assert seen["last_used_at"] is not None


def test_another_key_takes_its_place_under_the_next_version(door: Door, alice: User, keys: tuple[str, str]) -> None:
    door.store(alice.token, keys).raise_for_status()
    other = door.exchange.open_account()
    assert door.store(alice.token, other).json()["version"] == 2
    assert door.decrypt(alice.id).json() == {"apiKey": other[0], "secret": other[1], "version": 2}


def test_a_key_stored_for_one_mode_is_none_of_the_other(door: Door, alice: User, keys: tuple[str, str]) -> None:
    door.store(alice.token, keys).raise_for_status()
    assert _refusal(door.decrypt(alice.id, "live")) == (404, "keys_missing")


def test_a_wrong_key_and_one_that_can_withdraw_are_not_stored(
    door: Door, project: Project, alice: User, keys: tuple[str, str]
) -> None:
    assert _refusal(door.store(alice.token, (keys[0], keys[1][::-1]))) == (422, "keys_rejected")
    assert _refusal(door.store(alice.token, (keys[0][::-1], keys[1]))) == (422, "keys_rejected")
    door.exchange.withdrawing.add(keys[0])
    assert _refusal(door.store(alice.token, keys, "live")) == (422, "keys_can_withdraw")
    assert project.rows("select from exchange_accounts where user_id = %s", alice.id) == []


def test_a_revoked_key_is_gone_and_a_later_one_bears_a_higher_version(
    door: Door, project: Project, alice: User, bob: User, keys: tuple[str, str]
) -> None:
    for user in (alice, bob):
        door.store(user.token, keys).raise_for_status()
    place = {"exchange": "binance", "mode": "testnet"}
    for revoked in (True, False):
        answer = door.call("revoke-api-keys", {**place, "userId": bob.id}, alice.token)
        assert answer.json() == {**place, "revoked": revoked}
    assert _refusal(door.decrypt(alice.id)) == (404, "keys_missing")
    assert door.decrypt(bob.id).status_code == 200
    [seen] = project.request("GET", "/rest/v1/exchange_accounts", alice.token).json()
    assert seen["is_active"] is False
    assert door.store(alice.token, keys).json()["version"] == 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nobody_comes_in_without_a_valid_token(door: Door, project: Project, alice: User, name: str) -> None:
    secret = project.env["SUPABASE_JWT_SECRET"]
    claims = jwt.decode(alice.token, secret, algorithms=["HS256"], audience="authenticated")
    expired = jwt.encode({**claims, "exp": int(time.time()) - 1}, secret)
    forged = jwt.encode(claims, secret[::-1])
    unsigned = jwt.encode(claims, "", algorithm="none")
    for token in (None, "nonsense", expired, forged, unsigned, f"{alice.token}x"):
        answer = door.call(name, {}, token)
        assert answer.status_code == 401
        assert answer.json()["message"] in ("Missing authorization header", "Invalid JWT")


def test_each_function_is_for_its_own_callers(
    door: Door, project: Project, alice: User, bob: User, keys: tuple[str, str]
) -> None:
    door.store(alice.token, keys).raise_for_status()
    anon, service = project.env["SUPABASE_ANON_KEY"], project.env["SUPABASE_SERVICE_ROLE_KEY"]
    claims = {"role": "service_role", "iss": "supabase", "exp": int(time.time()) + 60}
    signed_alike = jwt.encode(claims, project.env["SUPABASE_JWT_SECRET"])
    for token in (anon, alice.token, bob.token, signed_alike):
        assert _refusal(door.decrypt(alice.id, token=token)) == (403, "forbidden")
        assert _refusal(door.call("rotate-api-keys", {}, token)) == (403, "forbidden")
    for token in (anon, service, signed_alike):
        assert _refusal(door.store(token, keys)) == (401, "unauthorized")
        assert _refusal(door.call("revoke-api-keys", {}, token)) == (401, "unauthorized")
    assert _outcomes(project, alice) == []
    assert door.decrypt(alice.id).status_code == 200


def test_a_user_hands_over_and_takes_back_no_keys_but_their_own(
    door: Door, project: Project, alice: User, bob: User, keys: tuple[str, str]
) -> None:
    body = {"exchange": "binance", "mode": "testnet", "apiKey": keys[0], "secret": keys[1]}
    named = {**body, "userId": alice.id, "user_id": alice.id, "p_user_id": alice.id}
    door.call("store-api-keys", named, bob.token).raise_for_status()
    assert _refusal(door.decrypt(alice.id)) == (404, "keys_missing")
    assert project.request("GET", "/rest/v1/exchange_accounts", alice.token).json() == []


def test_ciphertexts_that_were_changed_are_refused(
    door: Door, project: Project, alice: User, keys: tuple[str, str]
) -> None:
    door.store(alice.token, keys).raise_for_status()
    raw = bytearray(base64.b64decode(_credential(project, alice)["secret_ciphertext"]))
    raw[20] ^= 1
    project.rows(
        "update exchange_credentials set secret_ciphertext = %s where user_id = %s returning id",
        base64.b64encode(raw).decode(),
        alice.id,
    )
    assert _refusal(door.decrypt(alice.id)) == (422, "keys_unreadable")
    assert _outcomes(project, alice) == ["unreadable"]


def test_rows_that_were_swapped_are_refused(
    door: Door, project: Project, alice: User, bob: User, keys: tuple[str, str]
) -> None:
    for user in (alice, bob):
        door.store(user.token, keys).raise_for_status()
    mine, theirs = _credential(project, alice), _credential(project, bob)
    for row, other in ((mine, theirs), (theirs, mine)):
        project.rows(
            "update exchange_credentials set api_key_ciphertext = %s, secret_ciphertext = %s"
            " where id = %s returning id",
            other["api_key_ciphertext"],
            other["secret_ciphertext"],
            row["id"],
        )
    for user in (alice, bob):
        assert _refusal(door.decrypt(user.id)) == (422, "keys_unreadable")


def test_without_its_secret_a_function_says_so_and_tries_nothing(project: Project, alice: User, place: Path) -> None:
    with open_door(project.env, place, None) as bare:
        for answer in (
            bare.store(alice.token, bare.exchange.open_account()),
            bare.decrypt(alice.id),
            bare.call("rotate-api-keys", {}, project.env["SUPABASE_SERVICE_ROLE_KEY"]),
        ):
            assert _refusal(answer) == (500, "not_configured")
            assert "CREDENTIALS_KEYS" in answer.json()["message"]
    assert _outcomes(project, alice) == []


def test_keys_outlive_the_data_key_they_were_encrypted_with(
    door: Door, project: Project, alice: User, keys: tuple[str, str], first_key: str, place: Path
) -> None:
    door.store(alice.token, keys).raise_for_status()
    service, second = project.env["SUPABASE_SERVICE_ROLE_KEY"], data_key()
    with open_door(project.env, place, data_keys(v1=first_key, v2=second)) as both:
        given = {"apiKey": keys[0], "secret": keys[1], "version": 1}
        assert both.decrypt(alice.id).json() == given
        rotated = both.call("rotate-api-keys", {}, service).raise_for_status().json()
        assert rotated["keyVersion"] == 2
        assert rotated["reencrypted"] >= 1
        assert _credential(project, alice)["key_version"] == 2
    with open_door(project.env, place, data_keys(v2=second)) as after:
        assert after.decrypt(alice.id).json() == given
    assert _refusal(door.decrypt(alice.id)) == (500, "not_configured")  # it knows the first one alone
    assert _outcomes(project, alice) == ["decrypted", "reencrypted", "decrypted", "begun"]


def test_reads_of_one_user_are_limited(door: Door, project: Project, alice: User, bob: User) -> None:
    for user in (alice, bob):
        door.store(user.token, door.exchange.open_account()).raise_for_status()
    project.rows(
        "insert into key_access_log (user_id, exchange, mode, outcome)"
        " select %s, 'binance', 'testnet', 'decrypted' from generate_series(1, 120) returning id",
        alice.id,
    )
    assert _refusal(door.decrypt(alice.id)) == (429, "rate_limited")
    assert door.decrypt(bob.id).status_code == 200


def test_no_key_is_left_in_a_row_a_log_or_an_argument(
    door: Door, project: Project, alice: User, keys: tuple[str, str]
) -> None:
    door.store(alice.token, keys).raise_for_status()
    door.decrypt(alice.id).raise_for_status()
    door.store(alice.token, (keys[0], keys[1][::-1]))
    door.call("store-api-keys", {"secret": keys[1], "apiKey": [keys[0]]}, alice.token)
    secrets = {"key": keys[0], "secret": keys[1], "the same, reversed": keys[1][::-1]}
    assert leaks.leaks(secrets, leaks.rows(project.env["SUPABASE_DB_URL"])) == []
    assert leaks.leaks(secrets, leaks.logs(door.functions.log.parent)) == []
