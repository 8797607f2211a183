"""Settings from the environment or `.env`. A half-configured worker says what is missing and does not start."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MODES = ("paper", "testnet", "live")
SHOWN = ("paper", "testnet")
"""The modes that a demonstration can be made in: the others trade with real money."""

REAL_MONEY = ("binance.com", "binance.us")
"""Where orders cost real money: the exchange's own domains, which no origin set by hand may lead testnet traders to."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SettingsError(Exception):
    """A setting is missing or wrong; the text is one line and says which and what to do."""


class Settings(BaseSettings):
    """What the operator decides. Durations in seconds unless their name says otherwise."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    supabase_url: str
    supabase_service_role_key: SecretStr
    exchange_base_url: str | None = None
    allowed_modes: Annotated[tuple[str, ...], NoDecode] = ("paper", "testnet")
    max_execution_time: Seconds = 60.0
    poll_interval: Seconds = 1.0
    default_slippage: Annotated[Decimal, Field(ge=0, lt=100)] = Decimal("0.5")
    max_signal_age: Seconds = 120.0
    sweep_interval: Seconds = 2.0
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = 10.0
    recv_window_ms: Annotated[int, Field(gt=0, le=60_000)] = 5000
    unknown_margin_seconds: Seconds = 15.0
    late_fill_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    keys_cache_seconds: Seconds = 60.0
    drain_seconds: Seconds = 20.0
    realtime: bool = True
    log_format: Annotated[str, Field(pattern="^(auto|text|json)$")] = "auto"
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @field_validator("allowed_modes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_modes")
    @classmethod
    def _known(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [mode for mode in modes if mode not in MODES]
        if unknown or not modes:
            raise ValueError(f"must name some of {', '.join(MODES)}, separated by commas, and nothing else")
        return modes

    @field_validator("supabase_url", "exchange_base_url")
    @classmethod
    def _origin(cls, url: str | None) -> str | None:
        if url is None:
            return None
        written = url.strip()
        parts = urlsplit(written)
        try:
            bare = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username) and parts.port != 0
        except ValueError:  # a port that is none
            bare = False
        plain = written.isprintable() and " " not in written  # urlsplit passes over line breaks in silence
        if parts.scheme not in ("http", "https") or not parts.hostname or not bare or not plain:
            raise ValueError("must be an origin, such as https://project.supabase.co, with nothing behind the host")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("supabase_service_role_key")
    @classmethod
    def _key(cls, key: SecretStr) -> SecretStr:
        written = key.get_secret_value().strip()
        if not written:
            raise ValueError("is blank; copy the key of the service role")
        if not written.isascii() or not written.isprintable() or " " in written:
            raise ValueError("is no key: it has blanks or other characters that no key has")
        return SecretStr(written)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.recv_window_ms > self.lease_seconds * 500:
            raise ValueError(
                f"RECV_WINDOW_MS: {self.recv_window_ms} is above half of LEASE_SECONDS ({self.lease_seconds:g} s); "
                "a worker that slept could still place an order. Lower it or raise LEASE_SECONDS"
            )
        if "live" in self.allowed_modes and self.exchange_base_url is not None:
            raise ValueError("EXCHANGE_BASE_URL: must not be set where ALLOWED_MODES names live; unset one of them")
        if "testnet" in self.allowed_modes and self.exchange_base_url is not None and _is_real(self.exchange_base_url):
            raise ValueError(
                "EXCHANGE_BASE_URL: leads to an exchange of real money, where testnet must not trade; unset it, and "
                "name live in ALLOWED_MODES to trade there"
            )
        return self


def read_settings(env_file: Path | None = None) -> Settings:
    """Read the settings; what the environment says wins over the file. Raises SettingsError."""
    if env_file is not None and not env_file.is_file():
        raise SettingsError(f"{env_file}: there is no such file; name the env file that the sandbox or you wrote")
    try:
        settings = Settings(_env_file=env_file or ".env")  # pyright: ignore[reportCallIssue]
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{env_file or '.env'}: cannot be read as a dotenv file ({error})") from None
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    return settings


def _is_real(origin: str) -> bool:
    host = (urlsplit(origin).hostname or "").rstrip(".")  # the dot at a name's end is no part of it
    return any(host == domain or host.endswith(f".{domain}") for domain in REAL_MONEY)


def _sentence(error: ValidationError) -> str:
    """All that is wrong, in one line."""
    missing: list[str] = []
    wrong: list[str] = []
    for one in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in one["loc"]).upper()
        if one["type"] == "missing":
            missing.append(name)
        else:
            message = one["msg"].removeprefix("Value error, ")
            wrong.append(f"{name}: {message}" if name else message)
    said = list(wrong)
    if missing:
        said.append(f"missing: {', '.join(missing)}; set them in the environment or in .env")
    return "; ".join(said)
