-- Who may do what. A project's default privileges grant everything on everything to everybody's roles, so all is
-- taken away by name first, and then given one by one. A test holds the list.

revoke all on
  public.traders, public.signals, public.positions, public.position_marks, public.orders, public.trades,
  public.position_events, public.position_actions, public.risk_limits, public.risk_refusals, public.account_equity,
  public.exchange_credentials, public.exchange_accounts, public.key_access_log, public.paper_balances,
  public.pnl_snapshots, public.accounts, public.workers, public.system_state
from public, anon, authenticated, service_role;
revoke all on
  public.signals_seq_seq, public.position_actions_seq_seq, public.position_events_id_seq,
  public.pnl_snapshots_id_seq, public.risk_refusals_id_seq,
  public.key_access_log_id_seq
from public, anon, authenticated, service_role;
revoke all on all tables in schema fillstream from public, anon, authenticated, service_role;

alter table public.traders enable row level security;
alter table public.signals enable row level security;
alter table public.positions enable row level security;
alter table public.position_marks enable row level security;
alter table public.orders enable row level security;
alter table public.trades enable row level security;
alter table public.position_events enable row level security;
alter table public.position_actions enable row level security;
alter table public.risk_limits enable row level security;
alter table public.risk_refusals enable row level security;
alter table public.account_equity enable row level security;
alter table public.exchange_credentials enable row level security;
alter table public.exchange_accounts enable row level security;
alter table public.key_access_log enable row level security;
alter table public.paper_balances enable row level security;
alter table public.pnl_snapshots enable row level security;
alter table public.accounts enable row level security;
alter table public.workers enable row level security;
alter table public.system_state enable row level security;
alter table fillstream.admissions enable row level security;
alter table fillstream.tries enable row level security;

-- Owners read what is theirs. There is nothing for anon, and keys, workers and accounts are nobody's to read.
grant select on
  public.traders, public.signals, public.positions, public.position_marks, public.orders, public.trades,
  public.position_events, public.position_actions, public.risk_limits, public.risk_refusals, public.account_equity,
  public.exchange_accounts, public.paper_balances, public.pnl_snapshots
to authenticated;

create policy read_own on public.traders for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.signals for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.positions for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.position_marks for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.orders for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.trades for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.position_events for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.position_actions for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.risk_limits for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.risk_refusals for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.account_equity for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.exchange_accounts for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.paper_balances for select to authenticated using (user_id = (select auth.uid()));
create policy read_own on public.pnl_snapshots for select to authenticated using (user_id = (select auth.uid()));

-- Traders: made in paper mode, for oneself; renamed, switched and configured, nothing else.
grant insert (user_id, name, risk_config), update (name, enabled, risk_config) on public.traders to authenticated;
create policy insert_own on public.traders for insert to authenticated
  with check (user_id = (select auth.uid()) and mode = 'paper');
create policy update_own on public.traders for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- Limits: of one's account and one's own traders. Pauses come and go by functions.
grant
  insert (
    user_id, trader_id, max_position_size_usdt, max_position_size_percent, min_position_size_usdt,
    max_total_exposure_usdt, max_open_positions, daily_loss_limit_usdt, daily_loss_limit_percent,
    max_drawdown_percent, max_order_size_usdt, max_price_deviation_percent, min_order_interval_seconds,
    one_position_per_symbol, require_stop_loss, max_stop_loss_percent
  ),
  update (
    max_position_size_usdt, max_position_size_percent, min_position_size_usdt,
    max_total_exposure_usdt, max_open_positions, daily_loss_limit_usdt, daily_loss_limit_percent,
    max_drawdown_percent, max_order_size_usdt, max_price_deviation_percent, min_order_interval_seconds,
    one_position_per_symbol, require_stop_loss, max_stop_loss_percent
  )
on public.risk_limits to authenticated;
create policy insert_own on public.risk_limits for insert to authenticated with check (
  user_id = (select auth.uid())
  and (
    trader_id is null
    or exists (
      select from public.traders as trader
      where trader.id = risk_limits.trader_id and trader.user_id = (select auth.uid())
    )
  )
);
create policy update_own on public.risk_limits for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- Actions: asked of one's own positions; the user comes from the position, by trigger.
grant insert (position_id, action, details, reasoning, confidence) on public.position_actions to authenticated;
create policy insert_own on public.position_actions for insert to authenticated with check (
  user_id = (select auth.uid())
  and exists (
    select from public.positions as position
    where position.id = position_actions.position_id and position.user_id = (select auth.uid())
  )
);

-- The service role is the producer of signals and the operator. States are moved by functions, so it writes no
-- position, order or trade; and nothing published is ever deleted: every subscriber would hear of it.
grant select on
  public.traders, public.signals, public.positions, public.position_marks, public.orders, public.trades,
  public.position_events, public.position_actions, public.risk_limits, public.risk_refusals, public.account_equity,
  public.exchange_credentials, public.exchange_accounts, public.key_access_log, public.paper_balances,
  public.pnl_snapshots, public.accounts, public.workers, public.system_state
to service_role;
grant insert, update on
  public.traders, public.signals, public.risk_limits, public.paper_balances, public.exchange_credentials,
  public.exchange_accounts
to service_role;
grant insert (position_id, action, details, reasoning, confidence) on public.position_actions to service_role;
grant insert on public.key_access_log to service_role;
grant delete on public.exchange_credentials, public.exchange_accounts to service_role;
