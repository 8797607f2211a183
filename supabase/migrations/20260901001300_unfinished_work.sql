-- What a worker finds at its start, at a takeover and on a timer: orders that have not ended, positions that are open.

-- The accounts a worker holds, or of those the ones named.
create function fillstream.held_accounts(p_worker_id uuid, p_accounts jsonb)
returns table (user_id uuid, mode text) language sql stable as $$
  select account.user_id, account.mode from public.accounts as account
  where account.worker_id = p_worker_id
    and (
      p_accounts is null
      or exists (
        select from jsonb_to_recordset(p_accounts) as named (user_id uuid, mode text)
        where named.user_id = account.user_id and named.mode = account.mode
      )
    )
$$;

create function public.unfinished_orders(p_worker_id uuid, p_accounts jsonb default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker constant public.workers := fillstream.live_worker(p_worker_id);
  found jsonb;
begin
  select jsonb_agg(
    jsonb_build_object(
      'order', fillstream.numbers_as_text(to_jsonb(working)) || jsonb_build_object(
        'signed_at_ms', fillstream.epoch_ms(working.signed_at),
        'fills', (select count(*) from public.trades as trade where trade.order_id = working.id)
      ),
      'position', fillstream.numbers_as_text(to_jsonb(position)),
      'brief', fillstream.briefs(array[position.signal_id]) -> 0,
      -- Seconds since admission, and whether the signal would be too old by now.
      'age', extract(epoch from clock_timestamp() - working.created_at)::text,
      'expired', coalesce(signal.expires_at <= clock_timestamp(), false)
        or extract(epoch from clock_timestamp() - signal.ready_at) > worker.max_signal_age_seconds,
      'now_ms', fillstream.epoch_ms(clock_timestamp())
    ) order by working.created_at, working.id
  ) into found
  from fillstream.held_accounts(p_worker_id, p_accounts) as account
  join public.orders as working on working.user_id = account.user_id and working.mode = account.mode
  join public.positions as position on position.id = working.position_id
  join public.signals as signal on signal.id = position.signal_id
  where working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown');
  return jsonb_build_object('orders', coalesce(found, '[]'));
end $$;
comment on function public.unfinished_orders is
  'Orders of accounts held that have not ended, oldest first, each with its position and the signal behind it.';

create function public.open_positions(p_worker_id uuid, p_accounts jsonb default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  found jsonb;
begin
  perform fillstream.live_worker(p_worker_id);
  select jsonb_agg(fillstream.numbers_as_text(to_jsonb(position)) order by position.created_at, position.id) into found
  from fillstream.held_accounts(p_worker_id, p_accounts) as account
  join public.positions as position on position.user_id = account.user_id and position.mode = account.mode
  where position.status in ('open', 'monitoring', 'closing');
  return jsonb_build_object('positions', coalesce(found, '[]'));
end $$;
comment on function public.open_positions is 'Positions of accounts held that are open, monitoring or closing.';

revoke execute on all functions in schema fillstream from public;
revoke execute on function public.unfinished_orders, public.open_positions from public, anon, authenticated;
grant execute on function public.unfinished_orders, public.open_positions to service_role;
