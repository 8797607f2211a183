"""The whole boundary: what the streams ask of the database, the market, an exchange, and the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

from streams.domain.account import Account
from streams.domain.errors import Refused
from streams.domain.held import Held
from streams.domain.market import Book, MarketRules, Quote
from streams.domain.order import Order, OrderReport, Stamp
from streams.domain.position import Position
from streams.domain.risk import Protection
from streams.domain.signal import Brief
from streams.domain.sizing import Funds, Sized
from streams.domain.step import Answer


@dataclass(frozen=True, slots=True)
class Hint:
    """A word that there may be work: signal ids, a reason to look at everything, or the accounts held by now.

    `positions`: something is asked of these. `held_at`: when it was asked what is held, on the monotonic clock.
    """

    ids: tuple[UUID, ...] = ()
    positions: tuple[UUID, ...] = ()
    everything: bool = False
    reason: str = ""
    held: frozenset[Account] | None = None
    held_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What one look at the table gave: accounts newly taken over, and ready signals in their order.

    `more`: there are ready signals that were not given. `unseen`: asked for by id, and not in the table yet.
    """

    taken: tuple[Account, ...]
    briefs: tuple[Brief, ...]
    more: bool
    unseen: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Pulse:
    """The database's answer to a heartbeat; `surplus` is how many accounts to let go when idle."""

    alive: bool
    accounts: frozenset[Account]
    surplus: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """The one attempt at an entry, with every id it will ever bear, made before anything is written.

    `balance`: what the account has free at its exchange; None where its money is in rows.
    """

    id: UUID
    position_id: UUID
    order_id: UUID
    client_order_id: str
    brief: Brief
    sized: Sized
    venue_offset_ms: int
    recv_window_ms: int
    balance: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """The database's word on an attempt.

    `admitted`: position and order are at `submitting` and the order may be sent once. `refused`: the row says
    why. `taken`: somebody else's, or not ready any more. `stale`: the trader changed, prepare again. `late`:
    too little is left of the lease.
    """

    outcome: Literal["admitted", "refused", "taken", "stale", "late"]
    code: str | None = None
    reason: str | None = None
    signed_at_ms: int = 0
    credential_version: int | None = None


