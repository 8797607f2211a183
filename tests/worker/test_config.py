"""Settings: what is missing or wrong is said in one line, and nothing starts half configured."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from worker.config import Settings, SettingsError, read_settings

KEY = "service-role-key-of-a-test"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting in the environment, and no `.env` near."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names a project."""
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:54321/")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", KEY)
    return monkeypatch


def refused() -> str:
    """The one line that the settings are refused with."""
    with pytest.raises(SettingsError) as error:
        read_settings()
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 400
    return said


def test_a_project_alone_is_enough(project: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    assert settings.supabase_url == "http://127.0.0.1:54321"
    assert settings.supabase_service_role_key.get_secret_value() == KEY
    assert settings.allowed_modes == ("paper", "testnet")
    assert settings.default_slippage == Decimal("0.5")
    assert (settings.max_execution_time, settings.poll_interval, settings.max_signal_age) == (60, 1, 120)
    assert (settings.sweep_interval, settings.lease_seconds, settings.recv_window_ms) == (2, 10, 5000)
    assert (settings.unknown_margin_seconds, settings.keys_cache_seconds) == (15, 60)


def test_all_that_is_missing_is_named_at_once() -> None:
    said = refused()
    assert "SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY" in said
    assert ".env" in said


def test_an_empty_variable_is_missing(project: pytest.MonkeyPatch) -> None:
    project.setenv("SUPABASE_URL", "")
    assert "missing: SUPABASE_URL" in refused()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPABASE_URL", "project.supabase.co"),
        ("SUPABASE_URL", "ftp://project.supabase.co"),
        ("SUPABASE_URL", "https://"),
        ("SUPABASE_URL", "http://[::1"),
        ("SUPABASE_URL", "http://127.0.0.1:port"),
        ("SUPABASE_URL", "http://127.0.0.1:99999"),
        ("SUPABASE_URL", "http://127.0.0.1:0"),
        ("SUPABASE_URL", "https://project.supabase.co/rest/v1"),
        ("SUPABASE_URL", "https://project.supabase.co?apikey=1"),
        ("SUPABASE_URL", "https://project.supabase.co#settings"),
        ("SUPABASE_URL", "https://me:secret@project.supabase.co"),
        ("SUPABASE_URL", "https://my project.supabase.co"),
        ("SUPABASE_URL", "https://pro\nject.supabase.co"),
        ("SUPABASE_SERVICE_ROLE_KEY", "kéy"),
        ("SUPABASE_SERVICE_ROLE_KEY", "“key”"),
        ("SUPABASE_SERVICE_ROLE_KEY", "a key"),
        ("SUPABASE_SERVICE_ROLE_KEY", "a\tkey"),
        ("SUPABASE_SERVICE_ROLE_KEY", "a\nkey"),
        ("SUPABASE_SERVICE_ROLE_KEY", "a\r\nkey"),
        ("SUPABASE_SERVICE_ROLE_KEY", "a\u00a0key"),
        ("SUPABASE_SERVICE_ROLE_KEY", "  "),
        ("EXCHANGE_BASE_URL", "localhost:54400"),
        ("EXCHANGE_BASE_URL", "http://localhost:5440O"),
        ("EXCHANGE_BASE_URL", "http://localhost:65536"),
        ("EXCHANGE_BASE_URL", "http://localhost:54400/api"),
        ("ALLOWED_MODES", "paper,demo"),
        ("ALLOWED_MODES", ","),
        ("MAX_EXECUTION_TIME", "0"),
        ("MAX_EXECUTION_TIME", "soon"),
        ("POLL_INTERVAL", "-1"),
        ("SWEEP_INTERVAL", "nan"),
        ("MAX_SIGNAL_AGE", "inf"),
        ("DEFAULT_SLIPPAGE", "-0.1"),
        ("DEFAULT_SLIPPAGE", "100"),
        ("DEFAULT_SLIPPAGE", "NaN"),
        ("LEASE_SECONDS", "0.5"),
        ("KEYS_CACHE_SECONDS", "0"),
        ("RECV_WINDOW_MS", "5001"),
        ("RECV_WINDOW_MS", "0"),
        ("RECV_WINDOW_MS", "60001"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("REALTIME", "perhaps"),
    ],
)
def test_a_wrong_value_is_refused_by_name(project: pytest.MonkeyPatch, name: str, value: str) -> None:
    project.setenv(name, value)
    assert name in refused()


