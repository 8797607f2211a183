-- Positions, orders and signals change state along these tables and no other way. The worker's own tables are
-- compared with them by a test.

create function fillstream.position_moves() returns table (from_status text, to_status text)
language sql immutable as $$
  values
    ('created', 'submitting'), ('created', 'failed'),
    ('submitting', 'open'), ('submitting', 'failed'),
    ('open', 'monitoring'), ('open', 'closing'),
    ('monitoring', 'closing'),
    ('closing', 'closed'), ('closing', 'monitoring')
$$;
comment on function fillstream.position_moves is
  'The states a position may go to from each; closed and failed are ends.';

create function fillstream.order_moves() returns table (from_status text, to_status text)
language sql immutable as $$
  values
    ('created', 'submitting'), ('created', 'cancelled'),
    ('submitting', 'submitted'), ('submitting', 'partially_filled'), ('submitting', 'filled'),
    ('submitting', 'cancelled'), ('submitting', 'expired'), ('submitting', 'failed'), ('submitting', 'unknown'),
    ('unknown', 'submitted'), ('unknown', 'partially_filled'), ('unknown', 'filled'),
    ('unknown', 'cancelled'), ('unknown', 'expired'), ('unknown', 'failed'),
    ('submitted', 'partially_filled'), ('submitted', 'filled'),
    ('submitted', 'cancelled'), ('submitted', 'expired'), ('submitted', 'failed'),
    ('partially_filled', 'filled'), ('partially_filled', 'cancelled'), ('partially_filled', 'expired'),
    -- A late fill: it happens.
    ('cancelled', 'partially_filled'), ('cancelled', 'filled'),
    ('expired', 'partially_filled'), ('expired', 'filled')
$$;
comment on function fillstream.order_moves is 'The states an order may go to from each; filled and failed are ends.';

create function fillstream.signal_moves() returns table (from_status text, to_status text)
language sql immutable as $$
  values
    ('ready', 'monitoring'), ('monitoring', 'ready'),
    ('ready', 'executing'), ('ready', 'rejected'), ('ready', 'expired'),
    ('executing', 'in_position'), ('executing', 'failed'),
    ('in_position', 'completed')
$$;
comment on function fillstream.signal_moves is 'The states a signal may go to from each.';

create function fillstream.check_position_move() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'created' then
      raise exception 'a position begins as created, not as %', new.status using errcode = 'check_violation';
    end if;
    return new;
  end if;
  if not exists (
    select from fillstream.position_moves() as move
    where move.from_status = old.status and move.to_status = new.status
  ) then
    raise exception 'position % may not move from % to %', old.id, old.status, new.status
      using errcode = 'check_violation';
  end if;
  if new.status = 'open' and coalesce(new.entry_quantity, 0) <= 0 then
    raise exception 'position % may not open without a fill', old.id using errcode = 'check_violation';
  end if;
  if new.status = 'failed' and new.entry_quantity > 0 then
    raise exception 'position % holds coins and may not fail', old.id using errcode = 'check_violation';
  end if;
  return new;
end $$;
create trigger check_insert before insert on public.positions
  for each row execute function fillstream.check_position_move();
create trigger check_move before update of status on public.positions
  for each row when (old.status is distinct from new.status) execute function fillstream.check_position_move();

create function fillstream.check_order_move() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'created' then
      raise exception 'an order begins as created, not as %', new.status using errcode = 'check_violation';
    end if;
    return new;
  end if;
  if not exists (
    select from fillstream.order_moves() as move
    where move.from_status = old.status and move.to_status = new.status
  ) then
    raise exception 'order % may not move from % to %', old.id, old.status, new.status
      using errcode = 'check_violation';
  end if;
  return new;
end $$;
create trigger check_insert before insert on public.orders
  for each row execute function fillstream.check_order_move();
create trigger check_move before update of status on public.orders
  for each row when (old.status is distinct from new.status) execute function fillstream.check_order_move();

