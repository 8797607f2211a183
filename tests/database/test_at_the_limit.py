"""Each limit that rows decide, for the account and for a trader: at it, one step under it and one over it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from streams.domain.signal import Brief, Limits
from tests.database.project import Project
from tests.database.test_losses import NO_LIMITS, lost, outcome, refused
from tests.database.test_rights import LIMITS
from tests.database.trading import Worker

SCOPES = ("account", "trader")
UNIT = Decimal("0.00000001")


class Rule(NamedTuple):
    """A limit that the next entry just keeps, or, where it is a loss, just reaches; and its smallest step."""

    at: Decimal
    step: Decimal
    code: str
    reached: bool = False

    def tightened(self, steps: int) -> Decimal:
        """The limit so many steps tighter than what there is."""
        return self.at - steps * self.step

    def refuses(self, steps: int) -> bool:
        return steps > 0 or (steps == 0 and self.reached)


# Of an entry of 100 USDT into an account of 10,000 USDT that is 20 % below its peak, began the day with 10,000 USDT,
# has lost 50 USDT since and holds one position of 100 USDT, all of it by the same trader.
RULES = {
    "max_open_positions": Rule(Decimal(2), Decimal(1), "max_open_positions"),
    "max_total_exposure_usdt": Rule(Decimal(200), UNIT, "exposure_limit"),
    "max_position_size_usdt": Rule(Decimal(100), UNIT, "position_too_large"),
    "max_position_size_percent": Rule(Decimal(1), UNIT, "position_too_large"),
    "max_order_size_usdt": Rule(Decimal(100), UNIT, "position_too_large"),
    "daily_loss_limit_usdt": Rule(Decimal(50), UNIT, "daily_loss_limit", reached=True),
    "daily_loss_limit_percent": Rule(Decimal("0.5"), UNIT, "daily_loss_limit", reached=True),
    "max_drawdown_percent": Rule(Decimal(20), UNIT, "drawdown_limit", reached=True),
}
BY_THE_CLOCK_OR_YES_AND_NO = {"min_order_interval_seconds", "one_position_per_symbol"}

Limit = Callable[..., None]


@pytest.fixture
def trader(project: Project, alice: UUID) -> UUID:
    trader_id = project.trader(alice)
    project.limit(alice, None, **NO_LIMITS)
    return trader_id


@pytest.fixture
def worker(project: Project, alice: UUID, trader: UUID) -> Worker:
    """Whoever judges the account that the rules are about."""
    worker = project.worker()
    lost(project, worker, alice, trader, "-50")
    project.open_position(worker, alice, trader)
    project.owner.execute(
        "insert into public.account_equity (user_id, mode, day, day_start, peak, current) values"
        " (%s, 'paper', (clock_timestamp() at time zone 'UTC')::date, 10000, 12500, 10000)"
        " on conflict (user_id, mode) do update set"
        " day = excluded.day, day_start = excluded.day_start, peak = excluded.peak, current = excluded.current",
        alice,
    )
    return worker


@pytest.fixture
def limit(project: Project, alice: UUID, trader: UUID) -> Limit:
    """Sets a limit of the account or of the trader."""

    def limited(scope: str, **limits: object) -> None:
        project.limit(alice, trader if scope == "trader" else None, **limits)

    return limited


def other(scope: str) -> str:
    return "trader" if scope == "account" else "account"


def at_admission(project: Project, worker: Worker, signal_id: UUID, limited: Callable[[], None]) -> str:
    """What admission says of a signal that was claimed and prepared before there was a limit."""
    assert worker.claimed(signal_id) == [signal_id]
    plan = worker.plan(worker.brief(signal_id))
    limited()
    answer = worker.admit(signal_id, plan)
    if answer["outcome"] == "refused":
        assert refused(project, signal_id)[0] == answer["code"]
    return answer.get("code") or answer["outcome"]


def test_every_limit_that_there_is_has_its_test_here_or_in_the_domain() -> None:
    by_market = set(Limits.model_fields)
    assert set(RULES) | BY_THE_CLOCK_OR_YES_AND_NO | by_market == LIMITS
    assert not set(RULES) & by_market


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("steps", [-1, 0, 1])
@pytest.mark.parametrize("name", RULES)
def test_an_entry_under_at_and_over(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, name: str, steps: int, scope: str
) -> None:
    rule = RULES[name]
    expected = rule.code if rule.refuses(steps) else "admitted"
    ready = project.signal(alice, trader)
    assert at_admission(project, worker, ready, lambda: limit(scope, **{name: rule.tightened(steps)})) == expected
    if expected != "admitted":
        assert outcome(project, worker, project.signal(alice, trader)) == expected


@pytest.mark.parametrize("tighter", SCOPES)
@pytest.mark.parametrize("name", RULES)
def test_of_two_limits_the_tighter_holds(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, name: str, tighter: str
) -> None:
    rule = RULES[name]
    keeps, breaks = (0, 1) if not rule.reached else (-1, 0)
    for steps, looser in ((breaks, breaks - 1), (breaks, breaks - 2)):
        limit(tighter, **{name: rule.tightened(steps)})
        limit(other(tighter), **{name: rule.tightened(looser)})
        assert outcome(project, worker, project.signal(alice, trader)) == rule.code
    limit(tighter, **{name: rule.tightened(keeps)})
    assert outcome(project, worker, project.signal(alice, trader)) == "admitted"


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("usdt", "percent", "code"),
    [
        ("50.00000001", "0.50000001", "admitted"),
        ("50", "99", "daily_loss_limit"),
        ("9000", "0.5", "daily_loss_limit"),
    ],
)
def test_a_days_loss_in_two_units_is_held_to_the_tighter(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, scope: str, usdt: str, percent: str,
    code: str,
) -> None:  # fmt: skip
    limit(scope, daily_loss_limit_usdt=usdt, daily_loss_limit_percent=percent)
    assert outcome(project, worker, project.signal(alice, trader)) == code


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("usdt", "percent", "order", "code"),
    [
        ("100", "1", "100", "admitted"),
        ("99.99999999", "99", "9000", "position_too_large"),
        ("9000", "0.99999999", "9000", "position_too_large"),
        ("9000", "99", "99.99999999", "position_too_large"),
    ],
)
def test_a_size_in_two_units_is_held_to_the_tightest(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, scope: str, usdt: str, percent: str,
    order: str, code: str,
) -> None:  # fmt: skip
    limit(scope, max_position_size_usdt=usdt, max_position_size_percent=percent, max_order_size_usdt=order)
    assert outcome(project, worker, project.signal(alice, trader)) == code


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("worst", "code"),
    [("99.99999999", "admitted"), ("100", "admitted"), ("100.00000001", None)],
)
@pytest.mark.parametrize("name", ["max_total_exposure_usdt", "max_position_size_usdt", "max_order_size_usdt"])
def test_an_entry_one_step_larger_is_too_large(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, name: str, worst: str, code: str | None,
    scope: str,
) -> None:  # fmt: skip
    limit(scope, **{name: RULES[name].at})
    signal_id = project.signal(alice, trader)
    assert outcome(project, worker, signal_id, price=worst) == (code or RULES[name].code)
    if code is None:
        _, value, most = refused(project, signal_id)
        assert Decimal(value or 0) - Decimal(most or 0) == UNIT


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("profit", "name", "code"),
    [
        ("-0.00000001", "daily_loss_limit_usdt", "daily_loss_limit"),
        ("0", "daily_loss_limit_usdt", "daily_loss_limit"),
        ("0.00000001", "daily_loss_limit_usdt", "admitted"),
        ("-0.00000001", "daily_loss_limit_percent", "daily_loss_limit"),
        ("0", "daily_loss_limit_percent", "daily_loss_limit"),
        ("0.00000001", "daily_loss_limit_percent", "admitted"),
    ],
)
def test_the_smallest_gain_or_loss_of_the_day_decides(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, scope: str, profit: str, name: str,
    code: str,
) -> None:  # fmt: skip
    lost(project, worker, alice, trader, profit)
    limit(scope, **{name: RULES[name].at})
    assert outcome(project, worker, project.signal(alice, trader)) == code


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("current", "code"),
    [("10000.00000001", "admitted"), ("10000", "drawdown_limit"), ("9999.99999999", "drawdown_limit")],
)
def test_the_smallest_change_of_what_an_account_is_worth_decides(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, scope: str, current: str, code: str
) -> None:
    project.owner.execute("update public.account_equity set current = %s::numeric", current)
    limit(scope, max_drawdown_percent=20)
    assert outcome(project, worker, project.signal(alice, trader)) == code


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", RULES)
def test_a_limit_of_nothing_is_a_limit(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, name: str, scope: str
) -> None:
    limit(scope, **{name: 0})
    assert outcome(project, worker, project.signal(alice, trader)) == RULES[name].code


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", sorted(set(RULES) - {"max_drawdown_percent"}))
def test_what_another_trader_does_counts_for_the_account_alone(
    project: Project, alice: UUID, worker: Worker, name: str, scope: str
) -> None:
    newcomer, rule = project.trader(alice), RULES[name]
    project.limit(alice, None, **NO_LIMITS)
    project.limit(alice, newcomer if scope == "trader" else None, **{name: rule.tightened(1)})
    # Only the size of the entry itself is the newcomer's own.
    own = rule.code == "position_too_large" or scope == "account"
    assert outcome(project, worker, project.signal(alice, newcomer)) == (rule.code if own else "admitted")


# The judge by a clock that stands still: no two statements see the same instant otherwise.
_STANDING = """
select replace(replace(pg_get_functiondef(oid), 'FUNCTION fillstream.', 'FUNCTION pg_temp.'),
  'constant timestamptz := clock_timestamp()',
  'constant timestamptz := current_setting(''test.now'')::timestamptz')
