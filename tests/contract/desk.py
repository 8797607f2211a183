"""One way to try a store, whatever keeps its rows: users and signals come in, and other workers come by."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from streams.domain.account import Account
from streams.ports import Store
from tests.domain import specimens
from tests.end_to_end.product import Project, User
from tests.streams.fakes import FakeClock, FakeStore
from tests.streams.virtual_loop import VirtualLoop
from worker.adapters.supabase_store import connect_store

LEASE_SECONDS = 10.0


class Desk(ABC):
    """A store with one worker registered, and the rows behind it."""

    store: Store

    @abstractmethod
    def run(self, scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario on a registered store, which retires in the end."""

    @abstractmethod
    async def user(self) -> Account:
        """Somebody new, with 10000 USDT on paper."""

    @abstractmethod
    async def signal(self, account: Account) -> UUID:
        """A ready signal of theirs for BTC/USDT."""

    @abstractmethod
    async def give_to_another(self, account: Account) -> None:
        """Let another live worker hold an account."""


class FakeDesk(Desk):
    """On rows in memory."""

    def __init__(self) -> None:
        self._rows = FakeStore(FakeClock())
        self.store = self._rows
        self._numbers = count(1)

    def run(self, scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        async def registered() -> None:
            await self.store.register(uuid4())
            await scenario(self)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(registered())

    async def user(self) -> Account:
        return Account(uuid4(), "paper")

    async def signal(self, account: Account) -> UUID:
        brief = specimens.brief(next(self._numbers), user_id=account.user_id, mode=account.mode)
        self._rows.put(brief)
        return brief.id

    async def give_to_another(self, account: Account) -> None:
        self._rows.give_to_another(account)


class ProjectDesk(Desk):
    """On a Supabase project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._users: dict[UUID, User] = {}
        self._others = AsyncExitStack()

    def run(self, scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        async def registered() -> None:
            async with self._worker() as self.store, self._others:
                await scenario(self)

        asyncio.run(registered())

    async def user(self) -> Account:
        user = self._project.sign_up()
        self._users[UUID(user.id)] = user
        return Account(UUID(user.id), "paper")

    async def signal(self, account: Account) -> UUID:
        return UUID(self._project.signal(self._users[account.user_id]))

    async def give_to_another(self, account: Account) -> None:
        await self.store.release([account])
        worker_id = uuid4()
        await self._others.enter_async_context(self._worker(worker_id))
        changed = self._project.rows(
            "update accounts set worker_id = %s where user_id = %s and mode = %s returning user_id",
            worker_id,
            account.user_id,
            account.mode,
        )
        assert len(changed) == 1

    @asynccontextmanager
    async def _worker(self, worker_id: UUID | None = None) -> AsyncGenerator[Store]:
        env = self._project.env
        key = env["SUPABASE_SERVICE_ROLE_KEY"]
        store = await connect_store(env["SUPABASE_URL"], key, LEASE_SECONDS, ["paper"], 120.0)
        try:
            await store.register(worker_id or uuid4())
            yield store
            await store.retire()
        finally:
            await store.close()


def contract(scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> Callable[[Desk], None]:
    """Make a test of a scenario."""

    @wraps(scenario)
    def test(desk: Desk) -> None:
        desk.run(scenario)

    return test
