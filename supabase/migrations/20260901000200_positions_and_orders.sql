-- What became of the signals. Money is unscaled numeric; prices per base unit in quote, values in quote.

create table public.positions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users,
  trader_id uuid not null references public.traders,
  signal_id uuid not null unique references public.signals,
  symbol text not null,
  side text not null default 'long' check (side in ('long', 'short')),
  -- created     by admission, for the length of its transaction
  -- submitting  by admission: the entry order may be at the venue, nothing more is known
  -- open        with the first fill of the entry
  -- monitoring  when adopted and protected; again when a close did not come about
  -- closing     when an exit begins
  -- closed      when nothing sellable is left
  -- failed      when the entry came to nothing; never while coins are held
  status text not null default 'created' check (
    status in ('created', 'submitting', 'open', 'monitoring', 'closing', 'closed', 'failed')
  ),
  mode text not null check (mode in ('paper', 'testnet', 'live')),
  is_paper_trade boolean not null generated always as (mode = 'paper') stored,
  entry_price numeric,
  entry_quantity numeric,
  entry_value numeric,
  entry_time timestamptz,
  entry_order_id text,
  exit_price numeric,
  exit_quantity numeric,
  exit_value numeric,
  exit_time timestamptz,
  exit_order_id text,
  exit_reason text check (exit_reason in (
    'stop_loss', 'take_profit', 'trailing_stop', 'time_limit', 'action', 'emergency_stop', 'protection_failed',
    'dust', 'lost_at_venue'
  )),
  stop_loss_price numeric,
  -- as admitted: what follows the entry price; null where the signal named a price, or nobody did
  stop_loss_percent numeric,
  take_profit_price numeric,
  take_profit_percent numeric,
  max_loss_usdt numeric,
  protected_at timestamptz,
  dust_quantity numeric,
  realized_pnl numeric,
  realized_pnl_percent numeric,
  fees_paid numeric not null default 0,
  failure_code text check (failure_code in (
    'entry_not_accepted', 'entry_not_filled', 'insufficient_balance', 'keys_rejected', 'venue_rejected',
    'venue_unavailable', 'internal_error'
  )),
  failure_reason text,
  metadata jsonb not null default '{}',
  woken_at timestamptz,
  admitted_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.positions is
  'One entry each, from its admission to its end. An open position is open, monitoring or closing.';
comment on column public.positions.mode is 'The mode of the trader at admission.';
comment on column public.positions.entry_price is 'Value by gross quantity, rounded half-even to 18 places.';
comment on column public.positions.entry_quantity is 'What is held: net of the fees taken in the base asset.';
comment on column public.positions.fees_paid is 'Of all its orders, in USDT.';
comment on column public.positions.woken_at is 'When the worker heard of the signal.';

-- In flight and open: what limits count, recovery finishes and a monitor watches.
create index positions_active_idx on public.positions (user_id, mode)
  where status in ('created', 'submitting', 'open', 'monitoring', 'closing');
create index positions_user_id_idx on public.positions (user_id, created_at desc);
create index positions_trader_id_idx on public.positions (trader_id, created_at desc);

