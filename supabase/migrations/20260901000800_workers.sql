-- A worker's life: it registers under a fresh id, keeps its lease by heartbeats, and is dead for good once declared.

create function fillstream.epoch_ms(p_at timestamptz) returns text language sql immutable as $$
  select floor(extract(epoch from p_at) * 1000)::bigint::text
$$;

-- Every mutation by a worker begins here. The lock makes whoever would declare it dead wait for the transaction,
-- and the transaction find out that it was. Raises FSD01 when it was, or is unknown.
create function fillstream.live_worker(p_worker_id uuid) returns public.workers
language plpgsql set search_path = '' as $$
declare
  worker public.workers;
begin
  select candidate.* into worker from public.workers as candidate where candidate.id = p_worker_id for key share;
  if worker.id is null or worker.dead_at is not null then
    raise exception using
      errcode = 'FSD01',
      message = format('worker %s was declared dead', p_worker_id),
      hint = 'Drop what it held and register under a new id.';
  end if;
  perform set_config('fillstream.worker_id', p_worker_id::text, true);
  return worker;
end $$;

create function fillstream.lease(p_worker public.workers) returns interval language sql immutable as $$
  select p_worker.lease_seconds * interval '1 second'
$$;

-- Declares workers dead whose lease is over, and frees what they held. One that is in the middle of a mutation is
-- passed over: it is alive enough, and nobody waits for anybody.
create function fillstream.declare_lapsed(p_except uuid) returns void language plpgsql set search_path = '' as $$
declare
  lapsed uuid[];
begin
  select array_agg(found.id) into lapsed from (
    select worker.id from public.workers as worker
    where worker.dead_at is null and worker.id <> p_except
      and worker.heartbeat_at + fillstream.lease(worker) < clock_timestamp()
    order by worker.id
    for update skip locked
  ) as found;
  if lapsed is not null then
    perform fillstream.bury(lapsed);
  end if;
end $$;

create function fillstream.bury(p_worker_ids uuid[]) returns integer language plpgsql set search_path = '' as $$
declare
  freed integer;
begin
  update public.workers set dead_at = clock_timestamp() where id = any (p_worker_ids) and dead_at is null;
  perform from public.accounts as account where account.worker_id = any (p_worker_ids)
    order by account.user_id, account.mode for update;
  update public.accounts set worker_id = null, taken_at = null where worker_id = any (p_worker_ids);
  get diagnostics freed = row_count;
  delete from fillstream.admissions where worker_id = any (p_worker_ids);
  return freed;
end $$;

-- What there is to do in a mode, by user: ready signals, positions in flight or open, orders not ended.
create function fillstream.users_with_work(p_mode text) returns table (user_id uuid, since timestamptz)
language sql stable as $$
  select work.user_id, min(work.since) from (
    select signal.user_id, signal.ready_at as since
    from public.signals as signal
    join public.traders as trader on trader.id = signal.trader_id
    where signal.status = 'ready' and signal.decision = 'enter_trade' and trader.mode = p_mode
    union all
    select position.user_id, position.created_at
    from public.positions as position
    where position.status in ('created', 'submitting', 'open', 'monitoring', 'closing') and position.mode = p_mode
    union all
    select working.user_id, working.created_at
    from public.orders as working
    where working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
      and working.mode = p_mode
  ) as work
  group by work.user_id
$$;

-- How many accounts of a mode a worker may hold at most: its share of those held or in need, plus one.
-- Null, so no bound, where it is the only worker of the mode.
create function fillstream.most_accounts(p_mode text) returns integer language plpgsql stable set search_path = '' as $$
declare
  workers integer;
  accounts integer;
begin
  select count(*) into workers from public.workers as worker
  where worker.dead_at is null and p_mode = any (worker.modes);
  if workers <= 1 then
    return null;
  end if;
  select count(*) into accounts from public.accounts as account
  where account.mode = p_mode
    and (
      account.worker_id is not null
      or account.user_id in (select work.user_id from fillstream.users_with_work(p_mode) as work)
    );
  return ceil(accounts::numeric / workers) + 1;
