"""A real PostgreSQL server on loopback, owned by this process."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from sandbox.child import Account, end, spawn, unprivileged_account
from sandbox.installation import Installation, PostgresError, installations, readable_copy
from sandbox.lock import hold
from sandbox.ports import free_port

__all__ = ["SUPERUSER", "Installation", "PostgresError", "Server", "installations"]

SUPERUSER = "supabase_admin"
_START_SECONDS = 20.0
_DYING_SECONDS = 8.0
_SYSTEM_CLUSTERS = Path("/var/lib/fillstream-sandbox")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may not pass 107 characters, a data directory's may
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "wal_writer_delay": "10ms",  # logical replication sees what is flushed, no sooner
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u ",
    "password_encryption": "scram-sha-256",
    "idle_in_transaction_session_timeout": "300s",
}


class Server:
    """One database cluster below `data` and the server on it.

    Log in as `postgres` (no superuser, as on the platform) or `supabase_admin`; both take the password
    made with the cluster. Call `start` from the main thread: the server dies with the thread that made it.
    `fsync=False` trades safety against power cuts for speed.
    """

    def __init__(self, installation: Installation, data: Path, port: int = 0, *, fsync: bool = True) -> None:
        self.installation = installation
        self.data = data
        self.log = data / "postgres.log"
        self._wanted_port = port
        self._port = port
        self._fsync = fsync
        self._account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._password = ""

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; known once started."""
        return self._port

    @property
    def pid(self) -> int | None:
        """Of the server process, while one was started."""
        return self._process.pid if self._process else None

    @property
    def dsn(self) -> str:
        return self.dsn_of("postgres")

    @property
    def superuser_dsn(self) -> str:
        return self.dsn_of(SUPERUSER)

    def dsn_of(self, role: str, database: str = "postgres") -> str:
        """A connection URL for one of the login roles, all of which share the cluster's password."""
        return f"postgresql://{role}:{quote(self._password)}@127.0.0.1:{self._port}/{database}"

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start on the cluster, creating it first where there is none, and wait until it takes connections.

        Raises:
            DirectoryInUse: another process holds the directory.
            PostgresError: it is of another version, the port is busy, or the server will not run.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = hold(self.data)
        try:
            cluster = self._cluster()
            complete = self.data / "complete"
            if not complete.exists():
                self._create(cluster)
            self._check_version(cluster)
            self._password = (self.data / "password").read_text().strip()
            _end_orphan(cluster)
            self._launch(cluster)
            if not complete.exists():
                self._make_owner()
                complete.touch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server (clients are cut off, data is flushed) and release the directory."""
        if self._process is not None:
            # SIGINT is PostgreSQL's fast shutdown; a replication client may hold it, so SIGQUIT follows.
            end(self._process, 1.0, signal.SIGINT, signal.SIGQUIT)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _cluster(self) -> Path:
        """Where the cluster lies: below `data`, or in a system folder when the account cannot go there."""
        plain = self.data / "cluster"
        if self._account is None or plain.is_symlink():
            return plain.resolve()
        self.data.chmod(self.data.stat().st_mode | 0o011)
        if self._account.may_enter(self.data):
            return plain
        return _relocated(plain, self._account)

    def _create(self, cluster: Path) -> None:
        cluster.mkdir(mode=0o700, exist_ok=True)
        for leftover in cluster.iterdir():  # of a creation that was cut short
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        password = self.data / "password"
        password.unlink(missing_ok=True)
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        with tempfile.NamedTemporaryFile("w", prefix="sandbox-") as handed:
            handed.write(password.read_text())
            handed.flush()
            if self._account:
                os.chown(cluster, self._account.uid, self._account.gid)
                os.chown(handed.name, self._account.uid, self._account.gid)
            argv = [self._tool("initdb"), "-D", cluster, "-U", SUPERUSER, "--pwfile", handed.name]
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
            child = spawn([*argv, *options], log=self.log, account=self._account, env=_environment())
            if child.wait(120) != 0:
                raise PostgresError(f"initdb could not create {cluster}: {_last_line(self.log)}")

    def _check_version(self, cluster: Path) -> None:
        major = int((cluster / "PG_VERSION").read_text())
        if major != self.installation.major:
            raise PostgresError(
                f"{self.data} holds a PostgreSQL {major} database, this is {self.installation.version}: "
                f"use another data directory, or name a PostgreSQL {major} in SANDBOX_POSTGRES_BIN"
            )

    def _launch(self, cluster: Path) -> None:
        deadline = time.monotonic() + _DYING_SECONDS
        while True:
            self._port = self._wanted_port or free_port()
            settings = {**_SETTINGS, "port": str(self._port), "fsync": "on" if self._fsync else "off"}
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            mark = self.log.stat().st_size if self.log.exists() else 0
            self._process = spawn(
                [self._tool("postgres"), "-D", cluster, *options],
                log=self.log,
                account=self._account,
                env=_environment(),
                death_signal=signal.SIGQUIT,
            )
            if self._came_up(cluster):
                self._wanted_port = self._port  # a restart serves the same clients
                return
            said = _tail(self.log, mark)
            if "could not bind" in said and self._wanted_port:
                raise PostgresError(f"port {self._port} is busy: choose another with --db-port (0: any free one)")
            # The children of a server that was killed need a second to notice.
            dying = "could not bind" in said or "shared memory block" in said or "lock file" in said
            if not dying or time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not start: {_last_line(self.log)} (see {self.log})")
            time.sleep(0.1)

    def _came_up(self, cluster: Path) -> bool:
        assert self._process is not None
        pid_file, deadline = cluster / "postmaster.pid", time.monotonic() + _START_SECONDS
        while self._process.poll() is None:
            with suppress(OSError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                    return True
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL was not ready in {_START_SECONDS:.0f} s (see {self.log})")
            time.sleep(0.005)
        return False

    def _make_owner(self) -> None:
        """Make the platform's owner role; every other role is the bootstrap's."""
        with psycopg.connect(self.superuser_dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create role postgres login createdb createrole replication bypassrls password {}").format(
                    sql.Literal(self._password)
                )
            )
            connection.execute("alter database postgres owner to postgres")

    def _tool(self, name: str) -> Path:
        folder = self.installation.bin
        if self._account and not self._account.may_enter(folder):
            folder = readable_copy(self.installation) / "bin"
        return folder / name


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _end_orphan(cluster: Path) -> None:
    """Stop a server that outlived its owner, and drop the mark of one that did not.

    We hold the directory's lock, so whatever is named there belongs to nobody living.
    """
    mark = cluster / "postmaster.pid"
    try:
        pid = int(mark.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    if _serves(pid, cluster):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + _DYING_SECONDS
        while _serves(pid, cluster) and time.monotonic() < deadline:
            time.sleep(0.02)
    elif Path("/proc/self").exists():
        mark.unlink(missing_ok=True)


def _serves(pid: int, cluster: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == cluster.resolve()
    except OSError:
        return False


def _relocated(plain: Path, account: Account) -> Path:
    """Link `plain` to a fresh folder the account can reach; folders nobody links to any more are removed."""
    _SYSTEM_CLUSTERS.mkdir(mode=0o755, exist_ok=True)
    for old in _SYSTEM_CLUSTERS.iterdir():
        with suppress(OSError):
            if not Path((old / "origin").read_text()).is_symlink():
                shutil.rmtree(old)
    folder = Path(tempfile.mkdtemp(dir=_SYSTEM_CLUSTERS))
    folder.chmod(0o711)
    cluster = folder / "cluster"
    cluster.mkdir(mode=0o700)
    os.chown(cluster, account.uid, account.gid)
    plain.symlink_to(cluster)
    (folder / "named").write_text(str(plain.absolute()))
    (folder / "named").rename(folder / "origin")  # last, and whole: from here on it may be found unlinked
    return cluster


def _tail(log: Path, mark: int) -> str:
    with log.open("rb") as file:
        file.seek(mark)
        return file.read().decode(errors="replace")


def _last_line(log: Path) -> str:
    lines = [line for line in _tail(log, 0).splitlines() if re.search(r"FATAL|ERROR|PANIC|error:", line)]
    return lines[-1] if lines else "it gave no reason"
