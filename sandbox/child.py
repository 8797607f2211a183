"""Child processes that cannot outlive the sandbox."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system account that a child is dropped to."""

    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Whether the account can reach `folder` through all of its parents."""
        groups = {self.gid, *(g.gr_gid for g in grp.getgrall() if self.name in g.gr_mem)}
        folder = folder.resolve()
        for part in (folder, *folder.parents):
            if not part.exists():
                continue
            status = part.stat()
            shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in groups else 0
            if not status.st_mode >> shift & 1:
                return False
        return True


def unprivileged_account() -> Account | None:
    """The account servers run as when the sandbox itself runs as root; None when it does not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise RuntimeError("PostgreSQL refuses to run as root: create an account named postgres or nobody")


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own; on Linux the kernel sends it `death_signal` when we die.

    The kernel watches the *thread* that forks, so call this from one that lasts as long as the child:
    the main thread. Output is appended to `log`.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else subprocess.DEVNULL
    try:
        return subprocess.Popen(  # noqa: S603
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env) if env is not None else None,
            cwd=cwd or "/",
            start_new_session=True,
            preexec_fn=_tie_to_parent(death_signal),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        if log:
            os.close(output)


def end(child: subprocess.Popen[bytes], grace: float, *signals: signal.Signals) -> None:
    """Send each of `signals` in turn, waiting `grace` seconds after each, and SIGKILL at last."""
    for number in (*signals, signal.SIGKILL):
        if child.poll() is not None:
            return
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    child.wait()


def _tie_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl, parent, number = ctypes.CDLL(None).prctl, os.getpid(), int(death_signal)

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died between our fork and the call above
            os._exit(1)

    return tie