@pytest.mark.parametrize("around", [f"{KEY}\n", f" {KEY} ", f"\t{KEY}\r\n"])
def test_blanks_around_a_key_and_an_address_are_no_part_of_them(project: pytest.MonkeyPatch, around: str) -> None:
    project.setenv("SUPABASE_SERVICE_ROLE_KEY", around)
    project.setenv("SUPABASE_URL", around.replace(KEY, "https://project.supabase.co/"))
    settings = read_settings()
    assert settings.supabase_service_role_key.get_secret_value() == KEY
    assert settings.supabase_url == "https://project.supabase.co"


@pytest.mark.parametrize("key", ["kéy-which-is-long-enough", "two keys-which-are-long-enough"])
def test_a_key_that_is_refused_is_not_repeated(project: pytest.MonkeyPatch, key: str) -> None:
    project.setenv("SUPABASE_SERVICE_ROLE_KEY", key)
    assert "long-enough" not in refused()


def test_all_that_is_wrong_is_named_at_once(project: pytest.MonkeyPatch) -> None:
    project.setenv("POLL_INTERVAL", "0")
    project.setenv("DEFAULT_SLIPPAGE", "much")
    project.delenv("SUPABASE_URL")
    said = refused()
    assert all(name in said for name in ("POLL_INTERVAL", "DEFAULT_SLIPPAGE", "SUPABASE_URL"))


def test_the_receive_window_is_half_the_lease_at_most(project: pytest.MonkeyPatch) -> None:
    project.setenv("LEASE_SECONDS", "20")
    project.setenv("RECV_WINDOW_MS", "10000")
    assert read_settings().recv_window_ms == 10000
    project.setenv("RECV_WINDOW_MS", "10001")
    assert "LEASE_SECONDS" in refused()


def test_a_repointed_exchange_is_never_traded_live(project: pytest.MonkeyPatch) -> None:
    project.setenv("EXCHANGE_BASE_URL", "http://127.0.0.1:54400")
    assert read_settings().exchange_base_url == "http://127.0.0.1:54400"
    project.setenv("ALLOWED_MODES", "paper, live")
    assert "EXCHANGE_BASE_URL" in refused()


@pytest.mark.parametrize(
    "origin",
    ["https://api.binance.com", "https://API1.Binance.com:443", "https://api.binance.com.", "https://api.binance.us"],
)
def test_no_testnet_trader_is_led_to_real_money(project: pytest.MonkeyPatch, origin: str) -> None:
    project.setenv("EXCHANGE_BASE_URL", origin)
    assert "EXCHANGE_BASE_URL" in refused()
    project.setenv("ALLOWED_MODES", "paper")
    assert read_settings().exchange_base_url == origin


@pytest.mark.parametrize("origin", ["https://api.binance.com.example", "https://notbinance.com", "http://127.0.0.1:1"])
def test_another_exchange_is_no_real_one_by_its_likeness(project: pytest.MonkeyPatch, origin: str) -> None:
    project.setenv("EXCHANGE_BASE_URL", origin)
    assert read_settings().exchange_base_url == origin


def test_live_must_be_named(project: pytest.MonkeyPatch) -> None:
    assert "live" not in read_settings().allowed_modes


@pytest.mark.parametrize(
    "setting",
    [
        "SUPABASE_URL",
        "EXCHANGE_BASE_URL",
        "ALLOWED_MODES",
        "SWEEP_INTERVAL",
        "LOG_LEVEL",
    ],
)
def test_a_key_pasted_into_the_wrong_setting_is_not_repeated(project: pytest.MonkeyPatch, setting: str) -> None:
    project.setenv(setting, "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl")
    assert "eyJ" not in refused()


def test_settings_show_no_key(project: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    assert KEY not in repr(settings)
    assert KEY not in str(settings.model_dump())


def test_the_environment_goes_before_the_file(project: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SUPABASE_URL=http://of-the-file\nSWEEP_INTERVAL=7\nUNRELATED=1\n")
    settings = read_settings()
    assert (settings.supabase_url, settings.sweep_interval) == ("http://127.0.0.1:54321", 7)


def test_a_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.env"
    file.write_text(f"SUPABASE_URL=http://127.0.0.1:1\nSUPABASE_SERVICE_ROLE_KEY={KEY}\n")
    assert read_settings(file).supabase_url == "http://127.0.0.1:1"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.env"):
        read_settings(tmp_path / "none.env")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "binary.env"
    file.write_bytes(b"SUPABASE_URL=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"binary\.env"):
        read_settings(file)
