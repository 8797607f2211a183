"""One owner for one directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class DirectoryInUse(RuntimeError):
    """Another live process holds the directory."""


def hold(directory: Path) -> int:
    """Take the directory for this process, until the returned handle is closed or the process ends.

    Raises:
        DirectoryInUse: somebody else has it.
    """
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DirectoryInUse(
            f"{directory} is in use by another sandbox: stop that one, or choose another data directory"
        ) from None
    return handle
