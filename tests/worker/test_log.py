"""Logs carry no secret, whoever writes them and wherever in a record it stands."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from worker import log

KEY = "sb_secret_of_a_test_project"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl"

Written = Callable[[], str]
Configured = Callable[[str], Written]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configured]:
    """Configure logs of a form and hand over what is written to them; logging is left as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in log.QUIET}
    stream = io.StringIO()

    def configure(form: str) -> Written:
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure("debug", form, [KEY, ""])
        return stream.getvalue

    yield configure
    root.handlers, root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


@pytest.fixture(params=["text", "json"])
def written(request: pytest.FixtureRequest, configured: Configured) -> Written:
    """What is written to logs of either form."""
    return configured(request.param)


def assert_clean(text: str) -> None:
    """Something was written, and no secret in it."""
    assert text
    assert KEY not in text
    assert TOKEN not in text
    assert "c2lnbmF0dXJl" not in text


def test_a_message_of_ours_is_redacted(written: Written) -> None:
    structlog.get_logger("worker").info(f"connecting with {KEY}", token=TOKEN, url=f"https://x/?apikey={KEY}")
    assert_clean(written())


def test_a_message_of_a_librarys_is_redacted(written: Written) -> None:
    logging.getLogger("library").warning("GET https://x/rest?apikey=%s&a=1 with %s", "abc123", TOKEN)
    assert_clean(written())
    assert "abc123" not in written()
    assert "a=1" in written()


@pytest.mark.parametrize("name", ["apikey", "signature", "token", "secret", "SIGNATURE"])
def test_a_secret_in_an_address_is_redacted_wherever_it_stands(written: Written, name: str) -> None:
    logging.getLogger("library").warning("wss://x/socket?vsn=1&%s=hush&end=1", name)
    assert "hush" not in written()
    assert "end=1" in written()


def test_a_traceback_is_redacted(written: Written) -> None:
    try:
        raise ValueError(f"refused: {KEY} and {TOKEN}")
    except ValueError:
        logging.getLogger("streams.execution").exception("an order could not be placed")
        structlog.get_logger("worker").exception("neither could this one")
    assert_clean(written())
    assert "ValueError" in written()


@pytest.mark.parametrize(
    "value", [ValueError(f"no {KEY}"), {"headers": {"apikey": KEY}}, [TOKEN], (KEY,), TOKEN.encode()]
)
def test_a_secret_inside_a_value_is_redacted(written: Written, value: object) -> None:
    structlog.get_logger("worker").warning("refused", what=value)
    assert_clean(written())


def test_quiet_libraries_say_nothing(written: Written) -> None:
    for name in log.QUIET:
        logging.getLogger(name).error("a frame: %s", TOKEN)
    assert written() == ""


def test_json_is_one_object_a_line(configured: Configured) -> None:
    written = configured("json")
    structlog.get_logger("worker").info("opened", signal="1")
    logging.getLogger("library").warning("one\ntwo")
    first, second = (json.loads(line) for line in written().splitlines())
    assert (first["event"], first["signal"], first["level"]) == ("opened", "1", "info")
    assert second["event"] == "one\ntwo"
