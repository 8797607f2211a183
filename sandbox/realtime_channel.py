"""One joined topic of one socket: its identity, its row changes and its broadcasts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import psycopg

from sandbox.change_filter import Binding, BindingRefused, binding_id, read_binding
from sandbox.realtime_broadcasts import Broadcasts
from sandbox.realtime_changes import Changes, Listener, Pool
from sandbox.realtime_faults import Faults
from sandbox.realtime_frames import Broadcast, Push, Ref, Version, compact, text_frame
from sandbox.realtime_token import Identity, TokenRefused, expired, verify
from sandbox.row_security import may_read_topic, may_write_topic
from sandbox.subscription import check

_log = logging.getLogger(__name__)

CHANGES_PUBLICATION = "supabase_realtime"
PREFIX = "realtime:"
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Services:
    """What channels share: the database, both ways of messages, the faults."""

    jwt_secret: str
    pool: Pool
    changes: Changes
    broadcasts: Broadcasts
    faults: Faults


class JoinRefused(Exception):
    """A join that is answered with an error; the text is the reason the client reads."""


@dataclass(slots=True)
class JoinConfig:
    """What a join asks for; a part of the wrong type counts as not given."""

    private: bool = False
    self_broadcast: bool = False
    acknowledge: bool = False
    presence: bool = True
    replication_ready: bool = False
    bindings: list[dict[str, object]] = field(default_factory=list[dict[str, object]])

    @classmethod
    def read(cls, payload: dict[str, object]) -> JoinConfig:
        """Return the configuration in a join's payload."""
        config = _object(payload.get("config"))
        broadcast = _object(config.get("broadcast"))
        presence = _object(config.get("presence"))
        wanted = config.get("postgres_changes")
        entries: list[object] = cast("list[object]", wanted) if isinstance(wanted, list) else []
        return cls(
            private=config.get("private") is True,
            self_broadcast=broadcast.get("self") is True,
            acknowledge=broadcast.get("ack") is True,
            presence=presence.get("enabled") is not False,
            replication_ready=broadcast.get("replication_ready") is True,
            bindings=[cast("dict[str, object]", entry) for entry in entries if isinstance(entry, dict)],
        )

    def reply(self) -> str:
        """Return the join's answer: every binding as it was sent, and the id it will go by."""
        echo = [{"id": binding_id(entry), **dict(sorted(entry.items()))} for entry in self.bindings]
        return compact({"postgres_changes": echo})


