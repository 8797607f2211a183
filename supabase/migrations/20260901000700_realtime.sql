-- What subscribers see, and how workers are woken.

do $$
declare
  wanted text;
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  foreach wanted in array array[
    'signals', 'positions', 'orders', 'position_actions', 'risk_limits', 'paper_balances'
  ] loop
    -- A publication of all tables has them already.
    if not exists (
      select from pg_publication_tables
      where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = wanted
    ) then
      execute format('alter publication supabase_realtime add table public.%I', wanted);
    end if;
  end loop;
end $$;

-- Signals that have become ready are announced to the workers: a hint, many times faster than the published
-- change, and never a reason for an insert to fail.
create function fillstream.announce_signals(p_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform realtime.send(
    jsonb_build_object('ids', to_jsonb(p_ids[1:100]), 'more', cardinality(p_ids) > 100),
    'signals-ready', 'workers', true
  );
exception when others then
  raise warning 'ready signals were not announced: %', sqlerrm;
end $$;

-- The account of a ready signal exists from here on, so that a worker can take it. Sorted, so that two producers
-- never wait for one another in a circle.
create function fillstream.ensure_accounts(p_ids uuid[]) returns void
language sql security definer set search_path = '' as $$
  insert into public.accounts (user_id, mode)
  select distinct signal.user_id, trader.mode
  from public.signals as signal
  join public.traders as trader on trader.id = signal.trader_id
  where signal.id = any (p_ids)
    and not exists (
      select from public.accounts as account
      where account.user_id = signal.user_id and account.mode = trader.mode
    )
  order by 1, 2
  on conflict do nothing
$$;

create function fillstream.inserted_signals() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  ids uuid[];
begin
  select array_agg(signal.id order by signal.ready_at, signal.seq) into ids
  from inserted as signal where signal.status = 'ready' and signal.decision = 'enter_trade';
  if ids is not null then
    perform fillstream.ensure_accounts(ids);
    perform fillstream.announce_signals(ids);
  end if;
  return null;
end $$;
create trigger inserted after insert on public.signals
  referencing new table as inserted
  for each statement execute function fillstream.inserted_signals();

create function fillstream.updated_signals() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  ids uuid[];
begin
  select array_agg(signal.id order by signal.ready_at, signal.seq) into ids
  from after_update as signal
  join before_update as earlier on earlier.id = signal.id
  where signal.status = 'ready' and signal.decision = 'enter_trade'
    and (
      earlier.status <> 'ready' or earlier.decision <> 'enter_trade'
      or earlier.user_id <> signal.user_id or earlier.trader_id <> signal.trader_id
    );
  if ids is not null then
    perform fillstream.ensure_accounts(ids);
    perform fillstream.announce_signals(ids);
  end if;
  return null;
end $$;
create trigger updated after update on public.signals
  referencing old table as before_update new table as after_update
  for each statement execute function fillstream.updated_signals();

-- Private topics. `workers` is the service role's alone; `user:<id>` is that user's to read and nobody's to write.
-- Other topics belong to the project; the restrictive policies keep its own permissive ones from opening these two.
do $$
begin
  create policy fillstream_read_own on realtime.messages for select to authenticated
    using (coalesce(realtime.topic(), topic) = 'user:' || (select auth.uid())::text);
  create policy fillstream_read_guard on realtime.messages as restrictive for select to anon, authenticated
    using (
      coalesce(realtime.topic(), topic) <> 'workers'
      and (
        coalesce(realtime.topic(), topic) not like 'user:%'
        or coalesce(realtime.topic(), topic) = 'user:' || (select auth.uid())::text
      )
    );
  create policy fillstream_write_guard on realtime.messages as restrictive for insert to anon, authenticated
    with check (
      coalesce(realtime.topic(), topic) <> 'workers' and coalesce(realtime.topic(), topic) not like 'user:%'
    );
exception when others then
  raise warning 'private topics have no policies: %. Create them as a role that may alter realtime.messages', sqlerrm;
end $$;

revoke execute on all functions in schema fillstream from public;
