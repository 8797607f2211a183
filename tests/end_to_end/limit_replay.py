"""The committed history of users' rows, moment by moment, held against their limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from tests.end_to_end.product import Project

KEEP = """
  create table public.limit_history (
    number bigint generated always as identity, at timestamptz, tx xid8, user_id uuid, of text, "row" jsonb
  );
  create function public.keep_limits() returns trigger language plpgsql security definer set search_path = '' as $$
  begin
    insert into public.limit_history (at, tx, user_id, of, "row")
    values (clock_timestamp(), pg_current_xact_id(), new.user_id, tg_table_name, to_jsonb(new));
    return null;
  end $$;
  create trigger kept after insert or update on public.orders for each row execute function public.keep_limits();
  create trigger kept after insert or update on public.positions for each row execute function public.keep_limits();
  create trigger kept after insert or update on public.paper_balances
    for each row execute function public.keep_limits();
  create trigger kept after insert on public.risk_refusals for each row execute function public.keep_limits();
"""
COUNTED = frozenset({"created", "submitting", "open", "monitoring", "closing"})
AT_WORK = frozenset({"created", "submitting", "submitted", "partially_filled", "unknown"})
MAYBE_OVER = frozenset({"cancelled", "expired"})
"""Of a position that is still submitting: a fill that came before may still be told."""
WINDOW = timedelta(milliseconds=300)
"""A refusal was decided by rows that were committed so shortly before it was written, or were the last ones then."""
WORST_OVER_SIZE = (Decimal("0.9"), Decimal("1.0101"))
"""What an entry may cost at worst, by its size: the lot is cut off, and the slippage is bounded."""


@dataclass(frozen=True)
class Scope:
    """Limits of an account, or of one trader; none is None."""

    trader_id: str | None = None
    positions: int | None = None
    exposure: Decimal | None = None
    size: Decimal | None = None
    one_per_symbol: bool = False

    @property
    def columns(self) -> Mapping[str, object]:
        """As they are written to risk_limits."""
        return {
            "max_open_positions": self.positions,
            "max_total_exposure_usdt": None if self.exposure is None else str(self.exposure),
            "max_position_size_usdt": None if self.size is None else str(self.size),
            "one_position_per_symbol": self.one_per_symbol,
            "daily_loss_limit_usdt": "100000",
        }


@dataclass
class Moment:
    """What had been committed by `at`: rows by id, and what is refused in this very transaction."""

    at: datetime
    positions: Mapping[str, dict[str, Any]]
    entries: Mapping[str, dict[str, Any]]
    balance: dict[str, Any] | None
    refusals: Sequence[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def held(self, scope: Scope) -> list[dict[str, Any]]:
        """The positions that count in a scope."""
        return [
            one
            for one in self.positions.values()
            if one["status"] in COUNTED and scope.trader_id in (None, one["trader_id"])
        ]

    def exposure(self, scope: Scope) -> Decimal:
        """What was paid, and what entries at work may still cost."""
        return sum((self._exposure_of(one) for one in self.held(scope)), Decimal(0))

    @property
    def free(self) -> Decimal | None:
        """The play money that is neither spent nor reserved."""
        if self.balance is None:
            return None
        return Decimal(str(self.balance["current_balance"])) - Decimal(str(self.balance["reserved"]))

    def _exposure_of(self, position: dict[str, Any]) -> Decimal:
        paid, entry = Decimal(str(position["entry_value"] or 0)), self.entries.get(position["id"])
        if entry is None or entry["status"] not in AT_WORK | (
            MAYBE_OVER if position["status"] == "submitting" else set()
        ):
            return paid
        quantity, filled = Decimal(str(entry["quantity"])), Decimal(str(entry["filled_quantity"]))
        return paid + Decimal(str(entry["worst_value"])) * (quantity - filled) / quantity


def keep_limit_history(project: Project) -> None:
    """Have the project's database write down what counts against limits from now on."""
    project.execute(KEEP)


