"""Whether rows agree with one another: what must hold of users' signals whatever happened to the processes."""

from __future__ import annotations

import uuid

from tests.end_to_end.product import Project, User

# Each query names rows that break what its key says; all sums are made anew from the trades.
RULES = {
    "every signal is answered once": """
        select signal.id, signal.status, count(position.id) from signals as signal
        left join positions as position on position.signal_id = signal.id
        where signal.user_id = any (%(users)s) and signal.decision = 'enter_trade'
        group by signal.id
        having signal.status not in ('in_position', 'completed', 'rejected', 'expired', 'failed')
          or count(position.id) <> case when signal.status in ('rejected', 'expired') then 0 else 1 end
          or (signal.refusal_code is null) <> (signal.status not in ('rejected', 'expired'))
    """,
    "a position has one entry": """
        select position.id, count(entry.id) from positions as position
        left join orders as entry on entry.position_id = position.id and entry.purpose = 'entry'
        where position.user_id = any (%(users)s) group by position.id having count(entry.id) <> 1
    """,
    "an order says what its trades say": """
        select working.id, working.status, working.filled_quantity, sum(trade.quantity) from orders as working
        left join trades as trade on trade.order_id = working.id
        where working.user_id = any (%(users)s)
        group by working.id
        having working.filled_quantity <> coalesce(sum(trade.quantity), 0)
          or working.total_value <> coalesce(sum(trade.value), 0)
          or working.fees <> coalesce(sum(trade.fee_usdt), 0)
          or coalesce(sum(trade.value), 0) <> coalesce(sum(trade.price * trade.quantity), 0)
          or (working.status = 'filled') <> (working.filled_quantity = working.quantity)
          or (working.status in ('filled', 'cancelled', 'expired', 'failed') and working.reserved <> 0)
    """,
    "nothing is left half done": """
        select working.id, working.status from orders as working
        join positions as position on position.id = working.position_id
        where working.user_id = any (%(users)s) and working.status in ('created', 'submitting', 'unknown')
          and (working.purpose = 'entry' or position.status in ('closed', 'failed'))
    """,
    "a position says what its entry says": """
        select position.id, position.status, entry.status from positions as position
        join orders as entry on entry.position_id = position.id and entry.purpose = 'entry'
        cross join lateral (
          select coalesce(sum(trade.fee), 0) as in_coins from trades as trade
          where trade.order_id = entry.id and trade.fee_asset = split_part(trade.symbol, '/', 1)
        ) as fee
        where position.user_id = any (%(users)s) and (
          coalesce(position.entry_value, 0) <> entry.total_value
          or coalesce(position.entry_quantity, 0) <> entry.filled_quantity - fee.in_coins
          or position.fees_paid <> (
            select coalesce(sum(trade.fee_usdt), 0) from trades as trade where trade.position_id = position.id
          )
          or coalesce(position.exit_quantity, 0) <> (
            select coalesce(sum(trade.quantity), 0) from trades as trade
            where trade.position_id = position.id and trade.side = 'sell'
          )
          or (position.status = 'failed') <> (entry.filled_quantity = 0)
          or (position.failure_code is null) <> (position.status <> 'failed')
        )
    """,
    "events are numbered without holes and follow one another": """
        select event.* from (
          select each.position_id, each.seq, each.from_status, each.to_status,
            row_number() over stretch as place, lag(each.to_status) over stretch as before,
            lead(each.to_status) over stretch as after
          from position_events as each where each.user_id = any (%(users)s)
          window stretch as (partition by each.position_id order by each.seq)
        ) as event
        join positions as position on position.id = event.position_id
        where event.seq <> event.place or event.from_status is distinct from event.before
          or (event.after is null and event.to_status <> position.status)
    """,
    "the paper balance is exact": """
        select balance.user_id, balance.current_balance, balance.reserved, spent.value
        from paper_balances as balance
        cross join lateral (
          select coalesce(sum(
            trade.fee_usdt + case trade.side when 'buy' then trade.value else -trade.value end
          ), 0) as value
          from trades as trade where trade.user_id = balance.user_id and trade.is_paper_trade
        ) as spent
        where balance.user_id = any (%(users)s) and (
          balance.current_balance <> balance.initial_balance - spent.value
          or balance.reserved <> (
            select coalesce(sum(working.reserved), 0) from orders as working
            where working.user_id = balance.user_id and working.is_paper_trade
          )
        )
    """,
}


def assert_books(project: Project, *users: User) -> None:
    """Check every rule for these users' rows; none of them is to have work in hand any more."""
    ids = [uuid.UUID(user.id) for user in users]
    broken = {rule: rows for rule, query in RULES.items() if (rows := project.rows(query, users=ids))}
    assert not broken
