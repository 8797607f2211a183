"""The composition root: settings become adapters, adapters become streams; run until told to stop, then drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal as signals
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import reactivex as rx
import structlog
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from streams.accounts import Presence
from streams.aio import LoopScheduler, from_callbacks
from streams.domain.account import Account
from streams.domain.errors import Broken, Dismissed, Transient
from streams.domain.position import Position
from streams.execution import Execution, ExecutionSettings
from streams.in_hand import InHand
from streams.intake import Intake
from streams.marks import Marks
from streams.monitor import Monitor, MonitorSettings
from streams.outcome import (
    Changed,
    Closed,
    Deferred,
    Dropped,
    Failed,
    InDoubt,
    Monitored,
    Opened,
    Outcome,
    Resting,
    TurnedAway,
)
from streams.pipeline import Pipeline, positions_opened
from streams.ports import Exchange, Hint
from streams.recovery import Recovery
from streams.tracker import Tracker, TrackingSettings
from worker.adapters import realtime
from worker.adapters.ccxt_exchange import CcxtExchange, CcxtMarket, Connect, GuardedConnector
from worker.adapters.clock import SystemClock
from worker.adapters.edge_keyring import EdgeKeyring
from worker.adapters.paper_exchange import PaperExchange
from worker.adapters.supabase_store import SupabaseStore, connect_store
from worker.config import Settings, SettingsError
from worker.key_notes import KeyNotes

log: structlog.stdlib.BoundLogger = structlog.get_logger("worker")

RECHECK_SECONDS = 5.0
EXIT_RECV_WINDOW_MS = 1000
"""Of exits, protection and what cancels them: their doubts must be short."""
REGISTER_PAUSE_SECONDS = 2.0
GARBAGE_THRESHOLDS = (2_000, 10, 225)
"""Of the garbage collector's three generations: objects, then rounds of the one before.

