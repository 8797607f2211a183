"""Row changes on their way to subscribers: collected, looked through once a poll, delivered in commit order."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from sandbox.change_filter import Binding, Filter
from sandbox.change_records import Rendered, UnusableFilter, Values, columns_json, render
from sandbox.pgoutput import Action, Change, Relation
from sandbox.realtime_faults import Path
from sandbox.realtime_timing import Timing
from sandbox.realtime_token import Identity
from sandbox.row_security import Key, settled, visible
from sandbox.table_columns import Table, describe

_log = logging.getLogger(__name__)

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]

_LARGEST_BYTES = 1024 * 1024
"""Of a change; beyond it only short values are sent (protocol: Error 413)."""
_SHORT_BYTES = 64
_AT_ONCE = 1000
"""Changes looked through together."""


@dataclass(eq=False, slots=True)
class Listener:
    """A channel's subscription: what it wants, as whom, and where it goes."""

    identity: Identity
    bindings: tuple[Binding, ...]
    deliver: Callable[[str, list[int]], None]
    """Takes a change as JSON text and the ids of the bindings it matches."""


Interest = list[tuple[Listener, list[Binding]]]
"""Who may want to hear of a change, and by which of their bindings."""


@dataclass(slots=True)
class _Item:
    """One change and what became of it on the way."""

    change: Change
    table: Table
    interested: Interest
    oversize: bool
    new: Rendered | None = None
    old: Rendered | None = None
    sees: set[Identity] | None = None
    """Who may see the row; None where row security does not decide."""


@dataclass(slots=True)
class _Batch:
    """The changes of one table in one poll, with the sets they are rendered for."""

    table: Table
    items: list[_Item] = field(default_factory=list[_Item])
    column_sets: dict[frozenset[str], int] = field(default_factory=dict[frozenset[str], int])
    filters: dict[tuple[Filter, ...], int] = field(default_factory=dict[tuple[Filter, ...], int])


