"""What every keyring promises: the one in memory, and the one that asks a project's Edge Function."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.domain.account import Account
from streams.domain.errors import Refused, Transient
from tests.contract.cabinets import Cabinet, FakeCabinet, ProjectCabinet, contract
from tests.end_to_end.product import Project
from tests.functions.door import Door, data_key, data_keys, open_door


@pytest.fixture(scope="module")
def door(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The project's functions, with an exchange that knows the test's keys."""
    with open_door(project.env, tmp_path_factory.mktemp("door"), data_keys(v1=data_key())) as door:
        yield door


@pytest.fixture(params=["fake", "project"])
def cabinet(request: pytest.FixtureRequest) -> Cabinet:
    """Each keyring in turn; the sandbox is started for the real one alone."""
    if request.param == "fake":
        return FakeCabinet()
    return ProjectCabinet(request.getfixturevalue("project"), request.getfixturevalue("door"))


# The parameter is named as the fixture that makes the keyring.


@contract
async def test_keys_are_given_as_their_owner_stored_them(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    stored = await cabinet.store(account)
    keys = await cabinet.keyring.keys(account)
    assert (keys.api_key, keys.secret) == stored
    assert keys.version == 1


@contract
async def test_no_account_is_given_anothers(cabinet: Cabinet) -> None:
    anna, bert = await cabinet.user(), await cabinet.user()
    accounts = [Account(anna, "testnet"), Account(anna, "live"), Account(bert, "testnet")]
    stored = [await cabinet.store(account) for account in accounts]
    given = [await cabinet.keyring.keys(account) for account in accounts]
    assert [(keys.api_key, keys.secret) for keys in given] == stored
    with pytest.raises(Refused) as refused:
        await cabinet.keyring.keys(Account(bert, "live"))
    assert refused.value.code == "keys_missing"


@contract
async def test_who_stored_none_is_told_to(cabinet: Cabinet) -> None:
    with pytest.raises(Refused) as refused:
        await cabinet.keyring.keys(Account(await cabinet.user(), "testnet"))
    assert refused.value.code == "keys_missing"
    assert "Store" in refused.value.reason


@contract
async def test_keys_that_cannot_be_read_are_refused_until_others_are_stored(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    await cabinet.store(account)
    await cabinet.spoil(account)
    with pytest.raises(Refused) as refused:
        await cabinet.keyring.keys(account)
    assert refused.value.code == "keys_rejected"
    stored = await cabinet.store(account)
    assert (await cabinet.keyring.keys(account)).secret == stored[1]


@contract
async def test_other_keys_are_known_once_the_old_ones_are_dropped(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    first = await cabinet.store(account)
    assert (await cabinet.keyring.keys(account)).secret == first[1]
    second = await cabinet.store(account)
    assert (await cabinet.keyring.keys(account)).secret == first[1]
    cabinet.keyring.drop(account)
    keys = await cabinet.keyring.keys(account)
    assert (keys.secret, keys.version) == (second[1], 2)


@contract
async def test_revoked_keys_are_gone_once_dropped_and_their_version_never_returns(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    await cabinet.store(account)
    await cabinet.keyring.keys(account)
    await cabinet.revoke(account)
    cabinet.keyring.drop(account)
    with pytest.raises(Refused, match="keys_missing"):
        await cabinet.keyring.keys(account)
    await cabinet.store(account)
    assert (await cabinet.keyring.keys(account)).version == 2


@contract
async def test_a_keyring_out_of_reach_may_be_asked_again(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    stored = await cabinet.store(account)
    with cabinet.out_of_reach(), pytest.raises(Transient):
        await cabinet.keyring.keys(account)
    assert (await cabinet.keyring.keys(account)).secret == stored[1]


@contract
async def test_dropping_what_is_not_held_is_nothing(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    cabinet.keyring.drop(account)
    await cabinet.store(account)
    await cabinet.keyring.keys(account)
    cabinet.keyring.drop(account)
    cabinet.keyring.drop(account)


@contract
async def test_keys_show_nothing_of_themselves(cabinet: Cabinet) -> None:
    account = Account(await cabinet.user(), "testnet")
    await cabinet.store(account)
    keys = await cabinet.keyring.keys(account)
    for shown in (repr(keys), str(keys), f"{[keys]}"):
        assert keys.api_key not in shown
        assert keys.secret not in shown
