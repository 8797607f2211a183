"""Connections that are kept: opening one costs both sides many times what a look at a row does."""

from __future__ import annotations

import atexit
from contextlib import suppress
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

Database = psycopg.Connection[dict[str, Any]]

HTTP = httpx.Client(verify=False, timeout=15.0)
"""No TLS on loopback, and reading all certificates takes longer than most requests."""

_databases: dict[str, Database] = {}


def database(dsn: str) -> Database:
    """A connection that commits each statement; made anew where the server has ended the one before."""
    if kept := _databases.pop(dsn, None):
        with suppress(psycopg.OperationalError):
            kept.execute("")
            _databases[dsn] = kept
            return kept
        kept.close()
    # Plans are not kept: the schema may grow under them.
    made = Database.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None)
    _databases[dsn] = made
    return made


@atexit.register
def _close() -> None:
    HTTP.close()
    for connection in _databases.values():
        connection.close()
