-- An exit that hurries is committed while the protection that it replaces is being cancelled. Both are at work in the
-- rows for that moment; at the venue the exit follows only when it is known that nothing of the protection was executed.

drop function fillstream.promised(uuid);
create function fillstream.promised(p_position_id uuid, p_instead_of uuid[]) returns numeric
language plpgsql stable set search_path = '' as $$
begin
  return (
    select coalesce(sum(promise.quantity), 0) from (
      select max(working.quantity - working.filled_quantity) as quantity
      from public.orders as working
      where working.position_id = p_position_id and working.side = 'sell'
        and working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
        and not (
          working.id = any (p_instead_of) and working.status = 'submitted' and working.purpose <> 'exit'
        )
      group by coalesce(working.list_client_order_id, working.id::text)
    ) as promise
  );
end $$;
comment on function fillstream.promised is
  'How much of a position is promised to sells at work: of one list, one leg counts; resting protection that is named '
  'does not.';

create or replace function public.prepare_exits(p_worker_id uuid, p_position_id uuid, p_plan jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker constant public.workers := fillstream.live_worker(p_worker_id);
  position public.positions := fillstream.lock_position(p_worker_id, p_position_id);
  orders constant jsonb := p_plan -> 'orders';
  reports constant jsonb := coalesce(p_plan -> 'reports', '[]');
  recv_window_ms constant integer := p_plan ->> 'recv_window_ms';
  reason constant text := p_plan ->> 'exit_reason';
  known record;
  heard record;
  wanted numeric;
  promised numeric;
  signed_at timestamptz;
begin
  select
    max(mine.signed_at) filter (where mine.id = (orders -> 0 ->> 'id')::uuid) as signed_at,
    (array_agg(mine.paper_balance_id) filter (where mine.purpose = 'entry'))[1] as paper_balance_id
  into known
  from (
    select every.id, every.purpose, every.signed_at, every.paper_balance_id
    from public.orders as every where every.position_id = p_position_id order by every.id for update
  ) as mine;
  -- The same question again: its answer was lost.
  if known.signed_at is not null then
    return jsonb_build_object('outcome', 'prepared', 'signed_at_ms', fillstream.epoch_ms(known.signed_at));
  end if;

  if jsonb_array_length(reports) > 0 then
    perform from public.paper_balances as balance where balance.id = known.paper_balance_id for update;
    for heard in select one.order_id, one.report from jsonb_to_recordset(reports) as one (order_id uuid, report jsonb)
    loop
      perform fillstream.book(heard.order_id, heard.report);
    end loop;
    select candidate.* into position from public.positions as candidate where candidate.id = p_position_id;
  end if;

  select sum(leg.quantity) into wanted from (
    select max(one.quantity) as quantity
    from jsonb_to_recordset(orders) as one (id uuid, quantity numeric, list_client_order_id text)
    group by coalesce(one.list_client_order_id, one.id::text)
  ) as leg;
  promised := fillstream.promised(
    p_position_id, array(select named::uuid from jsonb_array_elements_text(p_plan -> 'instead_of') as named)
  );
  if position.status not in ('open', 'monitoring', 'closing')
    or wanted > coalesce(position.entry_quantity, 0) - coalesce(position.exit_quantity, 0) - promised then
    return jsonb_build_object('outcome', 'stale');
  end if;

  signed_at := date_trunc('milliseconds', clock_timestamp());
  if signed_at > worker.heartbeat_at + fillstream.lease(worker) - recv_window_ms * interval '1 millisecond' then
    return jsonb_build_object('outcome', 'late');
  end if;
  signed_at := signed_at + (p_plan ->> 'venue_offset_ms')::bigint * interval '1 millisecond';

  insert into public.orders (
    id, position_id, user_id, purpose, client_order_id, list_client_order_id, action_id, symbol, side, type,
    time_in_force, quantity, price, stop_price, mode, signed_at, recv_window_ms, paper_balance_id
  )
  select
    one.id, p_position_id, position.user_id, one.purpose, one.client_order_id, one.list_client_order_id,
    one.action_id, position.symbol, 'sell', one.type, one.time_in_force, one.quantity, one.price, one.stop_price,
    position.mode, signed_at, recv_window_ms, known.paper_balance_id
  from jsonb_to_recordset(orders) as one (
    id uuid, purpose text, client_order_id text, list_client_order_id text, action_id uuid, type text,
    time_in_force text, quantity numeric, price numeric, stop_price numeric
  );
  update public.orders as working set status = 'submitting', submitted_at = clock_timestamp()
  where working.position_id = p_position_id and working.status = 'created';
  update public.positions as written set
    status = case when reason is not null and written.status <> 'closing' then 'closing' else written.status end,
    exit_reason = coalesce(written.exit_reason, reason),
    trailing_stop_price = greatest(written.trailing_stop_price, (p_plan ->> 'trailing_stop_price')::numeric)
  where written.id = p_position_id and (reason is not null or p_plan ->> 'trailing_stop_price' is not null);
  return jsonb_build_object('outcome', 'prepared', 'signed_at_ms', fillstream.epoch_ms(signed_at));
end $$;
comment on function public.prepare_exits is
  'Books what was heard of earlier sells and commits new ones at submitting, which the caller may send once. With an '
  'exit_reason the position is closing from here on. Orders named in instead_of are resting protection that the caller '
  'cancels meanwhile: it sends only when it knows that nothing of them was executed. Answers prepared, stale (look '
  'again: they would sell more than is held) or late (heartbeat first); again with the same first order, the same answer.';

revoke execute on all functions in schema fillstream from public;
