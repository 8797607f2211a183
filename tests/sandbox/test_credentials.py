"""Secrets of a data directory are made once and kept."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from sandbox.credentials import Credentials


def test_they_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    made = Credentials.of(tmp_path)
    assert Credentials.of(tmp_path) == made
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_a_directory_from_before_there_were_functions_gets_a_data_key(tmp_path: Path) -> None:
    made, file = Credentials.of(tmp_path), tmp_path / "credentials.json"
    kept = json.loads(file.read_text())
    del kept["data_keys"]
    file.write_text(json.dumps(kept))
    renewed = Credentials.of(tmp_path)
    assert renewed.people == made.people
    keys = json.loads(renewed.data_keys)
    assert len(base64.b64decode(keys["keys"][keys["current"]])) == 32
    assert Credentials.of(tmp_path) == renewed