create table public.orders (
  id uuid primary key default gen_random_uuid(),
  position_id uuid not null references public.positions,
  user_id uuid not null references auth.users,
  purpose text not null check (purpose in ('entry', 'exit', 'stop_loss', 'take_profit')),
  client_order_id text not null unique,
  exchange_order_id text,
  order_list_id text,
  symbol text not null,
  side text not null check (side in ('buy', 'sell')),
  type text not null check (type in ('market', 'limit', 'stop_loss', 'stop_loss_limit', 'take_profit',
    'take_profit_limit', 'limit_maker', 'trailing_stop')),
  time_in_force text check (time_in_force in ('GTC', 'IOC', 'FOK')),
  quantity numeric not null check (quantity > 0 and quantity < 'Infinity'),
  price numeric check (price > 0 and price < 'Infinity'),
  stop_price numeric check (stop_price > 0 and stop_price < 'Infinity'),
  filled_quantity numeric not null default 0,
  avg_fill_price numeric,
  total_value numeric not null default 0,
  fees numeric not null default 0,
  -- created           when written, before anything is signed
  -- submitting        signed, and perhaps sent: the venue may have it
  -- submitted         the venue said it rests
  -- partially_filled  the venue said so
  -- filled            the venue said so
  -- cancelled         the venue said so, or it was never sent; may carry fills
  -- expired           the venue said so (IOC, FOK); may carry fills
  -- failed            surely never accepted
  -- unknown           the answer was lost: it is looked up, never sent again
  status text not null default 'created' check (status in (
    'created', 'submitting', 'submitted', 'partially_filled', 'filled', 'cancelled', 'expired', 'failed', 'unknown'
  )),
  mode text not null check (mode in ('paper', 'testnet', 'live')),
  is_paper_trade boolean not null generated always as (mode = 'paper') stored,
  signed_at timestamptz,
  recv_window_ms integer check (recv_window_ms between 1 and 60000),
  error_message text,
  raw_response jsonb,
  worst_value numeric,
  reserved numeric not null default 0,
  paper_balance_id uuid,
  submitted_at timestamptz,
  acknowledged_at timestamptz,
  filled_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.orders is 'Each request to a venue, committed before it is sent.';
comment on column public.orders.signed_at is
  'Venue time, in whole milliseconds; the request is signed with exactly this and recv_window_ms, so that nobody '
  'can place it later.';
comment on column public.orders.fees is 'In USDT.';
comment on column public.orders.worst_value is 'What an entry costs at the worst price it can fill at.';
comment on column public.orders.reserved is 'Quote still set aside for it: at the worst price, with the fee.';
comment on column public.orders.paper_balance_id is 'The balance that a paper order was reserved from.';
create index orders_position_id_idx on public.orders (position_id);
create index orders_user_id_idx on public.orders (user_id, created_at desc);
-- What recovery and the tracker finish.
create index orders_unfinished_idx on public.orders (user_id, mode)
  where status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown');

create table public.trades (
  id uuid primary key default gen_random_uuid(),
  order_id uuid not null references public.orders,
  position_id uuid not null references public.positions,
  user_id uuid not null references auth.users,
  exchange_trade_id text not null,
  symbol text not null,
  side text not null check (side in ('buy', 'sell')),
  price numeric not null,
  quantity numeric not null check (quantity > 0 and quantity < 'Infinity'),
  value numeric not null,
  fee numeric not null default 0,
  fee_asset text,
  fee_usdt numeric not null default 0,
  is_paper_trade boolean not null,
  executed_at timestamptz not null,
  unique (order_id, exchange_trade_id)
);
comment on table public.trades is 'One row a fill, as the venue tells it; sums elsewhere come from here.';
comment on column public.trades.fee_usdt is 'The fee valued in USDT at the fill''s time.';
create index trades_position_id_idx on public.trades (position_id);
create index trades_user_id_idx on public.trades (user_id, executed_at desc);

create table public.position_marks (
  position_id uuid primary key references public.positions,
  user_id uuid not null references auth.users,
  mark_price numeric,
  unrealized_pnl numeric,
  unrealized_pnl_percent numeric,
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.position_marks is
  'What open positions are worth, written in batches; not published: live marks go by broadcast to user:<user_id>.';
create index position_marks_user_id_idx on public.position_marks (user_id);

create table public.position_events (
  id bigint generated always as identity primary key,
  position_id uuid not null references public.positions,
  user_id uuid not null references auth.users,
  seq integer not null,
  from_status text,
  to_status text not null,
  worker_id uuid,
  detail text,
  at timestamptz not null default clock_timestamp(),
  unique (position_id, seq)
);
comment on table public.position_events is 'Each state of each position, in order. Append-only, by trigger.';
create index position_events_user_id_idx on public.position_events (user_id, at desc);

create table public.position_actions (
  id uuid primary key default gen_random_uuid(),
  seq bigint generated always as identity,
  position_id uuid not null references public.positions,
  user_id uuid not null references auth.users,
  action text not null check (action in ('hold', 'adjust_sl', 'adjust_tp', 'reduce', 'close', 'cancel_entry')),
  -- {"stop_loss_price"}, {"take_profit_price"} or {"quantity"}, as text
  details jsonb not null default '{}' check (pg_column_size(details) <= 8192),
  reasoning text check (octet_length(reasoning) <= 20000),
  confidence numeric,
  -- pending  by the owner, a model or an emergency stop
  -- done     by the worker
  -- refused  by the worker: it makes no sense; error_message says why
  -- failed   by the worker: it could not be done; error_message says why
  status text not null default 'pending' check (status in ('pending', 'done', 'refused', 'failed')),
  error_message text,
  created_at timestamptz not null default clock_timestamp(),
  done_at timestamptz
);
comment on table public.position_actions is
  'What the user or a model asks of a position; carried out in the order of seq.';
create index position_actions_pending_idx on public.position_actions (position_id, seq)
  where status = 'pending';
create index position_actions_position_id_idx on public.position_actions (position_id, created_at desc);
create index position_actions_user_id_idx on public.position_actions (user_id, created_at desc);

create table public.pnl_snapshots (
  id bigint generated always as identity primary key,
  position_id uuid not null references public.positions,
  user_id uuid not null references auth.users,
  pnl numeric,
  pnl_percent numeric,
  current_price numeric,
  snapshot_at timestamptz not null default clock_timestamp()
);
comment on table public.pnl_snapshots is 'Hourly, of each open position.';
create index pnl_snapshots_position_id_idx on public.pnl_snapshots (position_id, snapshot_at desc);
create index pnl_snapshots_user_id_idx on public.pnl_snapshots (user_id, snapshot_at desc);

create trigger touch before update on public.positions for each row execute function fillstream.touch();
create trigger touch before update on public.orders for each row execute function fillstream.touch();

-- Whose an action is follows from its position. Under the writer's own rights: of a position they cannot see
-- there is no user, and the policy refuses the row.
create function fillstream.own_action() returns trigger language plpgsql set search_path = '' as $$
begin
  new.user_id := (select position.user_id from public.positions as position where position.id = new.position_id);
  return new;
end $$;
create trigger own_action before insert on public.position_actions
  for each row execute function fillstream.own_action();
