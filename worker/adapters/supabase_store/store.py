"""The store over the project's REST interface: each verb is one function of the database.

Money crosses as text in both directions. Calls may be repeated: the functions know one they have answered before,
so a lost answer is asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from streams.domain.account import Account
from streams.domain.errors import Broken, Refused, Transient
from streams.domain.held import Held
from streams.domain.money import text
from streams.domain.order import Order, OrderReport
from streams.domain.position import Position
from streams.domain.signal import Brief
from streams.domain.step import Answer
from streams.ports import Admission, Attempt, Booked, Claim, ExitPlan, Heard, Mark, Prepared, Pulse, Unfinished
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from supabase import PostgrestAPIError as APIError
from worker.adapters.supabase_store import rows
from worker.adapters.supabase_store.outcome import sort_error
from worker.adapters.supabase_store.session import CONNECTIONS, Session

log = logging.getLogger(__name__)

TRIES = 4
FIRST_PAUSE_SECONDS = 0.1


class SupabaseStore:
    """Speaks for one registered worker at a time, over a handful of kept connections."""

    def __init__(self, client: AsyncClient, lease_seconds: float, modes: Sequence[str], max_signal_age: float) -> None:
        self._client = client
        self._lease_seconds = lease_seconds
        self._modes = list(modes)
        self._max_signal_age = max_signal_age
        self._worker_id: UUID | None = None
        self._ahead_ms = 0
        self._heartbeat_ms = 0
        self._free = asyncio.Semaphore(CONNECTIONS)

    def now_ms(self) -> int:
        """The database's clock in Unix milliseconds, as far as it is known."""
        return round(time.time() * 1000) + self._ahead_ms

    def lease_ends_ms(self) -> int:
        """When the lease ends that the last heartbeat renewed."""
        return self._heartbeat_ms + int(self._lease_seconds * 1000)

    async def register(self, worker_id: UUID) -> None:
        """Register under a fresh id; every later call goes under it."""
        asked = time.time()
        answer = await self._call(
            "worker_register",
            worker_id,
            p_modes=self._modes,
            p_lease_seconds=str(self._lease_seconds),
            p_max_signal_age_seconds=str(self._max_signal_age),
        )
        self._learn_time(asked, answer)
        self._worker_id = worker_id
        self._heartbeat_ms = int(answer["heartbeat_ms"])

    async def heartbeat(self) -> Pulse:
        """Say that this worker lives, and hear what it holds."""
        asked = time.time()
        try:
            async with asyncio.timeout(self._lease_seconds / 4):
                answer = await self._asked("worker_heartbeat", self._id(), {})  # past the queue, and past retries
        except TimeoutError:
            raise Transient("the database did not answer a heartbeat in time") from None
        self._learn_time(asked, answer)
        if answer["alive"]:
            self._heartbeat_ms = int(answer["heartbeat_ms"])
        return Pulse(
            bool(answer["alive"]), frozenset(rows.accounts(answer.get("accounts"))), int(answer.get("surplus", 0))
        )

    async def retire(self) -> None:
        """Free every account and end this id for good."""
        await self._call("worker_retire", self._id())

    async def claim(self, ids: Sequence[UUID] | None) -> Claim:
        """Take free accounts with work, and read the ready signals of those held."""
        answer = await self._call("claim_signals", self._id(), p_signal_ids=None if ids is None else rows.texts(ids))
        briefs: list[Brief] = []
        for row in answer["signals"]:
            try:
                briefs.append(rows.read(Brief, row))
            except Broken as error:  # one row that cannot be read must not keep the others waiting
                log.error("signal %s cannot be read: %s", row["id"], error)
                await self.record_failed_try(UUID(row["id"]), str(error))
        unseen = tuple(UUID(one) for one in answer["unseen"])
        return Claim(tuple(rows.accounts(answer["taken"])), tuple(briefs), bool(answer["more"]), unseen)

    async def brief(self, signal_id: UUID) -> Brief | None:
        """Read one signal anew; none where it is not ready, or not this worker's, any more."""
        answer = await self._call("signal_brief", self._id(), p_signal_id=str(signal_id))
        return None if answer["signal"] is None else rows.read(Brief, answer["signal"])

    async def refuse(self, signal_id: UUID, refusal: Refused) -> bool:
        """Write a refusal on its row; False where the signal is not this worker's any more."""
        answer = await self._call(
            "refuse_signal",
            self._id(),
            p_signal_id=str(signal_id),
            p_code=refusal.code,
            p_reason=refusal.reason,
            p_rule_value=refusal.rule_value,
            p_limit_value=refusal.limit_value,
        )
        return answer["outcome"] == "refused"

    async def record_failed_try(self, signal_id: UUID, detail: str) -> bool:
        """Count a try that broke; True where it was the last one and the signal is refused now."""
        async with self._free:  # asked once: a try must not count twice
            question = {"p_signal_id": str(signal_id), "p_detail": detail[:500]}
            answer = await self._asked("record_failed_try", self._id(), question)
        return answer["outcome"] == "refused"

    async def admit(self, attempt: Attempt) -> Admission:
        """Ask for admission; the same attempt gets the same answer."""
        answer = await self._call(
            "admit_signal",
            self._id(),
            p_signal_id=str(attempt.brief.id),
            p_attempt_id=str(attempt.id),
            p_plan=rows.entry_plan(attempt),
        )
        return Admission(
            answer["outcome"],
            answer.get("code"),
            answer.get("reason"),
            int(answer.get("signed_at_ms") or 0),
            answer.get("credential_version"),
        )

    async def record(self, order_id: UUID, report: OrderReport, stop: Decimal | None, target: Decimal | None) -> Booked:
        """Book what the venue said of an order; booking it again changes nothing."""
        answer = await self._call(
            "record_order", self._id(), p_order_id=str(order_id), p_report=rows.report_row(report, stop, target)
        )
        return Booked(bool(answer["changed"]), str(answer["order_status"]), rows.read(Position, answer["position"]))

    async def unfinished(self, accounts: Sequence[Account] | None = None) -> Sequence[Unfinished]:
        """Orders that have not ended, of these accounts or of all held, oldest first."""
        answer = await self._call("unfinished_orders", self._id(), p_accounts=rows.account_rows(accounts))
        found: list[Unfinished] = []
        for row in answer["orders"]:
            try:
                order, signal_id = rows.read(Order, row["order"]), UUID(row["position"]["signal_id"])
                protection = rows.protection(row["position"])
            except Broken as error:  # one row that cannot be read must not keep the others from being settled
                log.error("order %s cannot be read: %s", row["order"]["id"], error)
                continue
            found.append(Unfinished(order, signal_id, protection, float(row["age"]), bool(row["expired"])))
        return found

    async def open_positions(self, accounts: Sequence[Account] | None = None) -> Sequence[Position]:
        """Positions that hold coins, of these accounts or of all held."""
        answer = await self._call("open_positions", self._id(), p_accounts=rows.account_rows(accounts))
        found: list[Position] = []
        for row in answer["positions"]:
            try:
                found.append(rows.read(Position, row))
            except Broken as error:  # one row that cannot be read must not hide the others
                log.error("position %s cannot be read: %s", row["id"], error)
        return found

    async def held(self, position_ids: Sequence[UUID] | None = None, *, asked: bool = False) -> Sequence[Held]:
        """Positions that hold coins, of those named or all; `asked`: those of which something is asked, entries too."""
        answer = await self._call(
            "held_positions",
            self._id(),
            p_position_ids=None if position_ids is None else rows.texts(position_ids),
            p_asked=asked,
        )
        found: list[Held] = []
        for row in answer["positions"]:
            try:
                found.append(rows.held(row))
            except Broken as error:  # one row that cannot be read must not hide the others
                log.error("position %s cannot be read: %s", row["position"]["id"], error)
        return found

    async def prepare_exits(self, plan: ExitPlan) -> Prepared:
        """Commit the intent of sells; the same first order gets the same answer."""
        answer = await self._call(
            "prepare_exits", self._id(), p_position_id=str(plan.position_id), p_plan=rows.exit_plan(plan)
        )
        return Prepared(answer["outcome"], int(answer.get("signed_at_ms") or 0))

    async def record_exits(self, position_id: UUID, heard: Sequence[Heard]) -> Held:
        """Book what the venue said of sells of a position, and read it as it stands then; again changes nothing."""
        answer = await self._call(
            "record_exits", self._id(), p_position_id=str(position_id), p_reports=rows.heard_rows(heard)
        )
        return rows.held(answer)

    async def adopt(self, position_id: UUID) -> Held:
        """Move an open position to monitoring."""
        return rows.held(await self._call("adopt_position", self._id(), p_position_id=str(position_id)))

    async def resume(self, position_id: UUID, detail: str) -> Held:
        """Move a closing position back to monitoring; what asked for its close fails with this sentence."""
        answer = await self._call("resume_position", self._id(), p_position_id=str(position_id), p_detail=detail)
        return rows.held(answer)

    async def close_position(self, position_id: UUID, reason: str) -> Held:
        """End a position of which nothing sellable is left, and book its profit."""
        answer = await self._call("close_position", self._id(), p_position_id=str(position_id), p_reason=reason)
        return rows.held(answer)

    async def answer(self, answer: Answer) -> Held:
        """Answer an action, once, and write the stop or target that it moves."""
        change = {"stop_loss_price": answer.stop, "take_profit_price": answer.target}
        told = await self._call(
            "settle_action",
            self._id(),
            p_action_id=str(answer.action.id),
            p_status=answer.status,
            p_error=answer.message,
            p_change={name: text(price) for name, price in change.items() if price is not None},
        )
        return rows.held(told)

    async def write_marks(self, marks: Sequence[Mark], balances: Mapping[Account, Decimal]) -> int:
        """Write what positions are worth, and what accounts have at an exchange; says how many workers are alive."""
        told = [
            {"user_id": str(account.user_id), "mode": account.mode, "balance": text(balance)}
            for account, balance in balances.items()
        ]
        answer = await self._call("write_marks", self._id(), p_marks=rows.mark_rows(marks), p_balances=told)
        return int(answer["workers"])

    async def send_marks(self, marks: Sequence[Mark]) -> None:
        """Broadcast what positions are worth to their owners."""
        await self._call("send_marks", self._id(), p_marks=rows.mark_rows(marks))

    async def release(self, accounts: Sequence[Account]) -> None:
        """Let accounts go to whoever has room."""
        await self._call("release_accounts", self._id(), p_accounts=rows.account_rows(accounts))

    async def note_keys(self, account: Account, version: int, error: str | None) -> None:
        """Show the owner what the exchange says of their keys of this version; None: it takes them."""
        await self._call(
            "note_keys",
            self._id(),
            p_user_id=str(account.user_id),
            p_mode=account.mode,
            p_version=version,
            p_error=error,
        )

    async def close(self) -> None:
        """Close the kept connections."""
        await self._client.postgrest.aclose()

    def _learn_time(self, asked: float, answer: Mapping[str, Any]) -> None:
        """The answer tells the database's time in the middle between question and answer, as near as can be."""
        said = answer.get("now_ms")
        if said is not None:
            self._ahead_ms = round(int(said) - (asked + time.time()) / 2 * 1000)

    def _id(self) -> UUID:
        if self._worker_id is None:
            raise Broken("the store was used before a worker was registered")
        return self._worker_id

    async def _call(self, function: str, worker_id: UUID, **parameters: object) -> dict[str, Any]:
        """Call a function, again after failures that pass. Raises Transient, Dismissed or Broken."""
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                async with self._free:
                    return await self._asked(function, worker_id, parameters)
            except Transient:
                if not left:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause *= 2
        raise AssertionError("unreachable")

    async def _asked(self, function: str, worker_id: UUID, parameters: Mapping[str, object]) -> dict[str, Any]:
        """Call a function once. Raises Transient, Dismissed or Broken."""
        try:
            answer = await self._client.rpc(function, {"p_worker_id": str(worker_id), **parameters}).execute()
        except (APIError, httpx.HTTPError) as error:
            raise sort_error(error) from error
        data: Any = answer.data
        if not isinstance(data, dict):
            raise Broken(f"SUPABASE_URL: no Supabase project answers there ({function} answered {str(data)[:80]!r})")
        return data  # pyright: ignore[reportUnknownVariableType]


async def connect_store(
    url: str, service_role_key: str, lease_seconds: float, modes: Sequence[str], max_signal_age: float
) -> SupabaseStore:
    """Make a store for one worker; it has no worker's id until one is registered."""
    http = Session(url, lease_seconds / 2)  # no call outlasts the lease
    options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
    client = await acreate_client(url, service_role_key, options)
    return SupabaseStore(client, lease_seconds, modes, max_signal_age)