A round stops the loop: the second for 10 ms, for 50 if it came after 150,000 objects; the third for as long as there is
anything, half a second with a thousand positions, so it comes as seldom as by 4,500,000 objects. Smaller rounds of the
first two leave more to the third: what a thousand entries leave behind takes 50 MB by then, and 75 at half the size.
"""


class App:
    """One worker process; `connect` makes the connections to an exchange, to its own hosts alone."""

    def __init__(self, settings: Settings, connect: Connect = GuardedConnector) -> None:
        self._settings = settings
        self._connect = connect
        self._stopped = asyncio.Event()
        self._broken: BaseException | None = None

    def stop(self) -> None:
        """Ask for a clean end."""
        self._stopped.set()

    async def run(self) -> int:
        """Serve until stopped. Returns the exit code: 0 after a clean drain, 1 where something was cut short."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._alarm_of_loop)
        for number in (signals.SIGINT, signals.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        settings, clock = self._settings, SystemClock()
        store = await connect_store(
            settings.supabase_url,
            settings.supabase_service_role_key.get_secret_value(),
            settings.lease_seconds,
            settings.allowed_modes,
            settings.max_signal_age,
        )
        async with AsyncExitStack() as open_:
            open_.push_async_callback(store.close)
            markets = await self._markets(clock, open_)
            exchanges = self._exchanges(store, markets, clock, open_)
            return await self._serve(store, markets, exchanges, clock)

    async def _markets(self, clock: SystemClock, open_: AsyncExitStack) -> dict[str, CcxtMarket]:
        """The market of each mode: paper shares the live one; the testnet is a world of its own, hosts and all."""
        base_url = self._settings.exchange_base_url
        markets: dict[str, CcxtMarket] = {}
        for mode in self._settings.allowed_modes:
            testnet = mode == "testnet" and base_url is None
            kind = "testnet" if testnet else "shared"
            if kind not in markets:
                markets[kind] = CcxtMarket(clock, base_url, testnet, self._connect)
                open_.push_async_callback(markets[kind].close)
                await markets[kind].start()
            markets[mode] = markets[kind]
        return {mode: markets[mode] for mode in self._settings.allowed_modes}

    def _exchanges(
        self, store: SupabaseStore, markets: Mapping[str, CcxtMarket], clock: SystemClock, open_: AsyncExitStack
    ) -> dict[str, Exchange]:
        """Where orders of each mode go: on paper nowhere, else to the venue under each user's own key."""
        exchanges: dict[str, Exchange] = {}
        settings = self._settings
        keyring = EdgeKeyring(
            settings.supabase_url,
            settings.supabase_service_role_key.get_secret_value(),
            cache_seconds=settings.keys_cache_seconds,
        )
        notes = KeyNotes(store)
        open_.push_async_callback(notes.close)
        open_.push_async_callback(keyring.close)
        for mode, market in markets.items():
            if mode == "paper":
                exchanges[mode] = PaperExchange(market, clock)
            else:
                venue = exchanges[mode] = CcxtExchange(mode, market, keyring, clock, notes.note)
                open_.push_async_callback(venue.close)
        return exchanges

    async def _serve(
        self,
        store: SupabaseStore,
        markets: Mapping[str, CcxtMarket],
        exchanges: Mapping[str, Exchange],
        clock: SystemClock,
    ) -> int:
        settings, in_hand = self._settings, InHand()
        intake = Intake(store, clock, self._alarm)
        tracking = TrackingSettings(
            settings.poll_interval,
            settings.max_execution_time,
            settings.late_fill_seconds,
            settings.recv_window_ms,
            round(settings.unknown_margin_seconds * 1000),
        )
        tracker = Tracker(store, markets, exchanges, clock, tracking, in_hand)
        scheduler = LoopScheduler(asyncio.get_running_loop())
        keeping = MonitorSettings(
            min(EXIT_RECV_WINDOW_MS, settings.recv_window_ms), settings.poll_interval, tracking.unknown_margin_ms
        )
        monitor = Monitor(
            store, markets, exchanges, clock, uuid4, keeping, tracker.cancel, lambda: bool(tracker.accounts)
        )
        execution = Execution(
            store,
            markets,
            exchanges,
            clock,
            uuid4,
            ExecutionSettings(settings.default_slippage, settings.recv_window_ms),
            in_hand,
        )

        def busy() -> frozenset[Account]:
            return intake.accounts | tracker.accounts | monitor.accounts

        def keep_only(held: frozenset[Account]) -> None:
            execution.keep_only(held | intake.accounts)

        presence = Presence(store, clock, uuid4, settings.lease_seconds, busy, keep_only, self._alarm)
        if not await self._registered(presence):
            return 0
        pipeline = Pipeline(
            presence,
            intake,
            execution,
            tracker,
            Recovery(store, markets, exchanges, clock, in_hand),
            monitor,
            Marks(store, exchanges, clock, lambda: monitor.keepers, monitor.any_kept),
            settings.sweep_interval,
            RECHECK_SECONDS,
            scheduler,
        )
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        subscription = self._subscribe(pipeline, done)
        readiness = asyncio.create_task(self._say_ready(markets), name="say ready")
        await self._until_stopped_or(done)
        readiness.cancel()
        code = await self._drain(pipeline, intake, done)
        subscription.dispose()
        await self._retire(presence)
        return code

    def _subscribe(self, pipeline: Pipeline, done: asyncio.Future[None]) -> abc.DisposableBase:
        outcomes = pipeline.outcomes(self._hints()).pipe(ops.do_action(_report), ops.publish())
        opened: Observable[Position] = positions_opened(outcomes)
        opened.subscribe(lambda position: log.debug("position_opened", position=str(position.id)), self._fail(done))
        outcomes.subscribe(_nothing, self._fail(done), lambda: _settle(done))
        return outcomes.connect() or Disposable()

    def _hints(self) -> Observable[Hint]:
        if not self._settings.realtime:
            return rx.never()
        key = self._settings.supabase_service_role_key.get_secret_value()
        return from_callbacks(realtime.listen(f"{self._settings.supabase_url}/realtime/v1", key))

    async def _registered(self, presence: Presence) -> bool:
        """Register, however long the database takes to answer; False when told to stop before."""
        while not self._stopped.is_set():
            try:
                await presence.register()
            except Transient as error:
                self._alarm(error)
                await self._pause(REGISTER_PAUSE_SECONDS)
            except Broken as error:  # no waiting cures a wrong key or a missing schema
                raise SettingsError(str(error)) from error
            else:
                return True
        return False

    async def _say_ready(self, markets: Mapping[str, CcxtMarket]) -> None:
        """Say so once signals can be traded; before that the table is answered only where rows alone decide."""
        for market in markets.values():
            await market.loaded.wait()
        _set_apart()
        log.info("ready", modes=list(self._settings.allowed_modes), realtime=self._settings.realtime)

    async def _until_stopped_or(self, done: asyncio.Future[None]) -> None:
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait([stopped, done], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    async def _drain(self, pipeline: Pipeline, intake: Intake, done: asyncio.Future[None]) -> int:
        """Finish what is in hand, within the time allowed."""
        if done.done():
            log.error("the pipeline ended by itself", error=repr(self._broken))
            return 1
        log.info("stopping", in_hand=intake.working)
        pipeline.stop()
        await asyncio.wait([done], timeout=self._settings.drain_seconds)
        if not done.done():
            log.warning("stopped with work in hand; recovery takes it from its rows", in_hand=intake.working)
            return 1
        return 0

    async def _retire(self, presence: Presence) -> None:
        try:
            await presence.retire()
        except Exception as error:
            log.warning("could not sign off; the lease will end by itself", error=str(error))
        else:
            log.info("stopped")

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return

    def _fail(self, done: asyncio.Future[None]) -> Any:
        def on_error(error: Exception) -> None:
            self._broken = error
            _settle(done)

        return on_error

    def _alarm(self, error: Exception) -> None:
        match error:
            case Transient():
                log.warning("the database is out of reach; signals wait in their table", error=str(error))
            case Dismissed():
                log.warning("not this worker's any more", error=str(error))
            case _:
                log.error("the database does not answer as it should", error=repr(error))

    def _alarm_of_loop(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log.error("unexpected", what=context.get("message"), error=repr(error), exc_info=error)


def _report(outcome: Outcome) -> None:
    """Log an outcome, with the ids that lead to its rows."""
    match outcome:
        case Opened(position=position, found=found):
            log.info(
                "found open" if found else "opened",
                position=str(position.id),
                signal=str(position.signal_id),
                symbol=position.symbol,
                quantity=str(position.entry_quantity),
                price=str(position.entry_price),
            )
        case Monitored(position=position):
            log.info("monitoring", position=str(position.id), symbol=position.symbol)
        case Changed(position=position):
            log.debug("changed", position=str(position.id), quantity=str(position.entry_quantity))
        case Closed(position=position):
            log.info(
                "closed",
                position=str(position.id),
                symbol=position.symbol,
                reason=position.exit_reason,
                profit=None if position.realized_pnl is None else str(position.realized_pnl),
            )
        case Resting(order=order):
            log.info("resting", order=str(order.id), symbol=order.symbol, price=str(order.price))
        case Failed(position=position):
            log.warning("failed", position=str(position.id), code=position.failure_code)
        case TurnedAway(signal_id=signal_id, code=code, reason=reason):
            log.info("refused", signal=str(signal_id), code=code, reason=reason)
        case Deferred(signal_id=signal_id, reason=reason):
            log.info("deferred", signal=str(signal_id), reason=reason)
        case Dropped(signal_id=signal_id, reason=reason):
            log.debug("dropped", signal=str(signal_id), reason=reason)
        case InDoubt(order_id=order_id, reason=reason):
            log.warning("in doubt", order=str(order_id), reason=reason)


def _set_apart() -> None:
    """Have the garbage collector stop the loop seldom: it leaves alone what is there for good, and comes less often.

    With a thousand positions a full round takes a third of a second, and by default it came every half a minute.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _nothing(_: object) -> None:
    """The trunk's last step, which cannot raise."""


def serve(settings: Settings, connect: Connect = GuardedConnector) -> int:
    """Run a worker until SIGINT or SIGTERM. Returns the process's exit code."""
    logging.captureWarnings(True)

    async def main() -> int:
        return await App(settings, connect).run()

    return asyncio.run(main())
