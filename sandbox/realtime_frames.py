"""Realtime's frames: Phoenix messages as JSON objects (vsn 1.0.0), as arrays and binary (vsn 2.0.0).

The server's frames of version 1 have exactly four keys, in this order, and no join reference.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

Ref = str | int | None


class Version(StrEnum):
    """The serializer a socket was opened with."""

    V1 = "1.0.0"
    V2 = "2.0.0"


class MalformedFrame(ValueError):
    """What a client sent is no message; the server logs it and goes on."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What one sender told a topic; `body` is JSON text as bytes unless `binary`."""

    event: str
    body: bytes
    binary: bool = False
    meta: str | None = None
    whole: str | None = None
    """The payload exactly as the sender framed it, for receivers of every version."""

    def frame(self, version: Version, topic: str) -> str | bytes | None:
        """Return the frame for a receiver, or None where its version cannot carry it."""
        if self.whole is not None:
            return text_frame(version, topic, "broadcast", self.whole)
        if version is Version.V2:
            names = [part.encode() for part in (topic, self.event, self.meta or "")]
            if any(len(name) > 255 for name in names):
                return None
            head = struct.pack(">BBBBB", 4, *(len(name) for name in names), 0 if self.binary else 1)
            return head + b"".join(names) + self.body
        if self.binary:
            return None
        meta = f'"meta":{self.meta},' if self.meta else ""
        payload = f'{{"event":{compact(self.event)},{meta}"payload":{self.body.decode()},"type":"broadcast"}}'
        return text_frame(version, topic, "broadcast", payload)


@dataclass(frozen=True, slots=True)
class Push:
    """One message of a client."""

    topic: str
    event: str
    payload: dict[str, object]
    ref: Ref
    join_ref: Ref
    broadcast: Broadcast | None = None


def compact(value: object) -> str:
    """Return the value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def text_frame(version: Version, topic: str, event: str, payload: str, ref: Ref = None, join_ref: Ref = None) -> str:
    """Return one frame around a payload that is JSON text already."""
    if version is Version.V2:
        names = f"{compact(join_ref)},{compact(ref)},{compact(topic)},{compact(event)}"
        return f"[{names},{payload}]"
    return f'{{"ref":{compact(ref)},"event":{compact(event)},"payload":{payload},"topic":{compact(topic)}}}'


def read_text(version: Version, text: str) -> Push:
    """Return the message of a text frame.

    Raises:
        MalformedFrame: no JSON, or a part is missing or of the wrong type.
    """
    try:
        message: object = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise MalformedFrame("not JSON") from None
    if version is Version.V2:
        if not isinstance(message, list) or len(cast("list[object]", message)) < 5:
            raise MalformedFrame("expected an array of five")
        join_ref, ref, topic, event, payload = cast("list[object]", message)[:5]
    else:
        if not isinstance(message, dict):
            raise MalformedFrame("expected an object")
        parts = cast("dict[str, object]", message)
        if missing := [key for key in ("topic", "event", "payload", "ref") if key not in parts]:
            raise MalformedFrame(f"without {', '.join(missing)}")
        join_ref, ref = parts.get("join_ref"), parts["ref"]
        topic, event, payload = parts["topic"], parts["event"], parts["payload"]
    if not isinstance(topic, str) or not isinstance(event, str):
        raise MalformedFrame("topic and event are text")
    if not isinstance(payload, dict):
        payload = {}
    values = cast("dict[str, object]", payload)
    broadcast = None
    if event == "broadcast":
        broadcast = Broadcast(str(values.get("event")), b"", whole=compact(values))
    return Push(topic, event, values, _ref(ref), _ref(join_ref), broadcast)


def read_binary(data: bytes) -> Push:
    """Return the message of a binary frame; clients send broadcasts so (kind 3).

    Raises:
        MalformedFrame: another kind, cut short, or not UTF-8.
    """
    if len(data) < 7 or data[0] != 3:
        raise MalformedFrame("not a broadcast push")
    _kind, join_size, ref_size, topic_size, event_size, meta_size, encoding = struct.unpack_from(">7B", data)
    offset, names = 7, list[str]()
    for size in (join_size, ref_size, topic_size, event_size, meta_size):
        if offset + size > len(data):
            raise MalformedFrame("cut short")
        try:
            names.append(data[offset : offset + size].decode())
        except UnicodeDecodeError:
            raise MalformedFrame("not UTF-8") from None
        offset += size
    join_ref, ref, topic, event, _meta = names
    body = data[offset:]
    if encoding == 1:
        try:
            json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise MalformedFrame("payload is not JSON") from None
    broadcast = Broadcast(event, body, binary=encoding == 0)
    return Push(topic, "broadcast", {}, ref or None, join_ref or None, broadcast)


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _ref(value: object) -> Ref:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise MalformedFrame("a ref is text")