class Channel:
    """A joined channel, from the answer to its join until it is closed."""

    def __init__(
        self,
        services: Services,
        version: Version,
        send: Callable[[str | bytes], None],
        push: Push,
        config: JoinConfig,
        identity: Identity,
        token: str,
    ) -> None:
        self.topic = push.topic
        self.name = push.topic.removeprefix(PREFIX)
        self.join_ref: Ref = push.ref if push.join_ref is None else push.join_ref
        self.config = config
        self.version = version
        self.open = True
        self._services = services
        self._send = send
        self._identity = identity
        self._token: str = token
        self._listener: Listener | None = None
        self._subscribing: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._may_write: bool | None = None if config.private else True

    @property
    def private(self) -> bool:
        """Whether the database's policies decide who takes part."""
        return self.config.private

    @property
    def wants_changes(self) -> bool:
        """Whether it takes the path of row changes; other channels are for broadcasts."""
        return bool(self.config.bindings)

    def start(self) -> None:
        """Take part: call right after the join was answered."""
        self._services.broadcasts.join(self)
        self._watch_expiry()
        if self.config.presence:
            self._push("presence_state", "{}")
        if self.config.replication_ready:
            self._system("system", "ok", "Replication connection established")
        if self.wants_changes:
            self._subscribe(renewed=False)

    def close(self) -> None:
        """Leave everything, without a word to the client."""
        if not self.open:
            return
        self.open = False
        self._services.broadcasts.leave(self)
        if self._listener:
            self._services.changes.remove(self._listener)
        if self._subscribing:
            self._subscribing.cancel()
        if self._expiry:
            self._expiry.cancel()

    def say_closed(self) -> None:
        """Tell the client that this join is over."""
        self._send(text_frame(self.version, self.topic, "phx_close", "{}", self.join_ref, self.join_ref))

    def deliver(self, frame: str | bytes) -> None:
        """Send a broadcast that is framed already."""
        if self.open:
            self._send(frame)

    async def broadcast(self, push: Push) -> bool:
        """Pass on what the client says to the topic; return whether to acknowledge it.

        A private topic's client without the right to write is ignored.
        """
        if self._may_write is None:
            try:
                async with self._services.pool.connection() as connection:
                    self._may_write = await may_write_topic(connection, self.name, self._identity)
            except psycopg.OperationalError as error:
                _log.warning("a broadcast was dropped: %s", error)
                return False
        if not self._may_write or push.broadcast is None:
            return False
        self._tell(push.broadcast)
        return self.config.acknowledge

    async def renew(self, token: object) -> None:
        """Go on under a new token, or end if it is not good enough."""
        if not isinstance(token, str) or token.startswith("sb_") or token == self._token:
            return
        try:
            identity = verify(token, self._services.jwt_secret, time.time())
        except TokenRefused as refusal:
            text = ":signature_error" if refusal.code == "JwtSignatureError" else str(refusal)
            self.end(text)
            return
        if self.config.private:
            try:
                await authorize(self._services, self.name, identity)
            except JoinRefused:
                self.end(f"You do not have permissions to read from this Channel topic: {self.name}")
                return
            self._may_write = None
        self._identity = identity
        self._token = token
        self._watch_expiry()
        if self.wants_changes:
            self._subscribe(renewed=True)

    def end(self, reason: str) -> None:
        """Close the channel from this side and say why."""
        if self.open:
            self._system("system", "error", reason)
            self.say_closed()
            self.close()

    def _tell(self, broadcast: Broadcast) -> None:
        sender = None if self.config.self_broadcast else self
        self._services.broadcasts.send(self.name, self.config.private, broadcast, sender)

    def _watch_expiry(self) -> None:
        if self._expiry:
            self._expiry.cancel()
        remaining = self._identity.expires_at - time.time()
        self._expiry = asyncio.get_running_loop().call_later(
            max(0.0, min(remaining, 1e8)), lambda: self.end(str(expired(0)))
        )

    def _subscribe(self, renewed: bool) -> None:
        if self._subscribing:
            self._subscribing.cancel()
        delay = self._services.faults.timing.until_subscribed(renewed)
        self._subscribing = asyncio.create_task(self._subscribe_after(delay), name=f"subscribe {self.name}")

    async def _subscribe_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        identity = self._identity
        try:
            bindings = tuple(read_binding(entry) for entry in self.config.bindings)
            await self._check(identity, bindings)
        except BindingRefused as refusal:
            self._system("postgres_changes", "error", str(refusal))
            return
        except psycopg.Error as error:
            _log.warning("the subscription of %s failed: %s", self.name, error)
            self._system("postgres_changes", "error", f"{{:error, {compact(str(error))}}}")
            return
        if self._listener:
            self._services.changes.remove(self._listener)
        self._listener = Listener(identity, bindings, self._deliver_change)
        self._services.changes.add(self._listener)
        self._system("postgres_changes", "ok", "Subscribed to PostgreSQL")

    async def _check(self, identity: Identity, bindings: tuple[Binding, ...]) -> None:
        while True:
            try:
                async with self._services.pool.connection() as connection:
                    await check(connection, CHANGES_PUBLICATION, identity.role, bindings)
                return
            except psycopg.OperationalError as error:
                _log.info("the subscription of %s waits for the database: %s", self.name, error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _deliver_change(self, data: str, ids: list[int]) -> None:
        if self.open:
            payload = f'{{"data":{data},"ids":{compact(ids)}}}'
            self._send(text_frame(self.version, self.topic, "postgres_changes", payload))

    def _system(self, extension: str, status: str, message: str) -> None:
        payload = {"message": message, "status": status, "extension": extension, "channel": self.name}
        self._push("system", compact(payload))

    def _push(self, event: str, payload: str) -> None:
        self._send(text_frame(self.version, self.topic, event, payload, None, self.join_ref))


async def authorize(services: Services, name: str, identity: Identity) -> None:
    """Return if the identity may join the private topic.

    Raises:
        JoinRefused: it may not, or the database is away.
    """
    try:
        async with services.pool.connection() as connection:
            allowed = await may_read_topic(connection, name, identity)
    except psycopg.OperationalError:
        raise JoinRefused("UnableToConnectToProject: Realtime was unable to connect to the project database") from None
    if not allowed:
        raise JoinRefused(f"Unauthorized: You do not have permissions to read from this Channel topic: {name}")


def _object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