@dataclass(frozen=True, slots=True)
class Booked:
    """What the rows say after a report was booked."""

    changed: bool
    order_status: str
    position: Position


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An order that has not ended, as a start or a takeover finds it; `age` is seconds since its admission."""

    order: Order
    signal_id: UUID
    protection: Protection
    age: float
    expired: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What a venue reported of an order, and is not booked yet."""

    order_id: UUID
    report: OrderReport


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """Sells about to be sent for a position, one or the two legs of a list, and what was heard of those they replace.

    With an `exit_reason` the position is closing from the commit on. `instead_of`: resting protection that is being
    cancelled; these may be sent only once it is known that nothing of it was executed.
    """

    position_id: UUID
    orders: tuple[Order, ...]
    recv_window_ms: int
    venue_offset_ms: int
    heard: tuple[Heard, ...] = ()
    instead_of: tuple[Order, ...] = ()
    exit_reason: str | None = None
    trailing_stop_price: Decimal | None = None
    action_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The database's word on an exit plan.

    `prepared`: the rows are at `submitting`, and the orders may be sent once. `stale`: they would sell more than is
    held and not promised yet, so the rows are to be read anew. `late`: too little is left of the lease.
    """

    outcome: Literal["prepared", "stale", "late"]
    signed_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """The price that an open position is worth by, per base unit in quote."""

    position_id: UUID
    account: Account
    price: Decimal


class Store(Protocol):
    """The database. Every call goes under the id last registered; `now_ms` is its clock in Unix milliseconds,
    `lease_ends_ms` when on it this worker's lease ends, as far as it heard.

    Raises Transient when no answer came (what was asked may have been done, and may be asked again), Dismissed when
    this worker was declared dead or does not hold the work, Broken when the answer cannot be.
    """

    def now_ms(self) -> int: ...
    def lease_ends_ms(self) -> int: ...
    async def register(self, worker_id: UUID) -> None: ...
    async def heartbeat(self) -> Pulse: ...
    async def retire(self) -> None: ...
    async def claim(self, ids: Sequence[UUID] | None) -> Claim: ...
    async def brief(self, signal_id: UUID) -> Brief | None: ...
    async def refuse(self, signal_id: UUID, refusal: Refused) -> bool: ...
    async def record_failed_try(self, signal_id: UUID, detail: str) -> bool: ...
    async def admit(self, attempt: Attempt) -> Admission: ...
    async def record(
        self, order_id: UUID, report: OrderReport, stop: Decimal | None, target: Decimal | None
    ) -> Booked: ...
    async def unfinished(self, accounts: Sequence[Account] | None = None) -> Sequence[Unfinished]: ...
    async def open_positions(self, accounts: Sequence[Account] | None = None) -> Sequence[Position]: ...
    async def held(self, position_ids: Sequence[UUID] | None = None, *, asked: bool = False) -> Sequence[Held]: ...
    async def prepare_exits(self, plan: ExitPlan) -> Prepared: ...
    async def record_exits(self, position_id: UUID, heard: Sequence[Heard]) -> Held: ...
    async def adopt(self, position_id: UUID) -> Held: ...
    async def resume(self, position_id: UUID, detail: str) -> Held: ...
    async def close_position(self, position_id: UUID, reason: str) -> Held: ...
    async def answer(self, answer: Answer) -> Held: ...
    async def write_marks(self, marks: Sequence[Mark], balances: Mapping[Account, Decimal]) -> int: ...
    async def send_marks(self, marks: Sequence[Mark]) -> None: ...
    async def release(self, accounts: Sequence[Account]) -> None: ...
    async def note_keys(self, account: Account, version: int, error: str | None) -> None: ...


class Market(Protocol):
    """Public market data of one venue. Raises Transient when it cannot be had, Refused for an unknown symbol.

    `watch` has each change of a symbol's best prices seen, until its answer is called; none of them is left out for as
    long as the stream stands, and where it does not, prices are asked for.
    """

    def rules(self, symbol: str) -> MarketRules: ...
    async def quote(self, symbol: str) -> Quote: ...
    async def book(self, symbol: str) -> Book: ...
    def watch(self, symbol: str, seen: Callable[[Quote], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """An account's key at its exchange, for as short as possible; shows nothing of itself."""

    api_key: str
    secret: str
    version: int


class Keyring(Protocol):
    """Decrypts users' keys. Raises Refused (`keys_missing`, `keys_rejected`), or Transient when out of reach."""

    async def keys(self, account: Account) -> Keys: ...
    def drop(self, account: Account, version: int | None = None) -> None: ...


HearOrder = Callable[[str | None, str | None], None]
"""Told the client id of an order that changed and the state it is said to be in; without them, any may have changed."""


class Exchange(Protocol):
    """Where orders of one mode are placed.

    `place` sends at most once. Raises Transient (surely not placed), Rejected (surely refused) or Unknown (it
    may be placed); anything else is Unknown too. `look_up` and `cancel` say None where the venue does not know the
    order, which proves nothing yet; a cancel is signed with its stamp. `listen` tells of
    orders that change, until its answer is called: a hint that may come late, twice or never.
    `place_list` places a stop and a target of which one is filled at most; `cancel_all` cancels one order or the legs
    of one list. `owned` is all that an account has of an asset, free or locked; None where no coins are kept.
    `now_ms` is the venue's clock in Unix milliseconds, None where there is none.
    """

    async def funds(self, brief: Brief) -> Funds: ...
    async def place(self, order: Order) -> OrderReport: ...
    async def look_up(self, order: Order) -> OrderReport | None: ...
    async def cancel(self, order: Order, stamp: Stamp) -> OrderReport | None: ...
    async def place_list(self, stop: Order, target: Order) -> Sequence[OrderReport]: ...
    async def cancel_all(self, orders: Sequence[Order], stamp: Stamp) -> Sequence[OrderReport | None]: ...
    async def owned(self, account: Account, asset: str) -> Decimal | None: ...
    def listen(self, account: Account, heard: HearOrder) -> Callable[[], None]: ...
    def now_ms(self) -> int | None: ...


class Clock(Protocol):
    """Wall time in UTC and a monotonic time in seconds."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...


NewId = Callable[[], UUID]
Emit = Callable[[Hint], None]
ConnectHints = Callable[[Emit], Awaitable[Callable[[], Awaitable[None]]]]
"""Start listening for hints; the answer stops it."""
