"""What to do next about a position that holds coins: decided from its rows, the market and the clock alone.

One step at a time, and each from the rows as they stand: whoever takes the position over decides alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from streams.domain.action import Action
from streams.domain.errors import Refused
from streams.domain.held import Held, Memory
from streams.domain.market import MarketRules, Quote
from streams.domain.money import HUNDRED, ZERO, ceil_to, exact, floor_to, raised_by, text
from streams.domain.order import ENDED, Order
from streams.domain.position import Position
from streams.domain.reconcile import UNSURE
from streams.domain.step import (
    Adopt,
    Answer,
    Ask,
    Cancel,
    CancelEntry,
    Close,
    Protect,
    Sell,
    Step,
    Wait,
)

TRAIL_STEP_PERCENT = Decimal("0.2")
"""A trailing stop is moved at the venue only when it can rise by so much: each move leaves a moment bare."""
ADOPT_BARE_SECONDS = 1.0
"""After its first fill a position with nothing to protect is adopted: nothing hurries, and signals come first."""
THROUGH_SECONDS = 2.0
"""How long the price may stay through what rests at the venue without a fill, before the worker sells itself."""


@exact
def next_step(held: Held, rules: MarketRules, quote: Quote | None, memory: Memory, now: datetime, at: float) -> Step:
    """Decide. `now` is wall time in UTC, `at` monotonic seconds; without a quote nothing is decided by price."""
    unsure = tuple(order for order in held.orders if order.status in UNSURE)
    if unsure:
        return Ask(unsure)
    if memory.lost and not held.orders and not held.entry_works:
        return Close("lost_at_venue")
    sellable = sellable_of(held.position, rules)
    dust = is_dust(sellable, rules, quote, held.position)
    if not held.orders and not held.entry_works and dust:
        return Close(held.position.exit_reason or _last_reason(held) or "dust")
    reason = _exit_reason(held, quote, memory, now, at)
    if reason is not None:
        return _exit(held, sellable, dust, rules, reason)
    if held.actions:
        return _act(held, held.actions[0], sellable, dust, rules, quote)
    if any(order.purpose == "exit" for order in held.orders):
        return Wait()
    return _guard(held, sellable, dust, rules, quote, memory, now, at)


@exact
def sellable_of(position: Position, rules: MarketRules) -> Decimal:
    """What the venue would take of what is held, in whole steps."""
    return floor_to(position.remaining, rules.step)


@exact
def is_dust(sellable: Decimal, rules: MarketRules, quote: Quote | None, position: Position) -> bool:
    """Whether the venue would take nothing: by LOT_SIZE and NOTIONAL at the price now, the entry's without a quote."""
    price = position.entry_price if quote is None else quote.bid
    return sellable <= ZERO or sellable < rules.min_quantity or sellable * (price or ZERO) < rules.min_notional


@exact
def trailing_level(position: Position, rules: MarketRules, peak: Decimal | None) -> Decimal | None:
    """Where the trailing stop stands: so far below the highest price since the entry, never lower than it was."""
    percent = position.trailing_stop_percent
    if percent is None or position.entry_price is None:
        return None
    highest = max(position.entry_price, peak or ZERO)
    level = ceil_to(raised_by(highest, -percent), rules.tick)
    return max(level, position.trailing_stop_price or ZERO)


@exact
def wanted_stop(position: Position, rules: MarketRules, peak: Decimal | None) -> Decimal | None:
    """The stop that is to rest: the higher of the fixed one and the trailing one."""
    levels = [position.stop_loss_price, trailing_level(position, rules, peak)]
    return max((level for level in levels if level is not None), default=None)


@exact
def remember(memory: Memory, held: Held, rules: MarketRules, bids: Sequence[Decimal], at: float) -> Memory:
    """Take in the bids of a stretch of time that ends now, in their order."""
    position = held.position
    peak = max(memory.peak or ZERO, position.entry_price or ZERO)
    level, trailed = trailing_level(position, rules, peak), memory.trailed
    for bid in bids:
        trailed = trailed or (level is not None and bid <= level)
        if bid > peak:
            peak, level = bid, trailing_level(position, rules, bid)
    through = through_by(held, max(bids), min(bids))
    since = (at if memory.through_since is None else memory.through_since) if through else None
    return replace(memory, peak=peak, trailed=trailed, through_since=since)


def through_by(held: Held, high: Decimal, low: Decimal) -> bool:
    """Whether the highest bid was at or below a resting stop, or the lowest one at or above a target: all of them."""
    for order in held.guards:
        if order.stop_price is None:
            continue
        if order.purpose == "stop_loss" and high <= order.stop_price:
            return True
        if order.purpose == "take_profit" and low >= order.stop_price:
            return True
    return False


