-- What a venue says of an order is booked here. Sums are made anew from trades each time, so that a report told
-- twice, late or out of order changes nothing that it should not.

-- Value by quantity, rounded half-even to 18 places; division itself rounds half away from zero.
create function fillstream.average(p_value numeric, p_quantity numeric) returns numeric language sql immutable as $$
  select case
    when p_quantity = 0 then null
    else trim_scale((part.whole + case
      when 2 * part.rest > p_quantity or (2 * part.rest = p_quantity and mod(part.whole, 2) = 1) then 1 else 0
    end) * 0.000000000000000001)
  end
  from (
    select
      div(p_value * 1000000000000000000, p_quantity) as whole,
      mod(p_value * 1000000000000000000, p_quantity) as rest
  ) as part
$$;

-- Locks what a worker changes about an order, in the order that holds everywhere. Raises FSD02 when the account is
-- not held by this worker.
create function fillstream.lock_for_recording(p_worker_id uuid, p_order_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  working public.orders;
  position public.positions;
begin
  select candidate.* into working from public.orders as candidate where candidate.id = p_order_id;
  if working.id is null then
    raise exception 'there is no order %', p_order_id using errcode = 'no_data_found';
  end if;
  select candidate.* into position from public.positions as candidate where candidate.id = working.position_id;
  perform from public.accounts as account
  where account.user_id = working.user_id and account.mode = working.mode and account.worker_id = p_worker_id
  for key share;
  if not found then
    raise exception using
      errcode = 'FSD02',
      message = format('the account of order %s is not held by worker %s', p_order_id, p_worker_id),
      hint = 'Another worker has the work: drop it.';
  end if;
  perform from public.signals as signal where signal.id = position.signal_id for update;
  perform from public.positions as candidate where candidate.id = position.id for update;
  perform from public.orders as candidate where candidate.id = p_order_id for update;
  perform from public.paper_balances as balance where balance.id = working.paper_balance_id for update;
end $$;

-- Writes the fills that are not known yet; gives what they cost in quote, fees taken in the base asset left out,
-- and null when there were none.
create function fillstream.write_fills(p_order public.orders, p_fills jsonb) returns numeric
language plpgsql set search_path = '' as $$
declare
  spent numeric;
begin
  with written as (
    insert into public.trades (
      order_id, position_id, user_id, exchange_trade_id, symbol, side, price, quantity, value, fee, fee_asset,
      fee_usdt, is_paper_trade, executed_at
    )
    select
      p_order.id, p_order.position_id, p_order.user_id, fill.exchange_trade_id, p_order.symbol, p_order.side,
      fill.price, fill.quantity, fill.value, coalesce(fill.fee, 0), fill.fee_asset, coalesce(fill.fee_usdt, 0),
      p_order.is_paper_trade,
      -- A paper fill happens when it is booked, by the clock of all the other stamps.
      case when p_order.is_paper_trade then clock_timestamp() else fill.executed_at end
    from jsonb_to_recordset(p_fills) as fill (
      exchange_trade_id text, price numeric, quantity numeric, value numeric, fee numeric, fee_asset text,
      fee_usdt numeric, executed_at timestamptz
    )
    on conflict (order_id, exchange_trade_id) do nothing
    returning value, fee_usdt, fee_asset
  )
  select sum(
    written.value
    + case when written.fee_asset = split_part(p_order.symbol, '/', 1) then 0 else written.fee_usdt end
  ) into spent
  from written;
  return spent;
end $$;

create function public.record_order(p_worker_id uuid, p_order_id uuid, p_report jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  working public.orders;
  position public.positions;
  told constant text := p_report ->> 'status';
  fills constant jsonb := coalesce(nullif(p_report -> 'fills', 'null'), '[]');
  may_move boolean;
  spent numeric;
  changed boolean;
begin
  perform fillstream.live_worker(p_worker_id);
  perform fillstream.lock_for_recording(p_worker_id, p_order_id);
  select candidate.* into working from public.orders as candidate where candidate.id = p_order_id;
  if working.purpose <> 'entry' then
    -- Exits and protection are booked by rules of their own.
    raise exception 'order % is no entry', p_order_id using errcode = 'feature_not_supported';
  end if;
  select exists (
    select from fillstream.order_moves() as move where move.from_status = working.status and move.to_status = told
  ) into may_move;

  -- Play money moves in one transaction with its order: a paper order that has ended has no late fills, and fills
  -- made up without knowing all earlier ones are news of another row.
  if working.mode <> 'paper' or (
    working.status not in ('filled', 'cancelled', 'expired', 'failed')
    and coalesce((p_report ->> 'known_fills')::integer, 0)
      = (select count(*) from public.trades as trade where trade.order_id = p_order_id)
  ) then
    spent := fillstream.write_fills(working, fills);
  else
    may_move := false;
  end if;
  -- An order that has ended is taken up again by a fill that nobody knew of, not by old news.
  may_move := may_move and (working.status not in ('cancelled', 'expired') or spent is not null);
  if spent is not null and working.status = 'failed' then
    raise exception 'order % surely failed, and yet a fill of it is told', p_order_id using errcode = 'FSD03';
  end if;

  changed := may_move or spent is not null;
  if changed then
    working := fillstream.write_order(working, case when may_move then told else working.status end, spent, p_report);
    perform fillstream.write_entry_state(working, p_report);
  end if;
  select candidate.* into position from public.positions as candidate where candidate.id = working.position_id;
  return jsonb_build_object(
    'order_status', working.status,
    'position_status', position.status,
    'entry_quantity', position.entry_quantity::text,
    'entry_value', position.entry_value::text,
    'changed', changed,
    'position', fillstream.numbers_as_text(to_jsonb(position))
  );
end $$;
comment on function public.record_order is
  'Books what a venue said of an entry order: fills by their ids, the order''s state as far as the moves allow, the '
  'position that follows from them, the paper balance. A report older than the row changes nothing.';

-- The order's row from its trades, and what stays reserved for it.
create function fillstream.write_order(
  p_order public.orders, p_status text, p_spent numeric, p_report jsonb
) returns public.orders language plpgsql set search_path = '' as $$
declare
  working public.orders;
  has_ended constant boolean := p_status in ('filled', 'cancelled', 'expired', 'failed');
  still_reserved constant numeric := case
    when has_ended then 0 else greatest(p_order.reserved - coalesce(p_spent, 0), 0)
  end;
begin
  update public.orders as written set
    status = p_status,
    exchange_order_id = coalesce(p_report ->> 'exchange_order_id', written.exchange_order_id),
    filled_quantity = filled.quantity,
    total_value = filled.value,
    avg_fill_price = fillstream.average(filled.value, filled.quantity),
    fees = filled.fees,
    reserved = still_reserved,
    acknowledged_at = case
      when written.acknowledged_at is null and p_status not in ('created', 'submitting', 'unknown', 'failed')
      then coalesce((p_report ->> 'acknowledged_at')::timestamptz, clock_timestamp())
      else written.acknowledged_at
    end,
    filled_at = case when has_ended then filled.last_at else written.filled_at end,
    error_message = coalesce(p_report ->> 'error_message', p_report ->> 'failure_reason', written.error_message),
    raw_response = coalesce(nullif(p_report -> 'raw_response', 'null'), written.raw_response)
  from (
    select
      coalesce(sum(trade.quantity), 0) as quantity, coalesce(sum(trade.value), 0) as value,
      coalesce(sum(trade.fee_usdt), 0) as fees, max(trade.executed_at) as last_at
    from public.trades as trade where trade.order_id = p_order.id
  ) as filled
  where written.id = p_order.id
  returning written.* into working;
  if working.filled_quantity > working.quantity then
    raise exception 'order % is for %, and fills of % are told', working.id, working.quantity, working.filled_quantity
      using errcode = 'FSD03';
  end if;

  if p_order.paper_balance_id is not null then
    update public.paper_balances set
      current_balance = current_balance - coalesce(p_spent, 0),
      reserved = reserved - (p_order.reserved - still_reserved)
    where id = p_order.paper_balance_id;
  end if;
  return working;
end $$;

-- The position as its entry order makes it: opened by the first fill, failed by an end without any.
create function fillstream.write_entry_state(p_order public.orders, p_report jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  position public.positions;
  filled record;
begin
  select candidate.* into position from public.positions as candidate where candidate.id = p_order.position_id;
  if p_order.filled_quantity > 0 then
    select
      sum(trade.quantity) - coalesce(
        sum(trade.fee) filter (where trade.fee_asset = split_part(trade.symbol, '/', 1)), 0
      ) as net_quantity,
      min(trade.executed_at) as first_at,
      (select sum(every.fee_usdt) from public.trades as every where every.position_id = p_order.position_id) as fees
    into filled
    from public.trades as trade where trade.order_id = p_order.id;
    update public.positions as written set
      status = case when written.status = 'submitting' then 'open' else written.status end,
      entry_price = p_order.avg_fill_price,
      entry_quantity = filled.net_quantity,
      entry_value = p_order.total_value,
      entry_time = filled.first_at,
      entry_order_id = p_order.exchange_order_id,
      fees_paid = filled.fees,
      stop_loss_price = case
        when written.status in ('submitting', 'open')
        then coalesce((p_report ->> 'stop_loss_price')::numeric, written.stop_loss_price)
        else written.stop_loss_price
      end,
      take_profit_price = case
        when written.status in ('submitting', 'open')
        then coalesce((p_report ->> 'take_profit_price')::numeric, written.take_profit_price)
        else written.take_profit_price
      end,
      -- The end was proven wrong by the venue itself; the row at least says that there are coins.
      failure_reason = case
        when written.status = 'failed'
        then format('The entry was said to have ended without a fill, but %s was bought.', filled.net_quantity)
        else written.failure_reason
      end
    where written.id = p_order.position_id;
  elsif p_order.status in ('cancelled', 'expired', 'failed') and position.status in ('created', 'submitting') then
    update public.positions as written set
      status = 'failed',
      failure_code = coalesce(
        p_report ->> 'failure_code',
        case p_order.status when 'failed' then 'internal_error' else 'entry_not_filled' end
      ),
      failure_reason = coalesce(
        p_report ->> 'failure_reason',
        case p_order.status
          when 'failed' then 'The entry order failed.' else 'The entry order ended without a fill.'
        end
      )
    where written.id = p_order.position_id;
  elsif p_order.exchange_order_id is distinct from position.entry_order_id then
    update public.positions set entry_order_id = p_order.exchange_order_id where id = p_order.position_id;
  end if;
end $$;

revoke execute on all functions in schema fillstream from public;
revoke execute on function public.record_order from public, anon, authenticated;
grant execute on function public.record_order to service_role;
