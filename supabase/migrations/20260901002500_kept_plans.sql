-- PL/pgSQL keeps the plan of a statement for its session; the body of an SQL function that cannot be inlined is planned
-- anew by every statement that calls it. These stand in nearly every call of a worker's, where planning was most of it.

create or replace function fillstream.numbers_as_text(p_object jsonb) returns jsonb
language plpgsql immutable as $$
begin
  return (
    select jsonb_object_agg(
      field.key,
      case jsonb_typeof(field.value) when 'number' then to_jsonb(field.value #>> '{}') else field.value end
    )
    from jsonb_each(p_object) as field
  );
end $$;

-- Value / quantity, half-even to 18 places.
create or replace function fillstream.average(p_value numeric, p_quantity numeric) returns numeric
language plpgsql immutable as $$
declare
  whole numeric;
  rest numeric;
begin
  if p_value is null or p_quantity is null or p_quantity = 0 then
    return null;
  end if;
  whole := div(p_value * 1000000000000000000, p_quantity);
  rest := mod(p_value * 1000000000000000000, p_quantity);
  if 2 * rest > p_quantity or (2 * rest = p_quantity and mod(whole, 2) = 1) then
    whole := whole + 1;
  end if;
  return trim_scale(whole * 0.000000000000000001);
end $$;

create or replace function fillstream.order_document(p_order public.orders) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return fillstream.numbers_as_text(to_jsonb(p_order)) || jsonb_build_object(
    'signed_at_ms', fillstream.epoch_ms(p_order.signed_at),
    'acknowledged_ms', fillstream.epoch_ms(p_order.acknowledged_at),
    'fills', (select count(*) from public.trades as trade where trade.order_id = p_order.id)
  );
end $$;

create or replace function fillstream.held_document(p_position_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'position', fillstream.numbers_as_text(to_jsonb(position)),
      'entry', fillstream.order_document(entry),
      'orders', coalesce((
        select jsonb_agg(fillstream.order_document(working) order by working.created_at, working.id)
        from public.orders as working
        where working.position_id = position.id and working.purpose <> 'entry'
          and working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
      ), '[]'),
      'last_sale', (
        select fillstream.order_document(seller) from public.orders as seller
        where seller.position_id = position.id and seller.side = 'sell' and seller.filled_quantity > 0
        order by (
          select max(trade.executed_at) from public.trades as trade where trade.order_id = seller.id
        ) desc, seller.created_at desc
        limit 1
      ),
      'attempts', (
        select count(*) from public.orders as every where every.position_id = position.id and every.purpose <> 'entry'
      ),
      'actions', coalesce((
        select jsonb_agg(jsonb_build_object(
          'id', pending.id, 'position_id', pending.position_id, 'action', pending.action,
          'details', case
            when jsonb_typeof(pending.details) = 'object' then coalesce(fillstream.numbers_as_text(pending.details), '{}')
            else '{}'
          end,
          'reasoning', pending.reasoning,
          'order', (
            select fillstream.order_document(asked) from public.orders as asked where asked.action_id = pending.id
          )
        ) order by pending.seq)
        from public.position_actions as pending
        where pending.position_id = position.id and pending.status = 'pending'
      ), '[]'),
      'now_ms', fillstream.epoch_ms(clock_timestamp())
    )
    from public.positions as position
    join public.orders as entry on entry.position_id = position.id and entry.purpose = 'entry'
    where position.id = p_position_id
  );
end $$;

-- What these are called in can take them in, and plans them once: they are no security definers, and name all in full.
alter function fillstream.users_with_signals(text) reset search_path;
alter function fillstream.room_for_signals(uuid, text) reset search_path;
alter function fillstream.marked(uuid, jsonb) reset search_path;

revoke execute on all functions in schema fillstream from public;