class Changes:
    """The poller. Without listeners it drops what it receives and does nothing."""

    def __init__(self, pool: Pool, timing: Timing, path: Path) -> None:
        self._pool = pool
        self._timing = timing
        self._path = path
        self._listeners: dict[Listener, None] = {}
        self._queue: list[Change] = []
        self._timer: asyncio.TimerHandle | None = None
        self._polling: asyncio.Task[None] | None = None
        self._next_poll = 0.0
        self._tables: dict[tuple[Relation, frozenset[str]], Table | None] = {}

    def add(self, listener: Listener) -> None:
        """Let the listener hear of changes that are looked through from now on."""
        self._listeners[listener] = None
        self._tables.clear()

    def remove(self, listener: Listener) -> None:
        """Forget the listener."""
        self._listeners.pop(listener, None)

    def receive(self, change: Change) -> None:
        """Take a committed change from the feed."""
        if not self._listeners:
            return
        self._queue.append(change)
        self._schedule()

    async def stop(self) -> None:
        """Drop what is waiting and end."""
        self._listeners.clear()
        self._queue.clear()
        if self._timer:
            self._timer.cancel()
        if self._polling:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    def _schedule(self) -> None:
        if self._timer is not None or self._polling is not None:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._due(loop.time()), self._begin)

    def _due(self, now: float) -> float:
        """Return when the poller looks next, as if it looked every `poll` seconds for ever."""
        interval = self._timing.poll
        if interval <= 0 or self._next_poll > now + interval:
            return now
        if self._next_poll >= now:
            return self._next_poll
        missed = (now - self._next_poll) // interval
        if missed > 2:  # nobody can tell the phase any more
            return now + random.uniform(0, interval)  # noqa: S311
        return self._next_poll + (missed + 1) * interval

    def _begin(self) -> None:
        self._timer = None
        self._polling = asyncio.create_task(self._poll(), name="poll row changes")
        self._polling.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._polling = None
        if not task.cancelled() and (error := task.exception()):
            _log.warning("row changes were lost: %s", error, exc_info=error)
        if self._queue:
            self._schedule()

    async def _poll(self) -> None:
        delivered = False
        while self._queue:
            delivered = False
            taken, self._queue = self._queue[:_AT_ONCE], self._queue[_AT_ONCE:]
            try:
                delivered = await self._look_through(taken)
            except (psycopg.Error, UnusableFilter, OSError) as error:
                _log.warning("%d row changes were lost: %s", len(taken), error)
            if not delivered and len(taken) < _AT_ONCE:
                break
        # After rows that concerned somebody it looks again at once, after others somewhat sooner than idle.
        pause = self._timing.poll * (1 if delivered else random.uniform(0.3, 0.4))  # noqa: S311
        self._next_poll = asyncio.get_running_loop().time() + pause

    async def _look_through(self, changes: list[Change]) -> bool:
        interest: dict[tuple[Relation, Action], Interest] = {}
        wanted: list[Change] = []
        for change in changes:
            kind = (change.relation, change.action)
            if kind not in interest:
                interest[kind] = self._interest(change)
            if interest[kind]:
                wanted.append(change)
        if not wanted:
            return False
        async with self._pool.connection() as connection:
            items = await self._items(connection, wanted, interest)
            batches: dict[Table, _Batch] = {}
            for item in items:
                batches.setdefault(item.table, _Batch(item.table)).items.append(item)
            for batch in batches.values():
                await _render_batch(connection, batch)
            if any(table.row_security for table in batches):
                await settled(connection, {change.transaction for change in wanted})
            for batch in batches.values():
                if batch.table.row_security:
                    await _check_rows(connection, batch)
        delivered = False
        for index, item in enumerate(items):
            delivered |= self._deliver(item, batches[item.table])
            if index % 100 == 99:
                await asyncio.sleep(0)
        return delivered

    def _interest(self, change: Change) -> Interest:
        schema, table = change.relation.schema, change.relation.table
        found = (
            (listener, [item for item in listener.bindings if item.concerns(schema, table, change.action)])
            for listener in self._listeners
        )
        return [(listener, bindings) for listener, bindings in found if bindings]

    async def _items(
        self,
        connection: AsyncConnection[TupleRow],
        changes: list[Change],
        interest: dict[tuple[Relation, Action], Interest],
    ) -> list[_Item]:
        roles = frozenset(listener.identity.role for listener in self._listeners)
        existing: dict[tuple[Relation, Action], Interest] = {}
        items: list[_Item] = []
        for change in changes:
            relation, kind = change.relation, (change.relation, change.action)
            if (relation, roles) not in self._tables:
                self._tables[relation, roles] = await describe(connection, relation.oid, roles)
            table = self._tables[relation, roles]
            if table is None:
                continue
            if kind not in existing:
                existing[kind] = [entry for entry in interest[kind] if entry[0].identity.role in table.readable]
            items.append(_Item(change, table, existing[kind], _size(change) > _LARGEST_BYTES))
        return items

    def _deliver(self, item: _Item, batch: _Batch) -> bool:
        recipients: list[tuple[Listener, str, list[int]]] = []
        written: dict[frozenset[str] | str, str] = {}
        for listener, bindings in item.interested:
            error = _error(item, listener.identity.role)
            if error:
                if error not in written:
                    written[error] = _error_data(item.change, error)
                recipients.append((listener, written[error], _ids(bindings)))
                continue
            if item.sees is not None and listener.identity not in item.sees:
                continue
            groups: dict[frozenset[str], list[Binding]] = defaultdict(list)
            for binding in bindings:
                if _passes(item, binding, batch):
                    groups[_columns(item.table, listener.identity.role, binding)].append(binding)
            for columns, matched in groups.items():
                if columns not in written:
                    written[columns] = _data(item, columns, batch)
                recipients.append((listener, written[columns], _ids(matched)))
        if not recipients:
            return False

        def deliver() -> None:
            for listener, data, ids in recipients:
                if listener in self._listeners:
                    listener.deliver(data, ids)

        self._path.carry(deliver)
        return True


async def _render_batch(connection: AsyncConnection[TupleRow], batch: _Batch) -> None:
    """Fill in the JSON and the filters' verdicts, with one query for all rows that have the same columns."""
    groups: dict[tuple[str, tuple[str, ...], frozenset[str] | None], list[tuple[_Item, Values]]] = {}
    for item in batch.items:
        for listener, bindings in item.interested:
            for binding in bindings:
                columns = _columns(batch.table, listener.identity.role, binding)
                batch.column_sets.setdefault(columns, len(batch.column_sets))
                batch.filters.setdefault(binding.filters, len(batch.filters))
        for which, values in (("new", item.change.new), ("old", _old_values(item))):
            if values is not None:
                groups.setdefault((which, tuple(values), _withheld(item, values)), []).append((item, values))
    for (which, present, withheld), members in groups.items():
        sets = [columns - (withheld or frozenset()) for columns in batch.column_sets]
        rows = [values for _item, values in members]
        results = await render(connection, batch.table, present, rows, sets, list(batch.filters))
        for (item, _values), result in zip(members, results, strict=True):
            if which == "new":
                item.new = result
            else:
                item.old = result