def reason_of(order: Order, position: Position) -> str:
    """Why a protective order sold: a stop above the fixed one is the trailing stop's."""
    if order.purpose == "take_profit":
        return "take_profit"
    fixed = position.stop_loss_price
    trailing = position.trailing_stop_percent is not None and order.stop_price is not None
    if trailing and (fixed is None or (order.stop_price or ZERO) > fixed):
        return "trailing_stop"
    return "stop_loss"


def _last_reason(held: Held) -> str | None:
    """Why the last of it was sold, where it was sold before anybody called it closing."""
    sale = held.last_sale
    if sale is None:
        return None
    return "action" if sale.purpose == "exit" else reason_of(sale, held.position)


def _exit_reason(held: Held, quote: Quote | None, memory: Memory, now: datetime, at: float) -> str | None:
    """Why everything is to be sold now, if it is."""
    position = held.position
    if position.status == "closing":
        return position.exit_reason or "action"
    if held.actions and held.actions[0].action == "close":
        return held.actions[0].exit_reason
    if memory.unprotectable is not None:
        return "protection_failed"
    if _time_is_up(position, now):
        return "time_limit"
    resting = [order.stop_price for order in held.guards if order.purpose == "stop_loss" and order.stop_price]
    if memory.trailed and not (quote is not None and resting and quote.bid <= max(resting)):
        return "trailing_stop"  # what rests at the venue, the venue fires
    if memory.through_since is not None and at >= memory.through_since + THROUGH_SECONDS:
        return _through_reason(held, quote)
    return None


def _through_reason(held: Held, quote: Quote | None) -> str | None:
    for order in held.guards:
        if quote is None or order.stop_price is None:
            continue
        below = order.purpose == "stop_loss" and quote.bid <= order.stop_price
        above = order.purpose == "take_profit" and quote.bid >= order.stop_price
        if below or above:
            return reason_of(order, held.position)
    return None


def _time_is_up(position: Position, now: datetime) -> bool:
    ends_at = hold_ends_at(position)
    return ends_at is not None and now >= ends_at


def hold_ends_at(position: Position) -> datetime | None:
    """When the position has been held for as long as it may."""
    if position.max_hold_minutes is None or position.entry_time is None:
        return None
    return position.entry_time + timedelta(seconds=int(position.max_hold_minutes * 60))


def _exit(held: Held, sellable: Decimal, dust: bool, rules: MarketRules, reason: str) -> Step:
    """In the order cancel, confirm what was executed, sell the rest."""
    if held.entry_works:
        return CancelEntry(held.entry)
    if held.guards:
        if reason == "trailing_stop" and not dust and _untouched(held):  # it races with the price
            return Sell(_at_most(sellable, rules), reason, instead_of=held.guards)
        return Cancel(held.guards)
    if held.orders:
        return Wait()
    if dust:
        return Close(reason)
    return Sell(_at_most(sellable, rules), reason)


def _untouched(held: Held) -> bool:
    """Whether all that is at work rests, and nothing of it was executed."""
    return all(order.status == "submitted" and order.filled_quantity == ZERO for order in held.orders)


def _at_most(quantity: Decimal, rules: MarketRules) -> Decimal:
    """What one market order may sell."""
    most = min((one for one in (rules.max_quantity, rules.market_max_quantity) if one > ZERO), default=quantity)
    return min(quantity, most)


def _act(held: Held, action: Action, sellable: Decimal, dust: bool, rules: MarketRules, quote: Quote | None) -> Step:
    """The first action that is asked for; the others wait behind it."""
    try:
        match action.action:
            case "hold":
                return Answer(action, "done")
            case "cancel_entry":
                if held.entry_works:
                    return CancelEntry(held.entry)
                return Answer(action, "refused", "There is no entry at work any more.")
            case "adjust_sl":
                return Answer(action, "done", stop=_new_stop(action, rules, quote))
            case "adjust_tp":
                return Answer(action, "done", target=_new_target(action, rules, quote))
            case "reduce":
                return _reduce(held, action, sellable, dust, rules, quote)
            case _:
                return Answer(action, "refused", f"{action.action} is nothing that can be done with a position.")
    except Refused as refusal:
        return Answer(action, "refused", refusal.reason)


def _new_stop(action: Action, rules: MarketRules, quote: Quote | None) -> Decimal:
    stop = ceil_to(action.amount("stop_loss_price"), rules.tick)
    if quote is not None and stop >= quote.bid:
        raise Refused(
            "invalid_stop", f"The stop {text(stop)} of a long must be below the price, which is {text(quote.bid)}."
        )
    return stop


