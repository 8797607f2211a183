"""The `pgoutput` logical replication stream, protocol version 1.

Message layouts: PostgreSQL documentation, "Logical Replication Message Formats".
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

POSTGRES_EPOCH = 946_684_800
"""2000-01-01T00:00:00Z in Unix seconds."""


class Action(StrEnum):
    """What happened to a row."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """One table as the stream describes it; a changed table gets a new object, so it may be a cache key."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    identity: frozenset[str]
    """The columns by which the stream names an old row: the primary key, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row; values are PostgreSQL's text output, a column that was not sent is absent."""

    relation: Relation
    action: Action
    new: dict[str, str | None] | None
    old: dict[str, str | None] | None
    old_is_whole: bool
    """Whether `old` is the whole row (replica identity full) rather than its key."""
    committed_at_micros: int
    """Commit time in Unix microseconds, the same for all rows of a transaction."""
    transaction: int
    """The transaction's 32-bit id."""


class Decoder:
    """Turns the messages of one replication connection, in order, into changes."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed_at_micros = 0
        self._transaction = 0

    def feed(self, message: bytes) -> Change | None:
        """Return the row change this message carries, or None for any other message."""
        match message[:1]:
            case b"I":
                return self._change(Action.INSERT, message)
            case b"U":
                return self._change(Action.UPDATE, message)
            case b"D":
                return self._change(Action.DELETE, message)
            case b"B":
                _lsn, micros, self._transaction = struct.unpack_from(">QQI", message, 1)
                self._committed_at_micros = POSTGRES_EPOCH * 1_000_000 + micros
            case b"R":
                relation = _relation(message)
                self._relations[relation.oid] = relation
            case _:
                pass
        return None

    def _change(self, action: Action, message: bytes) -> Change:
        (oid,) = struct.unpack_from(">I", message, 1)
        relation = self._relations[oid]
        new: dict[str, str | None] | None = None
        old: dict[str, str | None] | None = None
        old_is_whole = False
        offset = 5
        while offset < len(message):
            marker = message[offset : offset + 1]
            values, offset = _tuple(message, offset + 1, relation.columns)
            if marker == b"N":
                new = values
            elif marker == b"O":
                old, old_is_whole = values, True
            else:  # the key: every other column comes as a null that means nothing
                old = {name: value for name, value in values.items() if name in relation.identity}
        if old is not None and new is not None:
            # An unchanged TOAST value is not sent again; with a whole old row it is known all the same.
            new = old | new if old_is_whole else new
        return Change(relation, action, new, old, old_is_whole, self._committed_at_micros, self._transaction)


def _relation(message: bytes) -> Relation:
    (oid,) = struct.unpack_from(">I", message, 1)
    schema, offset = _text(message, 5)
    table, offset = _text(message, offset)
    (count,) = struct.unpack_from(">H", message, offset + 1)
    offset += 3
    columns: list[str] = []
    identity: set[str] = set()
    for _ in range(count):
        flags = message[offset]
        name, offset = _text(message, offset + 1)
        offset += 8
        columns.append(name)
        if flags & 1:
            identity.add(name)
    return Relation(oid, schema or "pg_catalog", table, tuple(columns), frozenset(identity))


def _text(message: bytes, start: int) -> tuple[str, int]:
    end = message.index(0, start)
    return message[start:end].decode(), end + 1


def _tuple(message: bytes, offset: int, columns: tuple[str, ...]) -> tuple[dict[str, str | None], int]:
    (count,) = struct.unpack_from(">H", message, offset)
    offset += 2
    values: dict[str, str | None] = {}
    for index in range(count):
        kind = message[offset]
        offset += 1
        if kind == 0x6E:  # n: null
            values[columns[index]] = None
        elif kind == 0x74:  # t: text
            (length,) = struct.unpack_from(">I", message, offset)
            offset += 4
            values[columns[index]] = message[offset : offset + length].decode()
            offset += length
    return values, offset
