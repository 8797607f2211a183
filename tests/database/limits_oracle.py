"""What admission has to answer, worked out a second time: in exact numbers, from what happened and not from rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

ZERO = Decimal(0)
FEE = Decimal("0.001")


@dataclass(frozen=True)
class Limits:
    """Limits of an account or of a trader; None is no limit."""

    max_open_positions: int | None = None
    max_total_exposure_usdt: Decimal | None = None
    max_position_size_usdt: Decimal | None = None
    max_order_size_usdt: Decimal | None = None
    daily_loss_limit_usdt: Decimal | None = None
    one_position_per_symbol: bool = False


@dataclass(frozen=True)
class Trader:
    """In one mode, with limits of its own, spending from one purse of play money."""

    mode: str
    limits: Limits = Limits()
    purse: int = 0


@dataclass(frozen=True)
class Wish:
    """A signal of a trader, with what was planned for it: the worst price is the limit of its order."""

    trader: int
    symbol: str
    quantity: Decimal
    price: Decimal

    @property
    def worst(self) -> Decimal:
        return self.quantity * self.price

    @property
    def cost(self) -> Decimal:
        return self.worst * (1 + FEE)


@dataclass(frozen=True)
class Held:
    """A wish that was admitted, and what came of it. The profit is known when the position is closed."""

    wish: Wish
    filled: Decimal = ZERO
    value: Decimal = ZERO
    at_work: bool = True
    profit: Decimal | None = None

    @property
    def counts(self) -> bool:
        return self.at_work or (self.filled > 0 and self.profit is None)

    @property
    def exposure(self) -> Decimal:
        return self.value + (self.wish.price * (self.wish.quantity - self.filled) if self.at_work else ZERO)

    @property
    def paid(self) -> Decimal:
        return self.value * (1 + FEE)

    @property
    def reserved(self) -> Decimal:
        return self.wish.cost - self.paid if self.at_work else ZERO


@dataclass(frozen=True)
class Story:
    """One user: traders, limits, play money, and every wish that was admitted, in order."""

    traders: tuple[Trader, ...]
    account: Limits
    purses: tuple[Decimal, ...]
    held: tuple[Held, ...] = ()

    def limited(self, trader: int | None, limits: Limits) -> Story:
        """With other limits of the account, or of one trader."""
        if trader is None:
            return replace(self, account=limits)
        changed = replace(self.traders[trader], limits=limits)
        return replace(self, traders=(*self.traders[:trader], changed, *self.traders[trader + 1 :]))

    def admitted(self, wish: Wish) -> Story:
        return replace(self, held=(*self.held, Held(wish)))

    def with_held(self, place: int, held: Held) -> Story:
        return replace(self, held=(*self.held[:place], held, *self.held[place + 1 :]))

    def scopes(self, trader: int) -> tuple[Scope, Scope]:
        """The account as the trader's mode sees it, and the trader alone."""
        mode = self.traders[trader].mode
        of_mode = tuple(held for held in self.held if self.traders[held.wish.trader].mode == mode)
        own = tuple(held for held in of_mode if held.wish.trader == trader)
        return Scope(self.account, of_mode), Scope(self.traders[trader].limits, own)

    def free(self, purse: int) -> Decimal:
        """Play money that is neither spent nor reserved."""
        paper = [held for held in self.held if self.traders[held.wish.trader].mode == "paper"]
        mine = [held for held in paper if self.traders[held.wish.trader].purse == purse]
        return self.purses[purse] + sum(
            ((-held.paid if held.profit is None else held.profit) - held.reserved for held in mine), ZERO
        )


@dataclass(frozen=True)
class Scope:
    """Limits, and what they are held against."""

    limits: Limits
    held: tuple[Held, ...]

    @property
    def counted(self) -> list[Held]:
        return [held for held in self.held if held.counts]

    @property
    def exposure(self) -> Decimal:
        return sum((held.exposure for held in self.counted), ZERO)

    @property
    def loss(self) -> Decimal:
        return -sum((held.profit for held in self.held if held.profit is not None), ZERO)


Refusal = tuple[str, str, str]
"""Code, value and limit."""


def refusals(story: Story, wish: Wish, *, planned: bool = True) -> frozenset[Refusal]:
    """What the first rule against a wish says; none: it fits.

    Where account and trader, or two sizes, break the same rule, either answer is right. Before there is a plan,
    what the wish would cost is not asked.
    """
    scopes = story.scopes(wish.trader)
    found = [
        [_told("daily_loss_limit", it.loss, it.limits.daily_loss_limit_usdt) for it in scopes if _lost_too_much(it)],
        [
            ("duplicate_position", wish.symbol, "1")
            for it in scopes
            if it.limits.one_position_per_symbol and any(held.wish.symbol == wish.symbol for held in it.counted)
        ],
        [
            _told("max_open_positions", len(it.counted), it.limits.max_open_positions)
            for it in scopes
            if _reaches(len(it.counted), it.limits.max_open_positions)
        ],
    ]
    if planned:
        found += [
            [
                _told("position_too_large", wish.worst, most)
                for it in scopes
                for most in (it.limits.max_position_size_usdt, it.limits.max_order_size_usdt)
                if _exceeds(wish.worst, most)
            ],
            [
                _told("exposure_limit", it.exposure + wish.worst, it.limits.max_total_exposure_usdt)
                for it in scopes
                if _exceeds(it.exposure + wish.worst, it.limits.max_total_exposure_usdt)
            ],
        ]
        trader = story.traders[wish.trader]
        if trader.mode == "paper" and wish.cost > (free := story.free(trader.purse)):
            found.append([_told("insufficient_balance", wish.cost, free)])
    else:
        found.append(
            [
                _told("exposure_limit", it.exposure, it.limits.max_total_exposure_usdt)
                for it in scopes
                if _reaches(it.exposure, it.limits.max_total_exposure_usdt)
            ]
        )
    return frozenset(next((answers for answers in found if answers), ()))


def _lost_too_much(scope: Scope) -> bool:
    return _reaches(scope.loss, scope.limits.daily_loss_limit_usdt)


def _reaches(value: Decimal | int, limit: Decimal | int | None) -> bool:
    return limit is not None and value >= limit


def _exceeds(value: Decimal, limit: Decimal | None) -> bool:
    return limit is not None and value > limit


def _told(code: str, value: Decimal | int, limit: Decimal | int | None) -> Refusal:
    return code, _digits(value), _digits(limit)


def _digits(value: Decimal | int | None) -> str:
    """As a refusal writes a number: without zeros at its end, never in powers of ten."""
    return format(Decimal(value or 0).normalize(), "f")
