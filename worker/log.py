"""Structured logs: lines for people on a terminal, JSON for programs, and no secret in either."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
QUERY_KEY = re.compile(r"((?:apikey|signature|token|secret)=)[^&\s\"']+", re.IGNORECASE)
QUIET = ("httpx", "httpcore", "websockets", "realtime", "ccxt", "asyncio", "hpack")


def configure(level: str, form: str, secrets: Iterable[str] = ()) -> None:
    """Send every library's records through one renderer to standard error.

    `form` is text, json, or auto: text where standard error is a terminal.
    """
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        _redactor([secret for secret in secrets if secret]),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if as_text else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:  # what they have to say, the adapters say themselves
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _redactor(secrets: list[str]) -> Processor:
    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: _shown(value, secrets) for name, value in event.items()}

    return redact


def _shown(value: object, secrets: list[str]) -> object:
    """A value as it may be shown: numbers as they are, all else as text without secrets, however deep."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _redacted(value, secrets)
    if isinstance(value, bytes):
        return _redacted(value.decode(errors="replace"), secrets)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return {_redacted(str(name), secrets): _shown(one, secrets) for name, one in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(one, secrets) for one in cast("Iterable[object]", value)]
    return _redacted(repr(value), secrets)


def _redacted(written: str, secrets: list[str]) -> str:
    for secret in secrets:
        written = written.replace(secret, "[secret]")
    return QUERY_KEY.sub(r"\1[secret]", JWT.sub("[token]", written))
