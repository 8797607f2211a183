"""Whatever happens and in whichever order, a signal is admitted if it fits its limits, and only then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as some
from psycopg import Error, sql

from tests.database.client import Client
from tests.database.concurrency import at_once
from tests.database.limits_oracle import FEE, Held, Limits, Refusal, Story, Trader, Wish, refusals
from tests.database.project import Project
from tests.database.trading import Worker

D = Decimal
MODES: tuple[str, ...] = ("paper", "testnet")
TRADERS = ("paper", "paper", "testnet")
SCOPES = (None, 0, 1, 2)
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
# Longer than any line gets here, so that a claim looks at all of it.
LINE = 100
LEAST = D("0.00000001")
QUANTITIES = (D("0.5"), D(1), D("1.5"))
PRICES = (D(100), D("99.99999999"), D("66.6"))
PURSES = (D(400), D(10_000), D("100.1"), D("150.14999999"))

# Small numbers that meet often: what is worth a look is at a limit, just under it and just over it.
CHOICES: dict[str, tuple[Any, ...]] = {
    "max_open_positions": (0, 1, 2, 3),
    "max_total_exposure_usdt": (D(0), D(100), D("249.99999999"), D(250), D(400)),
    "max_position_size_usdt": (D("99.99999999"), D(100), D(150)),
    "max_order_size_usdt": (D("99.99999999"), D(100), D(150)),
    "daily_loss_limit_usdt": (D(0), D("10.19"), D(20), D(50)),
    "one_position_per_symbol": (True,),
}


KEPT, VAST = ("max_total_exposure_usdt", "max_position_size_usdt", "daily_loss_limit_usdt"), D("1e15")


@dataclass(frozen=True)
class Send:
    """A signal, left ready or admitted at once; what is filled of it is filled at its worst price."""

    wish: Wish
    admitted: bool
    share: Decimal


@dataclass(frozen=True)
class Admit:
    """A ready signal is admitted; before that, a worker may try that does not hold the account."""

    pick: int
    by_stranger: bool


@dataclass(frozen=True)
class Fill:
    pick: int
    share: Decimal
    of_worst_price: Decimal


@dataclass(frozen=True)
class Expire:
    pick: int


@dataclass(frozen=True)
class Cancel:
    """An entry at the exchange is cancelled, and not for good: a fill that came before it may still be told."""

    pick: int


@dataclass(frozen=True)
class Close:
    pick: int
    of_worst_price: Decimal


@dataclass(frozen=True)
class Change:
    """The user changes the limits of the account or of a trader."""

    scope: int | None
    limits: Limits


@dataclass(frozen=True)
class Tighten:
    """The user sets the limit just beside the exposure that a wish would make, or beside what is lost by now."""

    scope: int | None
    wish: Wish | None
    beside: Decimal


@dataclass(frozen=True)
class TakeOver:
    """A worker retires, the other one takes its accounts, and a new one comes."""

    leaver: int


Step = Send | Admit | Fill | Expire | Cancel | Close | Change | Tighten | TakeOver


def _limited(chosen: list[tuple[str, Any]]) -> Limits:
    return Limits(**dict(chosen))


_limit = some.one_of([some.tuples(some.just(name), some.sampled_from(values)) for name, values in CHOICES.items()])
_unlimited = some.just(Limits())
_limits = some.builds(_limited, some.lists(_limit, min_size=1, max_size=2))
_wishes = some.builds(
    Wish, some.integers(0, 2), some.sampled_from(SYMBOLS), some.sampled_from(QUANTITIES), some.sampled_from(PRICES)
)
_picks = some.integers(0, 5)
_scopes = some.sampled_from(SCOPES)
_steps = some.one_of(
    # What is drawn of alternatives is drawn of each as often, whatever is drawn within one.
    *[some.builds(Send, _wishes, some.just(True), some.just(D(share))) for share in ("0", "0.5", "1")],
    some.builds(Send, _wishes, some.just(False), some.just(D(0))),
    *[some.builds(Admit, _picks, some.just(by_stranger)) for by_stranger in (False, False, True)],
    some.builds(Fill, _picks, some.sampled_from((D(1), D("0.5"))), some.sampled_from((D(1), D("0.9")))),
    *[some.builds(Close, _picks, some.just(D(price))) for price in ("0.9", "0.8", "1.2")],
    *[some.builds(Tighten, _scopes, some.none() | _wishes, some.just(beside)) for beside in (-LEAST, D(0), LEAST)],
    some.builds(Change, _scopes, _unlimited | _limits),
    some.builds(Expire, _picks),
    some.builds(Cancel, _picks),
    some.builds(TakeOver, some.integers(0, 1)),
)


def _story(account: Limits, first: Limits, last: Limits, purse: Decimal, own: Decimal | None) -> Story:
    traders = (Trader("paper", first, 0 if own is None else 1), Trader("paper"), Trader("testnet", last))
    return Story(traders, account, (purse,) if own is None else (purse, own))


_purses = some.sampled_from(PURSES)
_stories = some.builds(
    _story, _unlimited | _limits, _unlimited | _limits, _unlimited | _limits, _purses, some.none() | _purses
)


class Account:
    """A user's story as it goes on in the database, with two workers, beside the oracle's."""

    def __init__(self, project: Project, user: Client, user_id: UUID, story: Story, workers: list[Worker]) -> None:
        self.project, self.user, self.user_id, self.story = project, user, user_id, story
        self.workers = workers
        self.hands = dict(zip(MODES, workers, strict=True))
        self.traders = [project.trader(user_id, mode) for mode in TRADERS]
        self.briefs: dict[UUID, Any] = {}
        self.ready: dict[UUID, Wish] = {}
        self.plans: list[dict[str, Any]] = []
        # The limits at the last admission of each mode and scope, as their rows told them, and its symbol.
        self.in_force: dict[tuple[str, UUID | None], tuple[dict[str, Any], str]] = {}
        for purse, money in enumerate(story.purses):
            project.owner.execute(
                "insert into public.paper_balances (user_id, trader_id, initial_balance, current_balance)"
                " values (%s, %s, %s, %s) on conflict (user_id, trader_id) do update set"
                " initial_balance = excluded.initial_balance, current_balance = excluded.current_balance",
                user_id,
                self.traders[0] if purse else None,
                money,
                money,
            )
        for scope in SCOPES:
            limits = story.account if scope is None else story.traders[scope].limits
            if scope is None or limits != Limits():
                self.limit(scope, limits)

    def take(self, step: Step) -> None:
        match step:
            case Send(wish, admitted, share):
                signal_id = self.send(wish)
                if admitted and signal_id in self.ready and self.admit(signal_id) and share:
                    self.fill(len(self.story.held) - 1, share, D(1))
            case Admit(pick, by_stranger) if self.ready:
                signal_id = [*self.ready][pick % len(self.ready)]
                if by_stranger:
                    self.attempt_by_stranger(signal_id)
                self.admit(signal_id)
            case Fill(pick, share, of_worst_price):
                if (place := self.place(pick, lambda held: held.at_work)) is not None:
                    self.fill(place, share, of_worst_price)
            case Expire(pick):
                if (place := self.place(pick, lambda held: held.at_work)) is not None:
                    self.expire(place)
            case Cancel(pick):
                if (place := self.place(pick, self.may_be_cancelled)) is not None:
                    self.cancel(place)
            case Close(pick, of_worst_price):
                if (place := self.place(pick, lambda held: held.counts and not held.at_work)) is not None:
                    self.close(place, of_worst_price)
            case Change(scope, limits):
                self.limit(scope, limits)
            case Tighten(scope, wish, beside):
                self.tighten(scope, wish, beside)
            case TakeOver(leaver):
                self.take_over(leaver)
            case Admit():
                pass

    def place(self, pick: int, fits: Callable[[Held], bool]) -> int | None:
        places = [place for place, held in enumerate(self.story.held) if fits(held)]
        return places[pick % len(places)] if places else None

    def mode(self, wish: Wish) -> str:
        return TRADERS[wish.trader]

    def worker(self, place: int) -> Worker:
        return self.hands[self.mode(self.story.held[place].wish)]

    def limit(self, scope: int | None, limits: Limits) -> None:
        """Set limits as their user does. The account keeps some, since it trades at an exchange: vast ones are none."""
        columns = [sql.Identifier(field.name) for field in fields(limits)]
        written = asdict(limits)
        if scope is None:
            written |= {name: VAST for name in KEPT if written[name] is None}
        self.user.execute(
            sql.SQL(
                "insert into public.risk_limits (user_id, trader_id, {}) values (%s, %s, {})"
                " on conflict (user_id, trader_id) do update set {}"
            ).format(
                sql.SQL(", ").join(columns),
                sql.SQL(", ").join(sql.Placeholder() for _ in columns),
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(column) for column in columns),
            ),
            self.user_id,
            None if scope is None else self.traders[scope],
            *written.values(),
        )
        self.story = self.story.limited(scope, limits)

    def tighten(self, scope: int | None, wish: Wish | None, beside: Decimal) -> None:
        trader = scope if scope is not None else wish.trader if wish else 0
        there = self.story.scopes(trader)[0 if scope is None else 1]
        if wish:
            self.limit(scope, Limits(max_total_exposure_usdt=there.exposure + wish.worst + beside))
        else:
            self.limit(scope, Limits(daily_loss_limit_usdt=max(there.loss + beside, LEAST)))

    def send(self, wish: Wish) -> UUID:
        signal_id = self.project.signal(self.user_id, self.traders[wish.trader], symbol=wish.symbol)
        self.ready[signal_id] = wish
        mode = self.mode(wish)
        self.sifted(self.hands[mode].call("claim_signals", p_signal_ids=[signal_id], p_line=LINE), {mode})
        return signal_id

    def sifted(self, claim: dict[str, Any], modes: set[str]) -> None:
        """A claim looks at every ready signal of the accounts it is about, without plans."""
        looked_at = {signal_id: wish for signal_id, wish in self.ready.items() if self.mode(wish) in modes}
        expected = {signal_id: refusals(self.story, wish, planned=False) for signal_id, wish in looked_at.items()}
        claimed = {UUID(brief["id"]): brief for brief in claim["signals"]}
        assert [*claimed] == [signal_id for signal_id, answers in expected.items() if not answers]
        self.briefs |= claimed
        for signal_id, answers in expected.items():
            if answers:
                assert self.refusal(signal_id) in answers
                del self.ready[signal_id]

    def refusal(self, signal_id: UUID) -> Refusal:
        """What its one refusal says."""
        [(status, code, *told)] = self.project.owner.rows(
            "select signal.status, signal.refusal_code, refusal.code, refusal.rule_value, refusal.limit_value"
            " from public.risk_refusals as refusal join public.signals as signal on signal.id = refusal.signal_id"
            " where signal.id = %s",
            signal_id,
        )
        assert (status, code) == ("rejected", told[0])
        return told[0], told[1], told[2]

    def plan(self, signal_id: UUID) -> dict[str, Any]:
        wish = self.ready[signal_id]
        return self.hands[self.mode(wish)].plan(
            self.briefs[signal_id], str(wish.quantity), str(wish.price), str(wish.worst * FEE)
        )

    def admit(self, signal_id: UUID) -> bool:
        plan, wish = self.plan(signal_id), self.ready[signal_id]
        return self.answered(signal_id, self.hands[self.mode(wish)].admit(signal_id, plan), plan)

    def answered(self, signal_id: UUID, answer: dict[str, Any], plan: dict[str, Any]) -> bool:
        """Whether a signal was admitted, held against what the oracle says after all that came before."""
        wish = self.ready.pop(signal_id)
        expected = refusals(self.story, wish)
        assert answer["outcome"] == ("refused" if expected else "admitted"), (answer, expected)
        if expected:
            assert self.refusal(signal_id) in expected
            return False
        self.story = self.story.admitted(wish)
        self.plans.append(plan)
        for scope, limits, lost in self.project.owner.rows(
            "select own.trader_id, to_jsonb(own), ("
            "  select -coalesce(sum(ended.realized_pnl), 0) from public.positions as ended"
            "  where ended.user_id = own.user_id and ended.mode = %s and ended.status = 'closed'"
            "   and (own.trader_id is null or ended.trader_id = own.trader_id)"
            " ) from public.risk_limits as own where own.user_id = %s and (trader_id is null or trader_id = %s)",
            self.mode(wish),
            self.user_id,
            self.traders[wish.trader],
        ):
            self.in_force[self.mode(wish), scope] = limits, wish.symbol
            assert limits["daily_loss_limit_usdt"] is None or lost < limits["daily_loss_limit_usdt"]
            assert within(wish.worst, limits["max_position_size_usdt"])
            assert within(wish.worst, limits["max_order_size_usdt"])
        return True

    def attempt_by_stranger(self, signal_id: UUID) -> None:
        holder = self.hands[self.mode(self.ready[signal_id])]
        [stranger] = [worker for worker in self.workers if worker is not holder]
        assert stranger.admit(signal_id, self.plan(signal_id)) == {"outcome": "taken"}

    def fill(self, place: int, share: Decimal, of_worst_price: Decimal) -> None:
        held = self.story.held[place]
        quantity, price = (held.wish.quantity - held.filled) * share, held.wish.price * of_worst_price
        value = quantity * price
        before = len(self.fills(place))
        answer = self.worker(place).record(
            self.plans[place]["order_id"],
            status="filled" if share == 1 else "partially_filled",
            known_fills=before,
            fills=[Worker.fill(f"{before}", str(price), str(quantity), str(value * FEE))],
        )
        assert answer["changed"] is True
        self.told(place, replace(held, filled=held.filled + quantity, value=held.value + value, at_work=share != 1))

    def fills(self, place: int) -> list[Any]:
        return self.project.owner.column(
            "select id from public.trades where order_id = %s", self.plans[place]["order_id"]
        )

    def told(self, place: int, held: Held) -> None:
        self.story = self.story.with_held(place, held)

    def expire(self, place: int) -> None:
        self.worker(place).record(self.plans[place]["order_id"], status="expired", known_fills=len(self.fills(place)))
        self.told(place, replace(self.story.held[place], at_work=False))

    def may_be_cancelled(self, held: Held) -> bool:
        return held.at_work and not held.filled and self.mode(held.wish) != "paper"

    def cancel(self, place: int) -> None:
        self.worker(place).record(self.plans[place]["order_id"], status="cancelled", final=False)

    def close(self, place: int, of_worst_price: Decimal) -> None:
        held, worker = self.story.held[place], self.worker(place)
        position_id, order_id = self.plans[place]["position_id"], str(uuid4())
        price = held.wish.price * of_worst_price
        value = price * held.filled
        exit_order = {
            "id": order_id,
            "purpose": "exit",
            "client_order_id": f"fs{uuid4().hex[:24]}-x1",
            "type": "market",
            "quantity": str(held.filled),
        }
        prepared = worker.call(
            "prepare_exits",
            p_position_id=position_id,
            p_plan={"orders": [exit_order], "exit_reason": "action", "recv_window_ms": 5000, "venue_offset_ms": 0},
        )
        assert prepared["outcome"] == "prepared"
        sold = {"status": "filled", "fills": [Worker.fill("x", str(price), str(held.filled), str(value * FEE))]}
        worker.call("record_exits", p_position_id=position_id, p_reports=[{"order_id": order_id, "report": sold}])
        assert worker.call("close_position", p_position_id=position_id, p_reason="action")["closed"] is True
        self.told(place, replace(held, profit=value * (1 - FEE) - held.paid))

    def take_over(self, leaver: int) -> None:
        leaving, staying = self.workers[leaver], self.workers[1 - leaver]
        leaving.call("worker_retire")
        for signal_id, wish in self.ready.items():
            if self.hands[self.mode(wish)] is leaving:
                with pytest.raises(Error, match="was declared dead"):
                    leaving.admit(signal_id, self.plan(signal_id))
        self.workers[leaver] = registered(leaving.client)
        self.hands = dict.fromkeys(MODES, staying)
        self.sifted(staying.call("claim_signals", p_line=LINE), set(MODES))

    def check(self) -> None:
        """What the rows themselves say, whatever the oracle thinks."""
        active = self.project.owner.rows(
            "select position.mode, position.trader_id, position.symbol,"
            "  coalesce(position.entry_value, 0) + coalesce(entry.price * (entry.quantity - entry.filled_quantity), 0)"
            " from public.positions as position"
            " left join public.orders as entry on entry.position_id = position.id and entry.purpose = 'entry'"
            "  and entry.status not in ('filled', 'failed')"
            "  and (entry.status not in ('cancelled', 'expired') or position.status = 'submitting')"
            " where position.user_id = %s and position.status not in ('closed', 'failed')",
            self.user_id,
        )
        for (mode, trader_id), (limits, symbol) in self.in_force.items():
            there = [row for row in active if row[0] == mode and trader_id in (None, row[1])]
            assert within(len(there), limits["max_open_positions"])
            assert within(sum(row[3] for row in there), limits["max_total_exposure_usdt"])
            assert not limits["one_position_per_symbol"] or [row[2] for row in there].count(symbol) <= 1
        for reserved, at_work, current, left in self.project.owner.rows(
            "select balance.reserved, coalesce(entries.reserved, 0), balance.current_balance,"
            "  balance.initial_balance + coalesce(moved.money, 0)"
            " from public.paper_balances as balance left join lateral ("
            "  select sum(entry.worst_value * (1 + %s) - entry.total_value - entry.fees) as reserved"
            "  from public.orders as entry"
            "  where entry.paper_balance_id = balance.id and entry.purpose = 'entry'"
            "   and entry.status not in ('filled', 'cancelled', 'expired', 'failed')"
            " ) as entries on true left join lateral ("
            "  select sum(case trade.side when 'sell' then trade.value else -trade.value end - trade.fee_usdt) as money"
            "  from public.trades as trade join public.orders as paid on paid.id = trade.order_id"
            "  where paid.paper_balance_id = balance.id"
            " ) as moved on true where balance.user_id = %s",
            FEE,
            self.user_id,
        ):
            assert reserved == at_work <= current == left


def within(value: Decimal | int, limit: Decimal | int | None) -> bool:
    return limit is None or value <= limit


def registered(client: Client) -> Worker:
    worker = Worker(client, uuid4(), MODES)
    worker.register()
    return worker


# What meets seldom where all is drawn: play money to the last digit, and what another trader of the mode did.
_free = _story(Limits(), Limits(), Limits(), D(10_000), None)
_bought, _other = (Send(Wish(trader, SYMBOLS[0], D(1), D(100)), True, D(1)) for trader in (0, 1))


@example(story=_story(Limits(), Limits(), Limits(), D("100.1"), None), steps=[_bought])
@example(story=_free, steps=[_bought, Close(0, D("0.9")), Tighten(1, None, D(0)), _other])
@example(story=_free, steps=[Change(1, Limits(one_position_per_symbol=True)), _bought, _other, _other])
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),  # to explain a failure takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(story=_stories, steps=some.lists(_steps, min_size=25, max_size=40))
def test_a_signal_is_admitted_if_it_fits_its_limits_and_only_then(
    project: Project, services: tuple[Client, Client], story: Story, steps: list[Step]
) -> None:
    # Each example has a user of its own; what earlier ones left is nobody's work. Emptying every table takes longer.
    project.owner.execute("delete from public.accounts")
    project.owner.execute("delete from public.workers")
    user_id = project.sign_up()
    with closing(project.user(user_id)) as user:
        account = Account(project, user, user_id, story, [registered(client) for client in services])
        for step in steps:
            account.take(step)
            account.check()


@pytest.fixture
def services(project: Project) -> tuple[Client, Client]:
    return project.service(), project.service()


@pytest.mark.parametrize("seed", range(3))
def test_however_many_ask_at_once_each_is_answered_as_if_they_had_come_one_by_one(
    project: Project, alice: UUID, bob: UUID, seed: int
) -> None:
    random = Random(seed)
    workers = [registered(project.service()) for _ in MODES]
    accounts = [
        Account(project, project.user(user_id), user_id, drawn_story(random), hands)
        for user_id, hands in ((alice, workers), (bob, workers[::-1]))
    ]
    twins = [Worker(project.service(), worker.id, MODES) for worker in workers for _ in range(6)]
    for _ in range(2):
        burst(project, accounts, twins, random)
        for account in accounts:
            settle(account, random)


def drawn_limits(random: Random) -> Limits:
    return Limits(**{name: random.choice(CHOICES[name]) for name in random.sample([*CHOICES], 2)})


def drawn_story(random: Random) -> Story:
    traders = tuple(Trader(mode, drawn_limits(random) if random.random() < 0.5 else Limits()) for mode in TRADERS)
    return Story(traders, drawn_limits(random), (random.choice(PURSES),))


def drawn_wish(random: Random) -> Wish:
    return Wish(random.randrange(3), random.choice(SYMBOLS), random.choice(QUANTITIES), random.choice(PRICES))


def burst(project: Project, accounts: list[Account], twins: list[Worker], random: Random) -> None:
    """Admissions of both accounts of both users from many threads; then their history, in its order."""
    lines: list[list[tuple[UUID, dict[str, Any]]]] = [[] for _ in twins]
    for account in accounts:
        for wish in [drawn_wish(random) for _ in range(16)]:
            account.send(wish)
        for signal_id, wish in account.ready.items():
            holder = account.hands[account.mode(wish)]
            line = random.choice([line for twin, line in zip(twins, lines, strict=True) if twin.id == holder.id])
            line.append((signal_id, account.plan(signal_id)))

    def work(twin: Worker, line: list[tuple[UUID, dict[str, Any]]]) -> list[tuple[UUID, dict[str, Any]]]:
        return [(signal_id, twin.admit(signal_id, plan)) for signal_id, plan in line]

    answers = dict(
        answer
        for line in at_once([partial(work, twin, line) for twin, line in zip(twins, lines, strict=True)])
        for answer in line
    )
    plans = dict(planned for line in lines for planned in line)
    # An answer is kept while its account is locked.
    history = project.owner.column("select signal_id from fillstream.admissions order by at")
    for account in accounts:
        for signal_id in [signal_id for signal_id in history if signal_id in account.ready]:
            account.answered(signal_id, answers[signal_id], plans[signal_id])
        assert not account.ready
        account.check()


def settle(account: Account, random: Random) -> None:
    """What comes of the entries, and other limits for what comes next."""
    for place in range(len(account.story.held)):
        if account.story.held[place].at_work and random.random() < 0.7:
            account.fill(place, random.choice((D(1), D("0.5"))), random.choice((D(1), D("0.9"))))
    for _ in range(4):
        account.take(random.choice((Expire(random.randrange(6)), Close(random.randrange(6), D("0.9")))))
    account.take(Change(random.choice(SCOPES), drawn_limits(random)))
    account.check()
