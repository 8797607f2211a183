-- Who trades, and what they are told to trade.

-- Everything that is nobody's business but the database's: rules, triggers, moves. No role may use it;
-- what is offered to clients is in public. Of its functions, those in plain SQL fix no search_path, so that they are
-- inlined; all names in them are qualified.
create schema fillstream;
comment on schema fillstream is 'Rules, moves and triggers behind the public functions. Not exposed.';
revoke all on schema fillstream from public, anon, authenticated;

create function fillstream.touch() returns trigger language plpgsql set search_path = '' as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end $$;
comment on function fillstream.touch is
  'Stamps a changed row. By the clock and not by the transaction, so that two changes never look like one.';

create table public.traders (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users,
  name text not null check (char_length(name) between 1 and 200),
  enabled boolean not null default true,
  mode text not null default 'paper' check (mode in ('paper', 'testnet', 'live')),
  exchange text not null default 'binance' check (exchange = 'binance'),
  -- {"position_size": {"type": "percent" | "fixed" | "risk", "value"}, "stop_loss_percent", "take_profit_percent",
  --  "trailing_stop_percent", "max_slippage_percent", "max_spread_percent", "max_hold_minutes"}
  -- Read by the worker, which refuses the signals of a trader whose config makes no sense.
  risk_config jsonb not null default '{"position_size": {"type": "fixed", "value": "25"}}'
    check (pg_column_size(risk_config) <= 8192),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.traders is 'Who trades for a user, in which mode, how large, with which stops.';
comment on column public.traders.mode is 'Moved to testnet or live by set_trader_mode alone.';
create index traders_user_id_idx on public.traders (user_id);

create trigger touch before update on public.traders for each row execute function fillstream.touch();

-- Values are not checked on insert: a producer never breaks, a bad signal is refused on its row.
create table public.signals (
  id uuid primary key default gen_random_uuid(),
  seq bigint generated always as identity,
  user_id uuid not null references auth.users,
  trader_id uuid not null references public.traders,
  symbol text not null,
  side text default 'long',
  decision text not null,
  -- ready       by the producer; with decision enter_trade it is worked on
  -- monitoring  by the producer: not yet, or no more
  -- executing   by admission, with its position and entry order; left with the position's state
  -- in_position when its position opens
  -- completed   when its position is closed
  -- rejected    by a rule, with a code
  -- failed      when its entry failed; the position says why
  -- expired     by a rule: too old, or past expires_at
  status text not null default 'ready' check (
    status in ('ready', 'monitoring', 'executing', 'in_position', 'completed', 'rejected', 'failed', 'expired')
  ),
  ready_at timestamptz,
  price numeric,
  order_type text default 'market',
  limit_price numeric,
  stop_loss numeric,
  take_profit numeric,
  confidence numeric,
  reasoning text,
  expires_at timestamptz,
  metadata jsonb default '{}',
  refusal_code text check (refusal_code in (
    'invalid_signal', 'invalid_stop', 'invalid_risk_config', 'trader_disabled', 'trader_not_owned',
    'mode_not_allowed', 'unsupported_quote', 'unknown_symbol', 'short_not_supported', 'signal_expired',
    'trading_paused', 'duplicate_position', 'max_open_positions', 'exposure_limit', 'position_too_large',
    'position_too_small', 'below_min_notional', 'daily_loss_limit', 'drawdown_limit', 'order_interval',
    'stop_loss_required', 'stop_too_wide', 'price_deviation', 'spread_too_wide', 'insufficient_balance',
    'keys_missing', 'keys_rejected', 'internal_error'
  )),
  refusal_reason text,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  closed_at timestamptz
);
comment on table public.signals is
  'What to trade, written by the service role. Every signal with decision enter_trade ends with a position or a '
  'refusal: a code for programs and a sentence for people.';
comment on column public.signals.seq is 'Orders signals that became ready at the same instant.';
comment on column public.signals.ready_at is 'When decision enter_trade and status ready came to hold. By trigger.';
comment on column public.signals.price is 'The price the producer saw; a reference, not a limit.';

-- What the worker looks for: the oldest ready signals of all, and of a user.
create index signals_ready_idx on public.signals (ready_at, seq)
  where status = 'ready' and decision = 'enter_trade';
create index signals_ready_user_idx on public.signals (user_id, ready_at, seq)
  where status = 'ready' and decision = 'enter_trade';
-- What a screen shows: a user's newest, a trader's newest.
create index signals_user_id_idx on public.signals (user_id, created_at desc);
create index signals_trader_id_idx on public.signals (trader_id, created_at desc);
