"""What the exchange says of users' keys, passed on to the rows that their owners see; never in a trade's way."""

from __future__ import annotations

import asyncio

import structlog

from streams.domain.account import Account
from streams.domain.errors import ExecutionError
from streams.ports import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger("worker")


class KeyNotes:
    """Writes each note in the background; one that fails is only logged: the next refusal tells it again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, account: Account, version: int, error: str | None) -> None:
        """Begin to write; must be called on the event loop."""
        task = asyncio.create_task(self._write(account, version, error), name="note keys")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Leave what is not written yet."""
        tasks = tuple(self._writing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, account: Account, version: int, error: str | None) -> None:
        if error is not None:
            log.warning("the exchange refuses a user's keys", user=str(account.user_id), mode=account.mode)
        try:
            await self._store.note_keys(account, version, error)
        except ExecutionError as failure:
            log.warning("what the exchange says of a key could not be noted", error=str(failure))
