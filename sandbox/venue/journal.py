"""An append-only file of records, one JSON object a line: what the venue remembers over a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

__all__ = ["Journal"]


class Journal:
    """Appends to the file at `path`, which its owner alone may read: it holds the accounts' secrets."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+")

    def read(self) -> list[dict[str, Any]]:
        """All whole records, the oldest first. The last line may be torn: a venue can be killed as it writes.

        Raises ValueError for a line before the last that is no record.
        """
        self._file.seek(0)
        lines = self._file.read().splitlines()
        records: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            try:
                record: Any = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("no object")
            except ValueError:
                if number == len(lines):
                    break
                raise ValueError(
                    f"{self._path} is damaged in line {number}; remove the file to start with fresh balances"
                ) from None
            records.append(cast("dict[str, Any]", record))
        return records

    def begin_anew(self, record: dict[str, Any]) -> None:
        """Puts one record in the place of all."""
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
        part.replace(self._path)
        self._file.close()
        self._file = self._path.open("a+")

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
