"""What the exchange says of users' keys, passed on to the rows that their owners see; never in a trade's way."""

from __future__ import annotations

import asyncio

import structlog

from streams.domain.account import Account
from streams.domain.errors import ExecutionError
from streams.ports import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger("worker")


class KeyNotes:
    """Writes an account's notes in the background, the latest last. One that fails is logged, and told again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[Account, tuple[int, str | None]] = {}
        self._writing: dict[Account, asyncio.Task[None]] = {}

    def note(self, account: Account, version: int, error: str | None) -> None:
        """Begin to write; of what waits for the account, the newest replaces the rest. Must be called on the loop."""
        waits_for = self._waiting.get(account)
        if waits_for is None or waits_for[0] <= version:
            self._waiting[account] = (version, error)
        if account not in self._writing:
            self._writing[account] = asyncio.create_task(self._write(account), name="note keys")

    async def close(self) -> None:
        """Leave what is not written yet."""
        tasks = tuple(self._writing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, account: Account) -> None:
        try:
            while account in self._waiting:
                version, error = self._waiting.pop(account)
                if error is not None:
                    log.warning("the exchange refuses a user's keys", user=str(account.user_id), mode=account.mode)
                try:
                    await self._store.note_keys(account, version, error)
                except ExecutionError as failure:
                    log.warning("what the exchange says of a key could not be noted", error=str(failure))
        finally:
            del self._writing[account]
