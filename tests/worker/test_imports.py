"""Imports run one way, and the check that says so would notice if they did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "worker", "sandbox")
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"

PLANTED = {
    "streams/domain/money.py": ("import asyncio", "the domain is pure"),
    "streams/domain/order.py": ("import reactivex", "the domain is pure"),
    "streams/ports.py": ("import asyncio", "the ports know neither asyncio nor Rx"),
    "streams/outcome.py": ("import streams.pipeline", "the streams run one way"),
    "streams/intake.py": ("import worker.log", "the streams do not reach the world"),
    "worker/log.py": ("import reactivex", "Rx stays in the streams and the composition root"),
    "worker/config.py": ("import ccxt", "each library has one adapter: ccxt"),
    "worker/adapters/clock.py": ("import worker.adapters.paper_exchange", "adapters do not know one another"),
    "worker/adapters/realtime.py": ("import supabase", "each library has one adapter: supabase"),
    "worker/adapters/supabase_store/store.py": ("import realtime", "each library has one adapter: realtime"),
    "worker/adapters/paper_exchange.py": ("import streams.execution", "adapters know the ports and the domain alone"),
    "worker/adapters/ccxt_exchange/market.py": ("import worker.app", "imports run one way"),
    "sandbox/tokens.py": ("import streams.domain.money", "the sandbox stands by itself"),
    "worker/__main__.py": ("import sandbox.ports", "the worker and its sandbox do not know each other"),
}


def check(place: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the code in a directory."""
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--no-logo"], cwd=place, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def breaches(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the check says of a copy of the code in which every contract is broken."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, (planted, _) in PLANTED.items():
        file = copy / path
        file.write_text(f"{file.read_text()}\n{planted}\n")
    checked = check(copy)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    return checked.stdout


def test_imports_run_one_way() -> None:
    checked = check(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(("path", "contract"), [(path, contract) for path, (_, contract) in PLANTED.items()])
def test_an_import_the_wrong_way_is_caught(breaches: str, path: str, contract: str) -> None:
    assert f"{contract} BROKEN" in breaches
    importer = path.removesuffix(".py").replace("/", ".")
    assert f"{importer} " in breaches.split("Broken contracts", 1)[1]