def replay(project: Project, user_id: str) -> Iterator[Moment]:
    """A user's rows after each transaction that wrote any, in their order."""
    positions: dict[str, dict[str, Any]] = {}
    entries: dict[str, dict[str, Any]] = {}
    balance: dict[str, Any] | None = None
    rows = project.rows(
        'select at, tx::text as tx, of, "row"::text::json as written from limit_history where user_id = %s'
        " order by number",
        user_id,
    )
    for _, of_one in groupby(rows, key=lambda row: row["tx"]):
        refusals: list[dict[str, Any]] = []
        at: datetime | None = None
        for row in of_one:
            at, written = row["at"], row["written"]
            match row["of"]:
                case "positions":
                    positions = {**positions, written["id"]: written}
                case "orders" if written["purpose"] == "entry":
                    entries = {**entries, written["position_id"]: written}
                case "paper_balances":
                    balance = written
                case "risk_refusals":
                    refusals.append(written)
                case _:
                    pass
        assert at is not None
        yield Moment(at, positions, entries, balance, refusals)


def assert_within(moment: Moment, scopes: Sequence[Scope]) -> None:
    """No limit is exceeded, and no money is promised twice."""
    for scope in scopes:
        held = moment.held(scope)
        assert scope.positions is None or len(held) <= scope.positions, (moment.at, scope)
        assert scope.exposure is None or moment.exposure(scope) <= scope.exposure, (moment.at, scope)
        if scope.one_per_symbol:
            assert len({one["symbol"] for one in held}) == len(held), (moment.at, scope)
        for one in held:
            entry = moment.entries.get(one["id"])
            worst = Decimal(str(entry["worst_value"])) if entry else Decimal(0)
            assert scope.size is None or worst <= scope.size, (moment.at, scope, entry)
    assert moment.free is None or moment.free >= 0, moment.at


def assert_did_not_fit(
    refusal: Mapping[str, Any], size: Decimal, before: Sequence[Moment], scopes: Sequence[Scope]
) -> None:
    """What was refused did not fit when it was refused, and the refusal says by how much."""
    moments = [one for one in before if one.at >= before[-1].at - WINDOW] or [before[-1]]
    moments.append(next((one for one in reversed(before) if one.at < moments[0].at), before[0]))
    value, limit = refusal["rule_value"], refusal["limit_value"]
    match refusal["code"]:
        case "max_open_positions":
            exceeded = any(
                str(len(moment.held(scope))) == value and str(scope.positions) == limit and int(value) >= int(limit)
                for moment in moments
                for scope in scopes
            )
        case "exposure_limit":
            exceeded = any(
                scope.exposure == Decimal(limit)
                and _exceeds(Decimal(value), moment.exposure(scope), Decimal(limit), size)
                for moment in moments
                for scope in scopes
            )
        case "duplicate_position":
            exceeded = any(
                scope.one_per_symbol and value in {one["symbol"] for one in moment.held(scope)}
                for moment in moments
                for scope in scopes
            )
        case "position_too_large":
            low, high = WORST_OVER_SIZE
            exceeded = any(
                scope.size == Decimal(limit) < Decimal(value) and low * size <= Decimal(value) <= high * size
                for scope in scopes
                if scope.size is not None
            )
        case "insufficient_balance":
            exceeded = Decimal(value) > Decimal(limit)
        case other:
            raise AssertionError(f"{other} was not to be expected: {refusal}")
    assert exceeded, (refusal, [(moment.at, [len(moment.held(scope)) for scope in scopes]) for moment in moments])


def _exceeds(value: Decimal, now: Decimal, limit: Decimal, size: Decimal) -> bool:
    """By what is held alone, or with an entry of this size."""
    low, high = WORST_OVER_SIZE
    return (value == now >= limit) or (value > limit and low * size <= value - now <= high * size)