end $$;

create function public.worker_register(
  p_worker_id uuid,
  p_modes text[],
  p_lease_seconds numeric,
  p_max_signal_age_seconds numeric,
  p_name text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  insert into public.workers (id, modes, lease_seconds, max_signal_age_seconds, name)
  values (p_worker_id, p_modes, p_lease_seconds, p_max_signal_age_seconds, p_name)
  on conflict (id) do nothing;
  -- The id of a dead worker is dead too.
  perform fillstream.live_worker(p_worker_id);
  return jsonb_build_object('now_ms', fillstream.epoch_ms(clock_timestamp()));
end $$;
comment on function public.worker_register is 'Begins a worker''s life; again under the same id changes nothing.';

create function public.worker_heartbeat(p_worker_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker public.workers;
  held jsonb;
  surplus integer;
begin
  update public.workers as own set heartbeat_at = clock_timestamp()
  where own.id = p_worker_id and own.dead_at is null
  returning own.* into worker;
  if worker.id is null then
    return jsonb_build_object(
      'alive', false, 'now_ms', fillstream.epoch_ms(clock_timestamp()), 'heartbeat_ms', null,
      'accounts', '[]'::jsonb, 'surplus', 0
    );
  end if;
  perform fillstream.declare_lapsed(p_worker_id);
  -- An answer is kept for as long as its question could be asked again, and well beyond.
  delete from fillstream.admissions where worker_id = p_worker_id and at < clock_timestamp() - interval '10 minutes';
  select coalesce(
    jsonb_agg(jsonb_build_object('user_id', account.user_id, 'mode', account.mode)), '[]'
  ) into held
  from public.accounts as account where account.worker_id = p_worker_id;
  select coalesce(sum(greatest(counted.accounts - fillstream.most_accounts(counted.mode), 0)), 0) into surplus
  from (
    select account.mode, count(*)::integer as accounts
    from public.accounts as account where account.worker_id = p_worker_id group by account.mode
  ) as counted;
  return jsonb_build_object(
    'alive', true,
    'now_ms', fillstream.epoch_ms(clock_timestamp()),
    'heartbeat_ms', fillstream.epoch_ms(worker.heartbeat_at),
    'accounts', held,
    'surplus', surplus
  );
end $$;
comment on function public.worker_heartbeat is
  'Renews the lease, declares others dead whose lease is over, tells what is held and how much of it is too much.';

create function public.worker_retire(p_worker_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  freed integer := 0;
begin
  perform from public.workers as worker
  where worker.id = p_worker_id and worker.dead_at is null for update;
  if found then
    freed := fillstream.bury(array[p_worker_id]);
  end if;
  return jsonb_build_object('released', freed);
end $$;
comment on function public.worker_retire is 'Ends a worker''s life in order: its accounts are free at once.';

create function public.release_accounts(p_worker_id uuid, p_accounts jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  released integer;
begin
  perform fillstream.live_worker(p_worker_id);
  perform from public.accounts as account
  join jsonb_to_recordset(p_accounts) as named (user_id uuid, mode text)
    on named.user_id = account.user_id and named.mode = account.mode
  where account.worker_id = p_worker_id
  order by account.user_id, account.mode
  for update of account;
  update public.accounts as account set worker_id = null, taken_at = null
  from jsonb_to_recordset(p_accounts) as named (user_id uuid, mode text)
  where named.user_id = account.user_id and named.mode = account.mode and account.worker_id = p_worker_id;
  get diagnostics released = row_count;
  return jsonb_build_object('released', released);
end $$;
comment on function public.release_accounts is 'Lets go of accounts held by this worker.';

revoke execute on all functions in schema fillstream from public;
revoke execute on function
  public.worker_register, public.worker_heartbeat, public.worker_retire, public.release_accounts
from public, anon, authenticated;
grant execute on function
  public.worker_register, public.worker_heartbeat, public.worker_retire, public.release_accounts
to service_role;
