"""Carries feeds to their subscribers; a stream nobody listens to costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from sandbox.venue.clock import VenueClock
from sandbox.venue.feeds import Feed, Feeds
from sandbox.venue.market import Market

__all__ = ["Streams", "Subscriber"]


class Subscriber(Protocol):
    """Takes payloads without waiting: `raw` as they are, `combined` wrapped with the stream's name."""

    def take(self, raw: str, combined: str) -> None: ...


class Streams:
    """The open streams by name: opened by the first subscriber, closed with the last."""

    def __init__(self, markets: Mapping[str, Market], clock: VenueClock) -> None:
        self._feeds = Feeds(markets)
        self._clock = clock
        self._channels: dict[str, _Channel] = {}

    def subscribe(self, name: str, subscriber: Subscriber) -> None:
        """Adds a subscriber; a stream of an unlisted symbol stays silent."""
        channel = self._channels.get(name)
        if channel is None:
            feed = self._feeds.open(name)
            if feed is None:
                return
            channel = self._channels[name] = _Channel(name, feed, self._clock)
        channel.add(subscriber)

    def unsubscribe(self, name: str, subscriber: Subscriber) -> None:
        channel = self._channels.get(name)
        if channel is not None and channel.remove(subscriber):
            self._channels.pop(name).close()

    def subscribers(self) -> dict[str, int]:
        """How many listen to each open stream."""
        return {name: channel.listeners for name, channel in self._channels.items()}

    def close(self) -> None:
        """Ends every stream."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


class _Channel:
    """One stream: reads its feed when due, or when a test changed its market, and hands round what is new."""

    def __init__(self, name: str, feed: Feed, clock: VenueClock) -> None:
        self._name = name
        self._feed = feed
        self._clock = clock
        self._subscribers: set[Subscriber] = set()
        self._last: list[tuple[str, str]] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        for market in feed.markets:
            market.listeners.add(self._poke)
        if feed.greets:
            self._poke()
        else:
            self._wait()

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)
        if self._feed.greets:
            for raw, combined in self._last:
                subscriber.take(raw, combined)

    def remove(self, subscriber: Subscriber) -> bool:
        """Whether that was the last."""
        self._subscribers.discard(subscriber)
        return not self._subscribers

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for market in self._feed.markets:
            market.listeners.discard(self._poke)
        self._feed.close()

    def _poke(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_soon(self._turn)

    def _wait(self) -> None:
        now = self._clock.market_ms()
        # a timer may go off within the millisecond before the moment
        self._timer = self._loop.call_later((self._feed.due(now) - now + 1) / 1000, self._turn)

    def _turn(self) -> None:
        self._wait()
        payloads = self._feed.read()
        if not payloads:
            return
        self._last = [(raw, f'{{"stream":"{self._name}","data":{raw}}}') for raw in payloads]
        for subscriber in tuple(self._subscribers):
            for raw, combined in self._last:
                subscriber.take(raw, combined)
