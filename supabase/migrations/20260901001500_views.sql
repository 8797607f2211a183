-- What screens show. Both views read under the reader's own rights.

create view public.trader_performance with (security_invoker = true) as
select
  trader.id as trader_id,
  trader.user_id,
  count(*) filter (where position.status = 'closed') as total_trades,
  count(*) filter (where position.realized_pnl > 0) as winning_trades,
  count(*) filter (where position.realized_pnl < 0) as losing_trades,
  round(
    100.0 * count(*) filter (where position.realized_pnl > 0)
    / nullif(count(*) filter (where position.realized_pnl is not null), 0), 2
  ) as win_rate_percent,
  coalesce(sum(position.realized_pnl), 0) as total_realized_pnl,
  avg(position.realized_pnl) filter (where position.realized_pnl > 0) as avg_win,
  avg(position.realized_pnl) filter (where position.realized_pnl < 0) as avg_loss,
  max(position.realized_pnl) as best_trade,
  min(position.realized_pnl) as worst_trade,
  coalesce(
    sum(position.entry_value) filter (where position.status in ('open', 'monitoring', 'closing')), 0
  ) as total_exposure
from public.traders as trader
left join public.positions as position on position.trader_id = trader.id and position.mode = trader.mode
group by trader.id, trader.user_id;
comment on view public.trader_performance is
  'What each trader made, in the mode it is in now: play money and money are never added up.';

create view public.execution_timeline with (security_invoker = true) as
select
  position.id as position_id,
  position.user_id,
  position.trader_id,
  position.signal_id,
  position.symbol,
  position.mode,
  position.status,
  signal.ready_at as signal_ready_at,
  position.woken_at,
  position.admitted_at,
  entry.submitted_at,
  entry.acknowledged_at,
  entry.filled_at,
  opened.at as opened_at,
  position.protected_at
from public.positions as position
join public.signals as signal on signal.id = position.signal_id
left join public.orders as entry on entry.position_id = position.id and entry.purpose = 'entry'
left join public.position_events as opened on opened.position_id = position.id and opened.to_status = 'open';
comment on view public.execution_timeline is 'When each position passed which stage, by the database''s clock.';

revoke all on public.trader_performance, public.execution_timeline from public, anon, authenticated, service_role;
grant select on public.trader_performance, public.execution_timeline to authenticated, service_role;
