"""The secrets of one data directory: made once, kept readable by their owner alone."""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Person:
    """A demo user's address, password and keys at the venue."""

    email: str
    password: str
    api_key: str
    api_secret: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """The project's secret, the two API keys made with it, and the demo users."""

    jwt_secret: str
    anon_key: str
    service_role_key: str
    people: dict[str, Person]
    data_keys: str
    """What users' keys are encrypted with: the functions' secret CREDENTIALS_KEYS."""

    @staticmethod
    def of(data: Path) -> Credentials:
        """Those kept in `data`, or new ones."""
        file = data / "credentials.json"
        if file.exists():
            kept = json.loads(file.read_text())
            if "data_keys" not in kept:  # a directory from before there were functions
                kept["data_keys"] = _data_keys()
                write_private(file, json.dumps(kept, indent=2))
            people = {name: Person(**person) for name, person in kept.pop("people").items()}
            return Credentials(**kept, people=people)
        made = _make()
        write_private(file, json.dumps(asdict(made), indent=2))
        return made


def write_private(file: Path, text: str) -> None:
    """Write a file whole or not at all, mode 0600."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    part.rename(file)


def _make() -> Credentials:
    jwt_secret = secrets.token_urlsafe(48)
    tokens, now = Tokens(jwt_secret), int(time.time())
    return Credentials(
        jwt_secret=jwt_secret,
        anon_key=tokens.api_key("anon", now),
        service_role_key=tokens.api_key("service_role", now),
        people={
            name: Person(
                email=f"{name.lower()}@sandbox.example",
                password=secrets.token_urlsafe(12),
                api_key=secrets.token_hex(32),
                api_secret=secrets.token_hex(32),
            )
            for name in ("A", "B")
        },
        data_keys=_data_keys(),
    )


def _data_keys() -> str:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return json.dumps({"current": "1", "keys": {"1": key}})
