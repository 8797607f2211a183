-- What a user may lose, what they have, and the keys they gave.

-- Null is no limit. A limit of the account and one of the trader both hold: the tighter wins.
create table public.risk_limits (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users,
  trader_id uuid references public.traders,
  max_position_size_usdt numeric check (max_position_size_usdt >= 0 and max_position_size_usdt < 'Infinity'),
  max_position_size_percent numeric check (max_position_size_percent >= 0 and max_position_size_percent < 'Infinity'),
  min_position_size_usdt numeric check (min_position_size_usdt >= 0 and min_position_size_usdt < 'Infinity'),
  max_total_exposure_usdt numeric check (max_total_exposure_usdt >= 0 and max_total_exposure_usdt < 'Infinity'),
  max_open_positions integer check (max_open_positions >= 0),
  daily_loss_limit_usdt numeric check (daily_loss_limit_usdt >= 0 and daily_loss_limit_usdt < 'Infinity'),
  daily_loss_limit_percent numeric check (daily_loss_limit_percent >= 0 and daily_loss_limit_percent < 'Infinity'),
  max_drawdown_percent numeric check (max_drawdown_percent >= 0 and max_drawdown_percent < 'Infinity'),
  max_order_size_usdt numeric check (max_order_size_usdt >= 0 and max_order_size_usdt < 'Infinity'),
  max_price_deviation_percent numeric
    check (max_price_deviation_percent >= 0 and max_price_deviation_percent < 'Infinity'),
  min_order_interval_seconds numeric
    check (min_order_interval_seconds >= 0 and min_order_interval_seconds < 'Infinity'),
  one_position_per_symbol boolean not null default false,
  require_stop_loss boolean,
  max_stop_loss_percent numeric check (max_stop_loss_percent >= 0 and max_stop_loss_percent < 'Infinity'),
  trading_paused boolean not null default false,
  pause_reason text,
  paused_by text check (paused_by in ('user', 'limit', 'operator')),
  paused_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  unique nulls not distinct (user_id, trader_id)
);
comment on table public.risk_limits is
  'Limits of a user''s whole account (trader_id null) and of single traders. The owner sets them; pauses come and '
  'go by functions alone. Positions of one mode are counted, never paper and live together.';
create index risk_limits_trader_id_idx on public.risk_limits (trader_id);

create table public.risk_refusals (
  id bigint generated always as identity primary key,
  signal_id uuid not null references public.signals,
  user_id uuid not null references auth.users,
  code text not null,
  rule_value text,
  limit_value text,
  at timestamptz not null default clock_timestamp()
);
comment on table public.risk_refusals is 'One row a refusal: which rule, the value found, the limit it broke.';
create index risk_refusals_signal_id_idx on public.risk_refusals (signal_id);
create index risk_refusals_user_id_idx on public.risk_refusals (user_id, at desc);

create table public.account_equity (
  user_id uuid not null references auth.users,
  mode text not null check (mode in ('paper', 'testnet', 'live')),
  day date,
  day_start numeric,
  peak numeric,
  current numeric,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (user_id, mode)
);
comment on table public.account_equity is
  'Equity in USDT of an account: at the start of its day (UTC), at its peak, now. Kept by the worker.';

create table public.paper_balances (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users,
  trader_id uuid references public.traders,
  initial_balance numeric not null default 10000,
  current_balance numeric not null default 10000,
  reserved numeric not null default 0 check (reserved >= 0 and reserved < 'Infinity'),
  total_pnl numeric not null default 0,
  total_trades integer not null default 0,
  winning_trades integer not null default 0,
  losing_trades integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  unique nulls not distinct (user_id, trader_id)
);
comment on table public.paper_balances is
  'Play money in USDT: of the account (trader_id null), or of a trader who has a row of their own. '
  'Reserved is what working entries may still cost.';
create index paper_balances_trader_id_idx on public.paper_balances (trader_id);
alter table public.orders add constraint orders_paper_balance_id_fkey
  foreign key (paper_balance_id) references public.paper_balances;

create table public.exchange_credentials (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users,
  exchange text not null default 'binance' check (exchange = 'binance'),
  mode text not null check (mode in ('testnet', 'live')),
  api_key_ciphertext text not null,
  secret_ciphertext text not null,
  key_version integer not null default 1,
  version bigint not null default 1,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  unique (user_id, exchange, mode)
);
comment on table public.exchange_credentials is 'Exchange keys, encrypted. Read by the service role alone.';
comment on column public.exchange_credentials.key_version is 'Which data key it is encrypted with.';
comment on column public.exchange_credentials.version is
  'Grows with each change, so that a cached key is known as old.';

create table public.exchange_accounts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users,
  exchange text not null default 'binance' check (exchange = 'binance'),
  mode text not null check (mode in ('testnet', 'live')),
  label text,
  permissions jsonb not null default '{}',
  is_active boolean not null default true,
  last_used_at timestamptz,
  error text,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  unique (user_id, exchange, mode)
);
comment on table public.exchange_accounts is 'What the owner sees of a stored key.';

create table public.key_access_log (
  id bigint generated always as identity primary key,
  user_id uuid not null references auth.users,
  exchange text not null,
  mode text not null,
  outcome text not null,
  at timestamptz not null default clock_timestamp()
);
comment on table public.key_access_log is 'Each decryption: for whom, when, with which outcome. No key material.';
create index key_access_log_user_id_idx on public.key_access_log (user_id, at desc);

create trigger touch before update on public.risk_limits for each row execute function fillstream.touch();
create trigger touch before update on public.account_equity for each row execute function fillstream.touch();
create trigger touch before update on public.paper_balances for each row execute function fillstream.touch();
create trigger touch before update on public.exchange_accounts for each row execute function fillstream.touch();

create function fillstream.renew_credential() returns trigger language plpgsql set search_path = '' as $$
begin
  new.version := old.version + 1;
  new.updated_at := clock_timestamp();
  return new;
end $$;
create trigger renew before update on public.exchange_credentials
  for each row execute function fillstream.renew_credential();