def _new_target(action: Action, rules: MarketRules, quote: Quote | None) -> Decimal:
    target = ceil_to(action.amount("take_profit_price"), rules.tick)
    if quote is not None and target <= quote.bid:
        raise Refused(
            "invalid_stop", f"The target {text(target)} of a long must be above the price, which is {text(quote.bid)}."
        )
    return target


def _reduce(held: Held, action: Action, sellable: Decimal, dust: bool, rules: MarketRules, quote: Quote | None) -> Step:
    if action.order is not None:
        return _reduced(held, action, action.order)
    if held.entry_works:
        return CancelEntry(held.entry)
    wanted = floor_to(action.amount("quantity"), rules.step)
    if dust or wanted > sellable:
        raise Refused("invalid_action", f"Only {text(sellable)} {rules.base} can be sold of this position.")
    if is_dust(wanted, rules, quote, held.position):
        raise Refused("invalid_action", f"{text(wanted)} {rules.base} is below what the exchange takes.")
    if held.guards:
        return Cancel(held.guards)
    return Sell(_at_most(wanted, rules), action_id=action.id)


def _reduced(held: Held, action: Action, order: Order) -> Step:
    if order.status not in ENDED:
        return Wait()
    if order.filled_quantity == order.quantity:
        return Answer(action, "done")
    sold = text(order.filled_quantity)
    return Answer(
        action, "failed", f"{sold} of {text(order.quantity)} {held.position.symbol} was sold; ask for the rest."
    )


def _guard(
    held: Held,
    sellable: Decimal,
    dust: bool,
    rules: MarketRules,
    quote: Quote | None,
    memory: Memory,
    now: datetime,
    at: float,
) -> Step:
    """Have resting what is to rest."""
    position, guards = held.position, held.guards
    stop, target = wanted_stop(position, rules, memory.peak), position.take_profit_price
    if any(order.status == "partially_filled" for order in guards):
        since = at if memory.partly_since is None else memory.partly_since
        return Cancel(guards) if at >= since + THROUGH_SECONDS else Wait(since + THROUGH_SECONDS)
    if dust or (stop is None and target is None):
        if guards:
            return Cancel(guards)
        if _may_adopt(held):
            hurry = ADOPT_BARE_SECONDS - _age(position, now)
            return Adopt() if hurry <= 0 else Wait(at + hurry)
        return Wait(_wakes_at(position, memory, now, at))
    if guards and _fits(guards, sellable, stop, target):
        return Adopt() if _may_adopt(held) else Wait(_wakes_at(position, memory, now, at))
    if guards and not _untouched(held):
        return Cancel(guards)
    if quote is not None and stop is not None and quote.bid <= stop:
        return _exit(held, sellable, dust, rules, "stop_loss" if stop == position.stop_loss_price else "trailing_stop")
    if quote is not None and target is not None and quote.bid >= target:
        return _exit(held, sellable, dust, rules, "take_profit")
    trailing = trailing_level(position, rules, memory.peak)
    return Protect(sellable, stop, target, trailing if trailing == stop else None, instead_of=guards)


def _age(position: Position, now: datetime) -> float:
    """Seconds since the first fill."""
    return ADOPT_BARE_SECONDS if position.entry_time is None else (now - position.entry_time).total_seconds()


def _may_adopt(held: Held) -> bool:
    return held.position.status == "open" and not held.entry_works


def _wakes_at(position: Position, memory: Memory, now: datetime, at: float) -> float | None:
    times: list[float] = []
    if memory.through_since is not None and memory.through_since + THROUGH_SECONDS > at:
        times.append(memory.through_since + THROUGH_SECONDS)  # later on, the next quote decides
    ends_at = hold_ends_at(position)
    if ends_at is not None:
        times.append(at + max((ends_at - now).total_seconds(), 0.0))
    return min(times, default=None)


def _fits(guards: tuple[Order, ...], sellable: Decimal, stop: Decimal | None, target: Decimal | None) -> bool:
    """Whether what rests is what is wanted; a trailing stop may lag a little."""
    resting = {order.purpose: order for order in guards}
    if len(resting) != len(guards) or resting.keys() != _wanted_purposes(stop, target):
        return False
    if any(order.remaining != sellable for order in guards):
        return False
    if target is not None and resting["take_profit"].stop_price != target:
        return False
    if stop is None:
        return True
    rests_at = resting["stop_loss"].stop_price or ZERO
    return rests_at == stop or rests_at < stop < rests_at * (1 + TRAIL_STEP_PERCENT / HUNDRED)


def _wanted_purposes(stop: Decimal | None, target: Decimal | None) -> set[str]:
    wanted = {"stop_loss": stop, "take_profit": target}
    return {purpose for purpose, price in wanted.items() if price is not None}
