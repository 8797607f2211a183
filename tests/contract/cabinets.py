"""One way to try a keyring, whatever keeps its keys: users store them, revoke them, and somebody meddles."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any
from uuid import UUID, uuid4

from streams.domain.account import Account
from streams.ports import Keyring
from tests.end_to_end.product import Project, User
from tests.functions.door import Door
from tests.streams.keyring import FakeKeyring
from tests.streams.virtual_loop import VirtualLoop
from worker.adapters.edge_keyring import EdgeKeyring

Pair = tuple[str, str]


class Cabinet(ABC):
    """A keyring, and the place where its keys are stored."""

    keyring: Keyring

    @abstractmethod
    def run(self, scenario: Callable[[Cabinet], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario on a keyring that holds nothing yet."""

    @abstractmethod
    async def user(self) -> UUID:
        """Somebody new."""

    @abstractmethod
    async def store(self, account: Account) -> Pair:
        """Have new keys stored; returns key and secret."""

    @abstractmethod
    async def revoke(self, account: Account) -> None:
        """Have the keys revoked."""

    @abstractmethod
    async def spoil(self, account: Account) -> None:
        """Change what is stored, past everybody."""

    @abstractmethod
    def out_of_reach(self) -> AbstractContextManager[None]:
        """For as long as this lasts, no keys can be had."""


class FakeCabinet(Cabinet):
    """In memory."""

    def __init__(self) -> None:
        self.keyring = self._fake = FakeKeyring()

    def run(self, scenario: Callable[[Cabinet], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(scenario(self))

    async def user(self) -> UUID:
        return uuid4()

    async def store(self, account: Account) -> Pair:
        pair = (uuid4().hex, uuid4().hex)
        self._fake.store(account, *pair)
        return pair

    async def revoke(self, account: Account) -> None:
        self._fake.revoke(account)

    async def spoil(self, account: Account) -> None:
        self._fake.spoil(account)

    @contextmanager
    def out_of_reach(self) -> Generator[None]:
        self._fake.out_of_reach = True
        yield
        self._fake.out_of_reach = False


class ProjectCabinet(Cabinet):
    """In a Supabase project, through its functions."""

    def __init__(self, project: Project, door: Door) -> None:
        self._project = project
        self._door = door
        self._users: dict[UUID, User] = {}

    def run(self, scenario: Callable[[Cabinet], Coroutine[Any, Any, None]]) -> None:
        async def tried() -> None:
            self.keyring = keyring = EdgeKeyring(self._door.url, self._project.env["SUPABASE_SERVICE_ROLE_KEY"])
            try:
                await scenario(self)
            finally:
                await keyring.close()

        asyncio.run(tried())

    async def user(self) -> UUID:
        user = await asyncio.to_thread(self._project.sign_up)
        self._users[UUID(user.id)] = user
        return UUID(user.id)

    async def store(self, account: Account) -> Pair:
        pair, token = self._door.exchange.open_account(), self._users[account.user_id].token
        answer = await asyncio.to_thread(self._door.store, token, pair, account.mode)
        answer.raise_for_status()
        return pair

    async def revoke(self, account: Account) -> None:
        body = {"exchange": "binance", "mode": account.mode}
        token = self._users[account.user_id].token
        answer = await asyncio.to_thread(self._door.call, "revoke-api-keys", body, token)
        answer.raise_for_status()

    async def spoil(self, account: Account) -> None:
        changed = self._project.rows(
            "update exchange_credentials set api_key_ciphertext = secret_ciphertext"
            " where user_id = %s and mode = %s returning id",
            account.user_id,
            account.mode,
        )
        assert len(changed) == 1

    @contextmanager
    def out_of_reach(self) -> Generator[None]:
        fault = {"path": "/rest/v1/rpc/read_credentials", "status": 503, "times": 1000}
        self._project.control("rest", fault)
        yield
        self._project.request("DELETE", "/_control/rest").raise_for_status()


def contract(scenario: Callable[[Cabinet], Coroutine[Any, Any, None]]) -> Callable[[Cabinet], None]:
    """Make a test of a scenario."""

    @wraps(scenario)
    def test(cabinet: Cabinet) -> None:
        cabinet.run(scenario)

    return test
