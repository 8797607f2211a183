-- A cancel is not the end yet: the exchange may still tell of a fill that came before it. An order says that it was
-- cancelled at once, and its position fails only when a report calls the end final.

create function fillstream.order_document(p_order public.orders) returns jsonb
language sql stable set search_path = '' as $$
  select fillstream.numbers_as_text(to_jsonb(p_order)) || jsonb_build_object(
    'signed_at_ms', fillstream.epoch_ms(p_order.signed_at),
    'acknowledged_ms', fillstream.epoch_ms(p_order.acknowledged_at),
    'fills', (select count(*) from public.trades as trade where trade.order_id = p_order.id)
  )
$$;

create or replace function public.unfinished_orders(p_worker_id uuid, p_accounts jsonb default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker constant public.workers := fillstream.live_worker(p_worker_id);
  found jsonb;
begin
  select jsonb_agg(
    jsonb_build_object(
      'order', fillstream.order_document(working),
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
  where working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
    -- An end that was never called final, since a late fill might still have come.
    or (working.status in ('cancelled', 'expired') and working.purpose = 'entry' and position.status = 'submitting');
  return jsonb_build_object('orders', coalesce(found, '[]'));
end $$;
comment on function public.unfinished_orders is
  'Orders of accounts held that have not ended for good, oldest first, each with its position and the signal behind it.';

-- The sums of fills that a report brings. Replaces a function that could not tell value and fee apart.
drop function fillstream.write_fills;
create type fillstream.written_fills as (count bigint, value numeric, fee_usdt numeric);
create function fillstream.write_fills(p_order public.orders, p_fills jsonb) returns fillstream.written_fills
language plpgsql set search_path = '' as $$
declare
  sums fillstream.written_fills;
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
  select
    count(*), coalesce(sum(written.value), 0),
    -- Fees taken in the coin itself are in the quantity already.
    coalesce(sum(written.fee_usdt) filter (where written.fee_asset <> split_part(p_order.symbol, '/', 1)), 0)
  into sums from written;
  return sums;
end $$;

-- The order's row from its trades, what stays reserved for it, and the paper money that it moves.
drop function fillstream.write_order;
create function fillstream.write_order(
  p_order public.orders, p_status text, p_fills fillstream.written_fills, p_report jsonb
) returns public.orders language plpgsql set search_path = '' as $$
declare
  working public.orders;
  has_ended constant boolean := p_status in ('filled', 'cancelled', 'expired', 'failed');
  is_sell constant boolean := p_order.side = 'sell';
  still_reserved constant numeric := case
    when has_ended then 0 else greatest(p_order.reserved - p_fills.value - p_fills.fee_usdt, 0)
  end;
begin
  update public.orders as written set
    status = p_status,
    exchange_order_id = coalesce(p_report ->> 'exchange_order_id', written.exchange_order_id),
    order_list_id = coalesce(p_report ->> 'order_list_id', written.order_list_id),
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
      current_balance = current_balance
        + case when is_sell then p_fills.value else -p_fills.value end - p_fills.fee_usdt,
      reserved = reserved - (p_order.reserved - still_reserved)
    where id = p_order.paper_balance_id;
  end if;
  return working;
end $$;

create or replace function fillstream.write_entry_state(p_order public.orders, p_report jsonb) returns void
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
  elsif p_order.status in ('cancelled', 'expired', 'failed') and position.status in ('created', 'submitting')
    and coalesce((p_report ->> 'final')::boolean, true) then
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

-- Books one report; the caller has the locks. Gives the order as it stands, and whether anything changed.
create type fillstream.booked as (working public.orders, changed boolean);
create function fillstream.book(p_order_id uuid, p_report jsonb) returns fillstream.booked
language plpgsql set search_path = '' as $$
declare
  working public.orders;
  told constant text := p_report ->> 'status';
  fills constant jsonb := coalesce(nullif(p_report -> 'fills', 'null'), '[]');
  may_move boolean;
  written fillstream.written_fills := row(0, 0, 0)::fillstream.written_fills;
  changed boolean;
begin
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
    written := fillstream.write_fills(working, fills);
  else
    may_move := false;
  end if;
  -- An order that has ended is taken up again by a fill that nobody knew of, not by old news.
  may_move := may_move and (working.status not in ('cancelled', 'expired') or written.count > 0);
  if written.count > 0 and working.status = 'failed' then
    raise exception 'order % surely failed, and yet a fill of it is told', p_order_id using errcode = 'FSD03';
  end if;

  changed := may_move or written.count > 0;
  if changed then
    working := fillstream.write_order(working, case when may_move then told else working.status end, written, p_report);
    perform fillstream.write_entry_state(working, p_report);
  elsif working.status in ('cancelled', 'expired') and working.filled_quantity = 0 and told = working.status then
    -- No late fill has come: the end is final now.
    perform fillstream.write_entry_state(working, p_report);
  end if;
  return row(working, changed)::fillstream.booked;
end $$;

create or replace function public.record_order(p_worker_id uuid, p_order_id uuid, p_report jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  booked fillstream.booked;
  working public.orders;
  position public.positions;
begin
  perform fillstream.live_worker(p_worker_id);
  perform fillstream.lock_for_recording(p_worker_id, p_order_id);
  booked := fillstream.book(p_order_id, p_report);
  working := booked.working;
  select candidate.* into position from public.positions as candidate where candidate.id = working.position_id;
  return jsonb_build_object(
    'order_status', working.status,
    'position_status', position.status,
    'entry_quantity', position.entry_quantity::text,
    'entry_value', position.entry_value::text,
    'changed', booked.changed,
    'position', fillstream.numbers_as_text(to_jsonb(position))
  );
end $$;
comment on function public.record_order is
  'Books what a venue said of an order: fills by their ids, the order''s state as far as the moves allow, the position '
  'that follows from them, the paper balance. A report older than the row changes nothing.';

revoke execute on all functions in schema fillstream from public;
