"""A running sandbox for whole-product tests."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_START_SECONDS = 60
_STOP_SECONDS = 10
_SUPABASE_JS = ("@supabase/supabase-js@2.109.0", "ws@8.18.0")

StartSandbox = Callable[..., "SandboxProcess"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that none is left alone at the end."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@dataclass
class SandboxProcess:
    """`python -m sandbox up` as a child; `env` is what its env file says."""

    process: subprocess.Popen[str]
    data: Path
    env_file: Path
    log: Path
    env: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def url(self) -> str:
        return self.env["SUPABASE_URL"]

    def headers(self, key: str = "SUPABASE_SERVICE_ROLE_KEY") -> dict[str, str]:
        return {"apikey": self.env[key], "Authorization": f"Bearer {self.env[key]}"}

    def wait_ready(self) -> None:
        """Read the `ready` line; fail with what the sandbox said when there is none in time."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _START_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        if line != "ready\n":
            self.end()
            pytest.fail(f"the sandbox did not become ready: {self.said()}")
        self.env = dict(line.split("=", 1) for line in self.env_file.read_text().splitlines())

    def said(self) -> str:
        """Everything it wrote to stderr so far."""
        return self.log.read_text()

    def end(self) -> int:
        """Terminate it as a user does and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short-lived directory that other accounts may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def start_sandbox(scratch: Path) -> Iterator[StartSandbox]:
    """Start sandboxes on free ports; all are ended at the end of the run.

    Called with `data` it starts on that directory again, with `ready=False` it does not wait.
    """
    with ExitStack() as exits:

        def start(
            *arguments: str, data: Path | None = None, ready: bool = True, prefix: tuple[str, ...] = ()
        ) -> SandboxProcess:
            place = data or Path(tempfile.mkdtemp(dir=scratch))
            ports = [f"--{name}-port=0" for name in ("api", "db", "venue")]
            log = Path(tempfile.mkstemp(dir=scratch, suffix=".log")[1])
            command = [*prefix, sys.executable, "-m", "sandbox", "up", *ports, f"--data={place}", *arguments]
            with log.open("w") as stderr:
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ | {"COLUMNS": "200"}
                )
            sandbox = SandboxProcess(process, place, place / "env", log)
            exits.callback(_end_quietly, sandbox)
            if ready:
                sandbox.wait_ready()
            return sandbox

        yield start


@pytest.fixture(scope="session")
def stack(start_sandbox: StartSandbox) -> SandboxProcess:
    """One sandbox shared by all tests of the run: leave nothing in it that others would see."""
    return start_sandbox("--no-fsync")


@pytest.fixture(scope="session")
def supabase_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which scripts find npm's supabase-js."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are needed to run the JavaScript client")
    folder = tmp_path_factory.mktemp("supabase-js")
    (folder / "package.json").write_text("{}")
    command = [npm, "install", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", *_SUPABASE_JS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return folder


def _end_quietly(sandbox: SandboxProcess) -> None:
    if sandbox.process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            sandbox.end()
    elif sandbox.process.stdout is not None:
        sandbox.process.stdout.close()
