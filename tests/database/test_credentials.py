"""Keys in the database: ciphertexts under growing versions, and no read that leaves no trace."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database.client import Client
from tests.database.concurrency import at_once
from tests.database.project import Project


def _store(service: Client, user_id: UUID, mode: str = "testnet", **changes: Any) -> int:
    given: dict[str, Any] = {
        "p_label": "main",
        "p_api_key_ciphertext": "a1",
        "p_secret_ciphertext": "s1",
        "p_key_version": 1,
        "p_permissions": {"trade": True},
    }
    answer = service.call(
        "store_credentials", p_user_id=user_id, p_exchange="binance", p_mode=mode, **(given | changes)
    )
    return answer["version"]


def _read(service: Client, user_id: UUID, mode: str = "testnet") -> dict[str, Any]:
    return service.call("read_credentials", p_user_id=user_id, p_exchange="binance", p_mode=mode)


def _revoke(service: Client, user_id: UUID) -> bool:
    return service.call("revoke_credentials", p_user_id=user_id, p_exchange="binance", p_mode="testnet")["revoked"]


def _log(project: Project) -> list[str]:
    return project.owner.column("select outcome from public.key_access_log order by id")


def _account(project: Project, user_id: UUID) -> dict[str, Any]:
    return project.owner.value("select to_jsonb(a) from public.exchange_accounts as a where user_id = %s", user_id)


def test_stored_keys_are_read_as_they_were_given(project: Project, alice: UUID, bob: UUID) -> None:
    service = project.service()
    assert _store(service, alice) == 1
    assert _store(service, alice, "live", p_api_key_ciphertext="a2") == 1
    read = _read(service, alice)
    assert {name: read[name] for name in read if name != "access_id"} == {
        "outcome": "found",
        "api_key_ciphertext": "a1",
        "secret_ciphertext": "s1",
        "key_version": 1,
        "version": 1,
    }
    assert _read(service, alice, "live")["api_key_ciphertext"] == "a2"
    assert _read(service, bob) == {"outcome": "missing"}


def test_the_owner_sees_that_there_are_keys_and_no_ciphertext(project: Project, alice: UUID, bob: UUID) -> None:
    _store(project.service(), alice)
    [(seen,)] = project.user(alice).rows("select to_jsonb(a) from public.exchange_accounts as a")
    assert (seen["label"], seen["permissions"], seen["is_active"], seen["error"]) == (
        "main",
        {"trade": True},
        True,
        None,
    )
    assert project.user(bob).rows("select from public.exchange_accounts") == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        project.user(alice).rows("select from public.exchange_credentials")


def test_versions_grow_through_changes_and_revocations(project: Project, alice: UUID) -> None:
    service = project.service()
    assert [_store(service, alice), _store(service, alice, p_key_version=2)] == [1, 2]
    assert [_revoke(service, alice), _revoke(service, alice)] == [True, False]
    assert _read(service, alice) == {"outcome": "missing"}
    assert _account(project, alice)["is_active"] is False
    assert _store(service, alice) == 3
    assert _account(project, alice)["is_active"] is True
    service.execute("update public.exchange_credentials set secret_ciphertext = 'z'")  # past the function
    assert _store(service, alice) == 5
    assert _read(service, alice)["version"] == 5


def test_new_keys_take_away_what_was_said_of_the_old_ones(project: Project, alice: UUID) -> None:
    service = project.service()
    _store(service, alice)
    service.execute("update public.exchange_accounts set error = 'the exchange refused it', last_used_at = now()")
    _store(service, alice, p_label="second")
    account = _account(project, alice)
    assert (account["label"], account["error"], account["last_used_at"]) == ("second", None, None)


def test_a_trader_moves_to_testnet_with_keys_and_not_after_their_revocation(project: Project, alice: UUID) -> None:
    service, trader_id = project.service(), project.trader(alice)
    project.limit(alice, max_total_exposure_usdt=500, max_position_size_usdt=100, daily_loss_limit_usdt=50)
    _store(service, alice)
    move = {"p_trader_id": trader_id, "p_mode": "testnet"}
    assert project.user(alice).call("set_trader_mode", **move)["mode"] == "testnet"
    _revoke(service, alice)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="store working testnet keys"):
        project.user(alice).call("set_trader_mode", **move)


def test_every_read_is_logged_before_it_is_answered(project: Project, alice: UUID, bob: UUID) -> None:
    service = project.service()
    _store(service, alice)
    first, second = _read(service, alice), _read(service, alice)
    _read(service, bob)
    assert _log(project) == ["begun", "begun", "missing"]
    assert _account(project, alice)["last_used_at"] is None
    service.call("end_key_access", p_access_id=first["access_id"], p_outcome="decrypted")
    assert _account(project, alice)["last_used_at"] is not None
    service.call("end_key_access", p_access_id=second["access_id"], p_outcome="unreadable")
    assert _log(project) == ["decrypted", "unreadable", "missing"]


def test_what_a_read_came_to_is_said_once(project: Project, alice: UUID) -> None:
    service = project.service()
    _store(service, alice)
    access_id = _read(service, alice)["access_id"]
    service.call("end_key_access", p_access_id=access_id, p_outcome="unreadable")
    with pytest.raises(psycopg.errors.NoDataFound):
        service.call("end_key_access", p_access_id=access_id, p_outcome="decrypted")
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        service.call("end_key_access", p_access_id=access_id, p_outcome="missing")
    assert _log(project) == ["unreadable"]


def test_a_user_who_is_nobody_has_no_keys(project: Project) -> None:
    assert _read(project.service(), uuid4()) == {"outcome": "missing"}
    assert _log(project) == []


def test_reads_are_limited_per_user_and_a_minute_later_go_on(project: Project, alice: UUID, bob: UUID) -> None:
    service = project.service()
    for user_id in (alice, bob):
        _store(service, user_id)
    project.owner.execute("update public.system_state set key_reads_per_minute = 3")
    try:
        outcomes = [_read(service, alice)["outcome"] for _ in range(5)]
        assert outcomes == ["found", "found", "found", "rate_limited", "rate_limited"]
        assert _read(service, bob)["outcome"] == "found"
        assert _log(project).count("rate_limited") == 1  # a flood fills no table
        project.owner.execute("update public.key_access_log set at = at - interval '1 minute'")
        assert _read(service, alice)["outcome"] == "found"
    finally:
        project.owner.execute("update public.system_state set key_reads_per_minute = default")


def test_the_limit_holds_under_contention(project: Project, alice: UUID) -> None:
    clients = [project.service() for _ in range(8)]
    _store(clients[0], alice)
    project.owner.execute("update public.system_state set key_reads_per_minute = 5")
    try:
        answers = at_once([partial(_read, client, alice) for client in clients])
    finally:
        project.owner.execute("update public.system_state set key_reads_per_minute = default")
    outcomes = [answer["outcome"] for answer in answers]
    assert sorted(outcomes) == ["found"] * 5 + ["rate_limited"] * 3


def _change(project: Project, user_id: UUID, **changes: Any) -> dict[str, Any]:
    row = project.owner.value("select to_jsonb(c) from public.exchange_credentials as c where user_id = %s", user_id)
    change = {
        "id": row["id"],
        "from_key_version": row["key_version"],
        "version": row["version"],
        "readable": True,
        "api_key_ciphertext": "a9",
        "secret_ciphertext": "s9",
        "key_version": 2,
    }
    return change | changes


def test_encrypted_anew_keys_stay_the_same_keys(project: Project, alice: UUID, bob: UUID) -> None:
    service = project.service()
    for user_id in (alice, bob):
        _store(service, user_id)
    changes = [_change(project, alice), _change(project, bob, readable=False)]
    assert service.call("reencrypt_credentials", p_rows=changes) == {"reencrypted": 1}
    read = _read(service, alice)
    assert (read["api_key_ciphertext"], read["key_version"], read["version"]) == ("a9", 2, 1)
    assert _read(service, bob)["api_key_ciphertext"] == "a1"
    assert sorted(_log(project)[:2]) == ["reencrypted", "unreadable"]


def test_keys_stored_or_revoked_meanwhile_are_not_written_over(project: Project, alice: UUID, bob: UUID) -> None:
    service = project.service()
    for user_id in (alice, bob):
        _store(service, user_id)
    changes = [_change(project, alice), _change(project, bob)]
    _store(service, alice, p_api_key_ciphertext="new")
    _revoke(service, bob)
    assert service.call("reencrypt_credentials", p_rows=changes) == {"reencrypted": 0}
    assert _read(service, alice)["api_key_ciphertext"] == "new"
    assert _read(service, bob) == {"outcome": "missing"}


def test_the_owner_sees_what_the_exchange_says_of_the_keys_stored_now(project: Project, alice: UUID) -> None:
    service = project.service()
    assert _store(service, alice) == 1
    project.trader(alice, mode="testnet")
    worker = project.worker("testnet")
    project.signal(alice, project.trader(alice, mode="testnet"))
    worker.claim()

    def note(version: int, error: str | None) -> bool:
        return worker.call("note_keys", p_user_id=alice, p_mode="testnet", p_version=version, p_error=error)["changed"]

    assert note(1, "refused")
    assert not note(1, "refused")
    assert _account(project, alice)["error"] == "refused"
    assert _store(service, alice) == 2
    assert not note(1, "refused again")
    assert _account(project, alice)["error"] is None
    assert note(2, "refused too")
    assert note(2, None)
    assert _account(project, alice)["error"] is None


def test_only_the_holder_of_an_account_speaks_of_its_keys(project: Project, alice: UUID) -> None:
    _store(project.service(), alice)
    worker = project.worker("testnet")
    with pytest.raises(psycopg.Error) as raised:
        worker.call("note_keys", p_user_id=alice, p_mode="testnet", p_version=1, p_error="refused")
    assert raised.value.sqlstate == "FSD02"