-- What a position goes through is written down, told to listeners, and shown on its signal.
create function fillstream.note_position_move() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  event public.position_events;
begin
  insert into public.position_events (position_id, user_id, seq, from_status, to_status, worker_id, detail)
  values (
    new.id, new.user_id,
    (
      select coalesce(max(earlier.seq), 0) + 1 from public.position_events as earlier
      where earlier.position_id = new.id
    ),
    case when tg_op = 'UPDATE' then old.status end,
    new.status,
    nullif(current_setting('fillstream.worker_id', true), '')::uuid,
    coalesce(new.failure_code, case when new.status in ('closing', 'closed') then new.exit_reason end)
  ) returning * into event;
  perform pg_notify('position_state_change', json_build_object(
    'position_id', event.position_id, 'user_id', event.user_id, 'seq', event.seq,
    'from_status', event.from_status, 'to_status', event.to_status,
    'worker_id', event.worker_id, 'detail', event.detail, 'at', event.at
  )::text);
  if new.status in ('open', 'closed', 'failed') then
    update public.signals as signal set
      status = case new.status when 'open' then 'in_position' when 'closed' then 'completed' else 'failed' end,
      closed_at = case when new.status = 'open' then null else clock_timestamp() end
    where signal.id = new.signal_id;
  end if;
  return null;
end $$;
create trigger note_insert after insert on public.positions
  for each row execute function fillstream.note_position_move();
create trigger note_move after update of status on public.positions
  for each row when (old.status is distinct from new.status) execute function fillstream.note_position_move();

create function fillstream.keep_event() returns trigger language plpgsql set search_path = '' as $$
begin
  raise exception 'position_events is append-only' using errcode = 'restrict_violation';
end $$;
create trigger keep before update or delete on public.position_events
  for each row execute function fillstream.keep_event();

create function fillstream.check_signal_move() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if not exists (
    select from fillstream.signal_moves() as move
    where move.from_status = old.status and move.to_status = new.status
  ) then
    raise exception 'signal % may not move from % to %', old.id, old.status, new.status
      using errcode = 'check_violation';
  end if;
  return new;
end $$;
create trigger check_move before update of status on public.signals
  for each row when (old.status is distinct from new.status) execute function fillstream.check_signal_move();

-- A producer writes signals directly while they are ready or monitoring. What comes after is moved by functions,
-- which run as the table's owner: so the writer's name tells which of the two it is, and cannot be forged.
create function fillstream.stamp_signal() returns trigger language plpgsql set search_path = '' as $$
declare
  direct constant boolean := current_user <> (
    select pg_catalog.pg_get_userbyid(class.relowner) from pg_catalog.pg_class as class where class.oid = tg_relid
  );
  is_ready constant boolean := new.status = 'ready' and new.decision = 'enter_trade';
begin
  if tg_op = 'INSERT' then
    if new.status not in ('ready', 'monitoring') then
      raise exception 'a signal begins as ready or monitoring, not as %', new.status using errcode = 'check_violation';
    end if;
    new.ready_at := case when is_ready then clock_timestamp() end;
    new.refusal_code := null;
    new.refusal_reason := null;
    new.closed_at := null;
    return new;
  end if;
  new.updated_at := clock_timestamp();
  new.ready_at := case
    when is_ready and not (old.status = 'ready' and old.decision = 'enter_trade') then clock_timestamp()
    else old.ready_at
  end;
  if direct then
    if new.status is distinct from old.status
      and not (old.status in ('ready', 'monitoring') and new.status in ('ready', 'monitoring')) then
      raise exception 'a signal is moved from % to % by functions alone', old.status, new.status
        using errcode = 'insufficient_privilege';
    end if;
    if old.status not in ('ready', 'monitoring') and (
      to_jsonb(new) - array['metadata', 'reasoning', 'confidence', 'updated_at']
      <> to_jsonb(old) - array['metadata', 'reasoning', 'confidence', 'updated_at']
    ) then
      raise exception 'a signal that is % can only be annotated (metadata, reasoning, confidence)', old.status
        using errcode = 'insufficient_privilege';
    end if;
    new.refusal_code := old.refusal_code;
    new.refusal_reason := old.refusal_reason;
    new.closed_at := old.closed_at;
  end if;
  return new;
end $$;
create trigger stamp before insert or update on public.signals
  for each row execute function fillstream.stamp_signal();

revoke execute on all functions in schema fillstream from public;