from pg_proc where oid = 'fillstream.row_refusal'::regproc
"""


def judged_after(project: Project, signal_id: UUID, seconds: Decimal) -> str | None:
    """The rule that speaks against a signal so many seconds after the last entry."""
    owner = project.owner
    owner.connection.execute(owner.value(_STANDING))
    owner.execute(
        "select set_config('test.now', (select max(admitted_at) + %s::numeric * interval '1 second'"
        " from public.positions)::text, false)",
        seconds,
    )
    return owner.value(
        "select (pg_temp.row_refusal(signal, trader, worker, null)).code from public.signals as signal"
        " join public.traders as trader on trader.id = signal.trader_id, public.workers as worker where signal.id = %s",
        signal_id,
    )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("seconds", "code"), [("59.999999", "order_interval"), ("60", None), ("60.000001", None), ("0", "order_interval")]
)
def test_an_entry_a_microsecond_too_early_is_refused(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, scope: str, seconds: str, code: str
) -> None:
    limit(scope, min_order_interval_seconds=60)
    assert judged_after(project, project.signal(alice, trader), Decimal(seconds)) == code


@pytest.mark.parametrize("tighter", SCOPES)
def test_of_two_intervals_the_longer_holds(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, tighter: str
) -> None:
    limit(tighter, min_order_interval_seconds="60.000001")
    limit(other(tighter), min_order_interval_seconds=60)
    signal_id = project.signal(alice, trader)
    assert judged_after(project, signal_id, Decimal(60)) == "order_interval"
    assert judged_after(project, signal_id, Decimal("60.000001")) is None


def test_the_interval_of_a_trader_begins_with_its_own_entries(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit
) -> None:
    limit("trader", min_order_interval_seconds=60)
    newcomer = project.trader(alice)
    project.limit(alice, newcomer, min_order_interval_seconds=60)
    assert outcome(project, worker, project.signal(alice, trader)) == "order_interval"
    assert outcome(project, worker, project.signal(alice, newcomer)) == "admitted"
    limit("account", min_order_interval_seconds=60)
    assert outcome(project, worker, project.signal(alice, newcomer)) == "order_interval"


@pytest.mark.parametrize("account", [False, True])
@pytest.mark.parametrize("of_trader", [False, True])
def test_one_position_per_symbol_is_asked_by_either(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, account: bool, of_trader: bool
) -> None:
    limit("account", one_position_per_symbol=account)
    limit("trader", one_position_per_symbol=of_trader)
    assert outcome(project, worker, project.signal(alice, trader, symbol="ETH/USDT")) == "admitted"
    second = "duplicate_position" if account or of_trader else "admitted"
    for symbol in ("BTC/USDT", "ETH/USDT"):
        assert outcome(project, worker, project.signal(alice, trader, symbol=symbol)) == second


def test_one_position_per_symbol_of_a_trader_asks_after_its_own(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit
) -> None:
    newcomer = project.trader(alice)
    project.limit(alice, newcomer, one_position_per_symbol=True)
    assert outcome(project, worker, project.signal(alice, newcomer)) == "admitted"
    assert outcome(project, worker, project.signal(alice, newcomer)) == "duplicate_position"
    limit("account", one_position_per_symbol=True)
    assert outcome(project, worker, project.signal(alice, trader)) == "duplicate_position"


@pytest.mark.parametrize("tighter", SCOPES)
def test_limits_that_need_the_market_reach_whoever_prepares_to_the_last_digit(
    project: Project, alice: UUID, trader: UUID, worker: Worker, limit: Limit, tighter: str
) -> None:
    tight: dict[str, Any] = {
        "min_position_size_usdt": Decimal("12345678.123456789012345678"),
        "max_price_deviation_percent": Decimal("0.000000000000000001"),
        "max_stop_loss_percent": Decimal("9.999999999999999999"),
        "require_stop_loss": True,
    }
    loose: dict[str, Any] = {
        "min_position_size_usdt": Decimal("12345678.123456789012345677"),
        "max_price_deviation_percent": Decimal("0.000000000000000002"),
        "max_stop_loss_percent": Decimal(10),
        "require_stop_loss": False,
    }
    assert set(tight) == set(loose) == set(Limits.model_fields)
    limit(tighter, **tight)
    limit(other(tighter), **loose)
    signal_id = project.signal(alice, trader)
    worker.claim(signal_id)
    assert Brief.model_validate(worker.brief(signal_id)).limits.effective() == Limits(**tight)
