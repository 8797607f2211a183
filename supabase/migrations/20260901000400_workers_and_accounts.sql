-- Who works for whom. The unit of work is the account: a user in one mode.

create table public.workers (
  id uuid primary key,
  name text,
  modes text[] not null check (cardinality(modes) > 0 and modes <@ array['paper', 'testnet', 'live']),
  lease_seconds numeric not null check (lease_seconds > 0 and lease_seconds <= 3600),
  max_signal_age_seconds numeric not null check (max_signal_age_seconds > 0 and max_signal_age_seconds < 'Infinity'),
  registered_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp(),
  -- Set once, by whoever finds the lease over, or by the worker itself when it leaves. Never taken back.
  dead_at timestamptz
);
comment on table public.workers is
  'Each life of each worker process. Heartbeats are by the database''s clock; a worker past its lease is alive '
  'until somebody declares it dead, and from then on can change nothing.';
create index workers_alive_idx on public.workers (heartbeat_at) where dead_at is null;

create table public.accounts (
  user_id uuid not null references auth.users,
  mode text not null check (mode in ('paper', 'testnet', 'live')),
  worker_id uuid references public.workers,
  taken_at timestamptz,
  primary key (user_id, mode)
);
comment on table public.accounts is
  'Held by one live worker or free. The holder runs its signals in order, its orders and its monitoring.';
create index accounts_worker_id_idx on public.accounts (worker_id) where worker_id is not null;

create table public.system_state (
  id boolean primary key default true check (id),
  stopped boolean not null default false,
  stop_reason text,
  stopped_at timestamptz
);
comment on table public.system_state is 'One row: whether trading is stopped for everybody.';
insert into public.system_state default values;

create table fillstream.admissions (
  worker_id uuid not null references public.workers on delete cascade,
  attempt_id uuid not null,
  signal_id uuid not null,
  answer jsonb not null,
  at timestamptz not null default clock_timestamp(),
  primary key (worker_id, attempt_id)
);
comment on table fillstream.admissions is
  'First answers, given again when the same worker asks again: an answer can be lost on its way.';

create table fillstream.tries (
  signal_id uuid primary key references public.signals on delete cascade,
  tries integer not null default 1,
  detail text,
  at timestamptz not null default clock_timestamp()
);
comment on table fillstream.tries is
  'How often a signal could not be prepared. Not on its row: a change there is news to every worker.';

create function fillstream.ensure_limits(p_user_id uuid) returns void language sql as $$
  insert into public.risk_limits (user_id, max_position_size_usdt, max_total_exposure_usdt, daily_loss_limit_usdt)
  values (p_user_id, 100, 500, 50) on conflict do nothing
$$;
comment on function fillstream.ensure_limits is 'Limits of an account that has none yet: what cannot hurt much.';

-- A user's first trader brings limits that cannot hurt much and play money; each trader its account.
create function fillstream.equip_trader() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    perform fillstream.ensure_limits(new.user_id);
    insert into public.paper_balances (user_id) values (new.user_id) on conflict do nothing;
  end if;
  insert into public.accounts (user_id, mode) values (new.user_id, new.mode) on conflict do nothing;
  return null;
end $$;
create trigger equip after insert or update of mode on public.traders
  for each row execute function fillstream.equip_trader();