async def _check_rows(connection: AsyncConnection[TupleRow], batch: _Batch) -> None:
    """Fill in who sees each row, with one query for each identity that has a row to see."""
    wanted: dict[Identity, dict[Key, list[_Item]]] = {}
    for item in batch.items:
        values = item.change.new
        if item.change.action is Action.DELETE or values is None:
            continue
        item.sees = set()
        key = tuple(values.get(column.name) for column in batch.table.key)
        for listener, bindings in item.interested:
            if _error(item, listener.identity.role) is None and any(
                _passes(item, binding, batch) for binding in bindings
            ):
                rows = wanted.setdefault(listener.identity, {})
                holders = rows.setdefault(key, [])
                if not holders or holders[-1] is not item:
                    holders.append(item)
    for identity, rows in wanted.items():
        try:
            seen = await visible(connection, batch.table, identity, list(rows))
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            _log.warning("row security failed for role %s, nothing is delivered: %s", identity.role, error)
            continue
        for key in seen:
            for item in rows[key]:
                if item.sees is not None:
                    item.sees.add(identity)


def _size(change: Change) -> int:
    return sum(len(value) for values in (change.new, change.old) if values for value in values.values() if value)


def _withheld(item: _Item, values: Values) -> frozenset[str] | None:
    """Return the columns that nobody is told: long ones of an oversize change, all but the key of a secured row."""
    if item.oversize:
        return frozenset(name for name, value in values.items() if not value or len(value.encode()) > _SHORT_BYTES)
    if item.change.action is Action.DELETE and item.table.row_security:
        return frozenset(values) - {column.name for column in item.table.key}
    return None


def _old_values(item: _Item) -> Values | None:
    """Return what may be told of the row before: its key, or all of it with replica identity full."""
    change = item.change
    if change.action is Action.INSERT:
        return None
    values = change.old
    if values is None:
        values = {name: value for name, value in (change.new or {}).items() if name in change.relation.identity}
    return values


def _columns(table: Table, role: str, binding: Binding) -> frozenset[str]:
    readable = table.readable[role]
    if binding.select is None:
        return readable
    return readable & frozenset([*binding.select, *(column.name for column in table.key)])


def _passes(item: _Item, binding: Binding, batch: _Batch) -> bool:
    if not binding.filters:
        return True
    row = item.old if item.change.action is Action.DELETE else item.new
    return row is not None and row.passed[batch.filters[binding.filters]]


def _error(item: _Item, role: str) -> str | None:
    """Return why a role gets no record at all (protocol: Error 400 and 401)."""
    if item.change.action is Action.DELETE:
        return None
    key = item.table.key
    if not key:
        return "Error 400: Bad Request, no primary key"
    readable = item.table.readable[role]
    return None if all(column.name in readable for column in key) else "Error 401: Unauthorized"


def _data(item: _Item, columns: frozenset[str], batch: _Batch) -> str:
    change, index = item.change, batch.column_sets[columns]
    committed = datetime.fromtimestamp(change.committed_at_micros // 1_000_000, UTC)
    millis = change.committed_at_micros // 1000 % 1000
    record = f'"record":{item.new.records[index]},' if item.new else ""
    old = ""
    if item.old:
        old = f',"old_record":{item.old.records[index]}'
    errors = '["Error 413: Payload Too Large"]' if item.oversize else "null"
    return (
        f'{{"table":{_json(change.relation.table)},"type":"{change.action}",{record}'
        f'"columns":{columns_json(item.table, columns)},"errors":{errors},'
        f'"schema":{_json(change.relation.schema)},'
        f'"commit_timestamp":"{committed:%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"{old}}}'
    )


def _error_data(change: Change, error: str) -> str:
    return (
        f'{{"table":{_json(change.relation.table)},"type":"{change.action}","record":{{}},"columns":[],'
        f'"errors":[{_json(error)}],"schema":{_json(change.relation.schema)},"commit_timestamp":null}}'
    )


def _ids(bindings: list[Binding]) -> list[int]:
    return list(dict.fromkeys(binding.id for binding in bindings))


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
