"""Broadcasts on their way from a sender to everybody who joined the topic."""

from __future__ import annotations

from typing import Protocol

from sandbox.pgoutput import Action, Change
from sandbox.realtime_faults import Path
from sandbox.realtime_frames import Broadcast, Version, compact


class Member(Protocol):
    """A joined channel; private and public ones of one name never hear each other."""

    @property
    def topic(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def private(self) -> bool: ...
    @property
    def version(self) -> Version: ...
    def deliver(self, frame: str | bytes) -> None: ...


class Broadcasts:
    """Who joined which topic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._topics: dict[tuple[str, bool], dict[Member, None]] = {}

    def join(self, member: Member) -> None:
        """Let the member hear what is said from now on."""
        self._topics.setdefault((member.name, member.private), {})[member] = None

    def leave(self, member: Member) -> None:
        """Forget the member."""
        key = (member.name, member.private)
        members = self._topics.get(key, {})
        members.pop(member, None)
        if not members:
            self._topics.pop(key, None)

    def send(self, name: str, private: bool, broadcast: Broadcast, sender: Member | None = None) -> None:
        """Tell everybody on the topic but the sender."""
        members = [member for member in self._topics.get((name, private), ()) if member is not sender]
        if members:
            self._path.carry(lambda: _deliver(members, broadcast))

    def receive(self, change: Change) -> None:
        """Take a row of `realtime.messages`: what SQL sent with `realtime.send`."""
        values = change.new
        if change.action is not Action.INSERT or values is None or values.get("extension") != "broadcast":
            return
        topic, event, payload = values.get("topic"), values.get("event"), values.get("payload")
        if topic is None or event is None or payload is None:
            return
        meta = compact({"id": values.get("id")})
        self.send(topic, values.get("private") == "t", Broadcast(event, payload.encode(), meta=meta))


def _deliver(members: list[Member], broadcast: Broadcast) -> None:
    frames: dict[Version, str | bytes | None] = {}
    for member in members:
        if member.version not in frames:
            frames[member.version] = broadcast.frame(member.version, member.topic)
        frame = frames[member.version]
        if frame is not None:
            member.deliver(frame)
