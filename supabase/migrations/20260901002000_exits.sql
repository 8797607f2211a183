-- How a position is protected and ends: intents of sells before they are sent, their bookings, the close and its profit.

alter table public.positions
  add column trailing_stop_percent numeric,
  add column trailing_stop_price numeric,
  add column max_hold_minutes numeric;
comment on column public.positions.trailing_stop_percent is 'As admitted: how far below its peak the price may fall.';
comment on column public.positions.trailing_stop_price is 'Where the trailing stop rests by now; it only rises.';
comment on column public.positions.max_hold_minutes is 'As admitted: minutes from the first fill to the exit.';
comment on column public.positions.protected_at is 'When the exchange first said that a protective order rests.';

alter table public.orders
  add column list_client_order_id text,
  add column action_id uuid references public.position_actions;
comment on column public.orders.list_client_order_id is
  'The name of the order list that it is a leg of: of one list, one leg is filled at most.';
comment on column public.orders.action_id is 'The action that asked for it.';
create unique index orders_action_id_idx on public.orders (action_id) where action_id is not null;

-- What the trader wants of the position while it is held is written at admission, like its stop and target.
create or replace function fillstream.write_entry(
  p_signal public.signals, p_trader public.traders, p_plan jsonb, p_signed_at timestamptz
) returns void language plpgsql set search_path = '' as $$
declare
  new_position_id constant uuid := p_plan ->> 'position_id';
  new_order_id constant uuid := p_plan ->> 'order_id';
  entry constant jsonb := p_plan -> 'order';
  worst_value constant numeric := p_plan ->> 'worst_value';
  cost constant numeric := (p_plan ->> 'worst_value')::numeric + (p_plan ->> 'fee_reserve')::numeric;
  balance_id uuid;
begin
  update public.signals set status = 'executing' where id = p_signal.id;

  insert into public.positions (
    id, user_id, trader_id, signal_id, symbol, side, mode, stop_loss_price, stop_loss_percent, take_profit_price,
    take_profit_percent, trailing_stop_percent, max_hold_minutes, max_loss_usdt, woken_at, admitted_at
  ) values (
    new_position_id, p_signal.user_id, p_trader.id, p_signal.id, p_signal.symbol, p_signal.side, p_trader.mode,
    (p_plan ->> 'stop_loss_price')::numeric, (p_plan ->> 'stop_loss_percent')::numeric,
    (p_plan ->> 'take_profit_price')::numeric, (p_plan ->> 'take_profit_percent')::numeric,
    (p_plan ->> 'trailing_stop_percent')::numeric, (p_plan ->> 'max_hold_minutes')::numeric,
    (p_plan ->> 'max_loss_usdt')::numeric, (p_plan ->> 'woken_at')::timestamptz, clock_timestamp()
  );

  if p_trader.mode = 'paper' then
    select balance.id into balance_id from fillstream.paper_balance(p_signal.user_id, p_trader.id) as balance;
    update public.paper_balances set reserved = reserved + cost where id = balance_id;
  end if;

  insert into public.orders (
    id, position_id, user_id, purpose, client_order_id, symbol, side, type, time_in_force, quantity, price, mode,
    signed_at, recv_window_ms, worst_value, reserved, paper_balance_id
  ) values (
    new_order_id, new_position_id, p_signal.user_id, 'entry', p_plan ->> 'client_order_id', p_signal.symbol,
    case p_signal.side when 'short' then 'sell' else 'buy' end, entry ->> 'type', entry ->> 'time_in_force',
    (entry ->> 'quantity')::numeric, (entry ->> 'price')::numeric, p_trader.mode,
    p_signed_at, (p_plan ->> 'recv_window_ms')::integer, worst_value, cost, balance_id
  );

  update public.positions set status = 'submitting' where id = new_position_id;
  update public.orders set status = 'submitting', submitted_at = clock_timestamp() where id = new_order_id;
end $$;

-- What a holder of a position needs to decide about it, in one document.
create function fillstream.held_document(p_position_id uuid) returns jsonb
language sql stable set search_path = '' as $$
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
$$;

-- Positions of accounts held that hold coins, or of those the ones named; with p_asked, only those with an action.
create function public.held_positions(
  p_worker_id uuid, p_position_ids uuid[] default null, p_asked boolean default false
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  found jsonb;
begin
  perform fillstream.live_worker(p_worker_id);
  select jsonb_agg(fillstream.held_document(position.id) order by position.created_at, position.id) into found
  from fillstream.held_accounts(p_worker_id, null) as account
  join public.positions as position on position.user_id = account.user_id and position.mode = account.mode
  where position.status in ('created', 'submitting', 'open', 'monitoring', 'closing')
    and (p_position_ids is null or position.id = any (p_position_ids))
    and (p_asked or position.status in ('open', 'monitoring', 'closing'))
    and (not p_asked or exists (
      select from public.position_actions as pending
      where pending.position_id = position.id and pending.status = 'pending'
    ));
  return jsonb_build_object('positions', coalesce(found, '[]'));
end $$;
comment on function public.held_positions is
  'Positions of accounts held, each with its entry, the sells at work, how many there were, and what is asked of it.';

-- Recovery settles entries; sells are their position's, and whoever holds it reads them with it.
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
  where working.purpose = 'entry' and (
    working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
    -- An end that was never called final, since a late fill might still have come.
    or (working.status in ('cancelled', 'expired') and position.status = 'submitting')
  );
  return jsonb_build_object('orders', coalesce(found, '[]'));
end $$;
comment on function public.unfinished_orders is
  'Entries of accounts held that have not ended for good, oldest first, each with its position and the signal behind it.';

-- Locks a position for its holder, in the order that holds everywhere. Raises FSD02 when the account is not held.
create function fillstream.lock_position(p_worker_id uuid, p_position_id uuid) returns public.positions
language plpgsql set search_path = '' as $$
declare
  position public.positions;
begin
  select candidate.* into position from public.positions as candidate where candidate.id = p_position_id;
  if position.id is null then
    raise exception 'there is no position %', p_position_id using errcode = 'no_data_found';
  end if;
  perform from public.accounts as account
  where account.user_id = position.user_id and account.mode = position.mode and account.worker_id = p_worker_id
  for key share;
  if not found then
    raise exception using
      errcode = 'FSD02',
      message = format('the account of position %s is not held by worker %s', p_position_id, p_worker_id),
      hint = 'Another worker has the work: drop it.';
  end if;
  perform from public.signals as signal where signal.id = position.signal_id for update;
  select candidate.* into position from public.positions as candidate where candidate.id = p_position_id for update;
  return position;
end $$;

-- What a position still holds, and how much of it is already promised to sells at work: of one list, one leg counts.
create function fillstream.promised(p_position_id uuid) returns numeric language sql stable set search_path = '' as $$
  select coalesce(sum(promise.quantity), 0) from (
    select max(working.quantity - working.filled_quantity) as quantity
    from public.orders as working
    where working.position_id = p_position_id and working.side = 'sell'
      and working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
    group by coalesce(working.list_client_order_id, working.id::text)
  ) as promise
$$;

-- The position as its sells make it. Its state does not move by them: it closes when nothing is left to sell.
create function fillstream.write_exit_state(p_order public.orders) returns void
language plpgsql set search_path = '' as $$
begin
  if p_order.purpose in ('stop_loss', 'take_profit') and p_order.status = 'submitted' then
    update public.positions as written set
      protected_at = coalesce(written.protected_at, p_order.acknowledged_at)
    where written.id = p_order.position_id;
  end if;
  update public.positions as written set
    exit_price = fillstream.average(sold.value, sold.quantity),
    exit_quantity = sold.quantity,
    exit_value = sold.value,
    exit_time = sold.last_at,
    exit_order_id = sold.order_id,
    fees_paid = (select sum(every.fee_usdt) from public.trades as every where every.position_id = p_order.position_id)
  from (
    select
      sum(trade.quantity) as quantity, sum(trade.value) as value, max(trade.executed_at) as last_at,
      (array_agg(seller.exchange_order_id order by trade.executed_at desc, trade.exchange_trade_id desc))[1] as order_id
    from public.trades as trade
    join public.orders as seller on seller.id = trade.order_id
    where trade.position_id = p_order.position_id and trade.side = 'sell'
  ) as sold
  where written.id = p_order.position_id and sold.quantity > 0;
end $$;

-- Books one report; the caller has the locks. Gives the order as it stands, and whether anything changed.
create or replace function fillstream.book(p_order_id uuid, p_report jsonb) returns fillstream.booked
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
    if working.purpose = 'entry' then
      perform fillstream.write_entry_state(working, p_report);
    else
      perform fillstream.write_exit_state(working);
      -- On paper there is no exchange that would end the other leg of a list whose one leg is filled.
      if working.mode = 'paper' and working.filled_quantity > 0 and working.list_client_order_id is not null then
        update public.orders as leg set status = 'expired'
        where leg.position_id = working.position_id and leg.list_client_order_id = working.list_client_order_id
          and leg.id <> working.id and leg.status in ('submitting', 'submitted', 'unknown');
      end if;
    end if;
  elsif working.purpose = 'entry' and working.status in ('cancelled', 'expired') and working.filled_quantity = 0
    and told = working.status then
    -- No late fill has come: the end is final now.
    perform fillstream.write_entry_state(working, p_report);
  end if;
  return row(working, changed)::fillstream.booked;
end $$;

-- Commits the intent of sells before they are sent: one exit, or a stop, a target or both as one list. What was heard
-- of the orders that they replace is booked with it, so that no coin is promised twice.
create function public.prepare_exits(p_worker_id uuid, p_position_id uuid, p_plan jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker constant public.workers := fillstream.live_worker(p_worker_id);
  position public.positions := fillstream.lock_position(p_worker_id, p_position_id);
  entry public.orders;
  heard record;
  wanted numeric;
  held numeric;
  recv_window_ms constant integer := p_plan ->> 'recv_window_ms';
  signed_at timestamptz;
  reason constant text := p_plan ->> 'exit_reason';
begin
  -- The same question again: its answer was lost.
  select asked.signed_at into signed_at from public.orders as asked
  where asked.position_id = p_position_id and asked.id = (p_plan -> 'orders' -> 0 ->> 'id')::uuid;
  if signed_at is not null then
    return jsonb_build_object('outcome', 'prepared', 'signed_at_ms', fillstream.epoch_ms(signed_at));
  end if;

  perform from public.orders as working where working.position_id = p_position_id order by working.id for update;
  select candidate.* into entry from public.orders as candidate
  where candidate.position_id = p_position_id and candidate.purpose = 'entry';
  perform from public.paper_balances as balance where balance.id = entry.paper_balance_id for update;
  for heard in
    select one.order_id, one.report
    from jsonb_to_recordset(coalesce(p_plan -> 'reports', '[]')) as one (order_id uuid, report jsonb)
  loop
    perform fillstream.book(heard.order_id, heard.report);
  end loop;
  select candidate.* into position from public.positions as candidate where candidate.id = p_position_id;

  select sum(leg.quantity) into wanted from (
    select max(one.quantity) as quantity
    from jsonb_to_recordset(p_plan -> 'orders') as one (id uuid, quantity numeric, list_client_order_id text)
    group by coalesce(one.list_client_order_id, one.id::text)
  ) as leg;
  held := coalesce(position.entry_quantity, 0) - coalesce(position.exit_quantity, 0);
  if position.status not in ('open', 'monitoring', 'closing')
    or wanted > held - fillstream.promised(p_position_id) then
    return jsonb_build_object('outcome', 'stale');
  end if;

  signed_at := date_trunc('milliseconds', clock_timestamp());
  if signed_at > (
    select own.heartbeat_at + fillstream.lease(own) from public.workers as own where own.id = p_worker_id
  ) - recv_window_ms * interval '1 millisecond' then
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
    position.mode, signed_at, recv_window_ms, entry.paper_balance_id
  from jsonb_to_recordset(p_plan -> 'orders') as one (
    id uuid, purpose text, client_order_id text, list_client_order_id text, action_id uuid, type text,
    time_in_force text, quantity numeric, price numeric, stop_price numeric
  );
  update public.orders as working set status = 'submitting', submitted_at = clock_timestamp()
  where working.position_id = p_position_id and working.status = 'created';
  update public.positions as written set
    status = case when reason is not null and written.status <> 'closing' then 'closing' else written.status end,
    exit_reason = coalesce(written.exit_reason, reason),
    trailing_stop_price = greatest(written.trailing_stop_price, (p_plan ->> 'trailing_stop_price')::numeric)
  where written.id = p_position_id;
  return jsonb_build_object('outcome', 'prepared', 'signed_at_ms', fillstream.epoch_ms(signed_at));
end $$;
comment on function public.prepare_exits is
  'Books what was heard of earlier sells and commits new ones at submitting, which the caller may send once. With an '
  'exit_reason the position is closing from here on. Answers prepared, stale (look again: they would sell more than is '
  'held) or late (heartbeat first); again with the same first order, the same answer.';

-- A position that is looked after: protected where it can be, its entry at an end.
create function public.adopt_position(p_worker_id uuid, p_position_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  position public.positions;
begin
  perform fillstream.live_worker(p_worker_id);
  position := fillstream.lock_position(p_worker_id, p_position_id);
  if position.status = 'open' then
    update public.positions set status = 'monitoring' where id = p_position_id;
  end if;
  return fillstream.held_document(p_position_id);
end $$;
comment on function public.adopt_position is 'Moves an open position to monitoring, and gives it as it stands.';

-- A close that did not come about: the exchange keeps refusing its exits.
create function public.resume_position(p_worker_id uuid, p_position_id uuid, p_detail text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  position public.positions;
begin
  perform fillstream.live_worker(p_worker_id);
  position := fillstream.lock_position(p_worker_id, p_position_id);
  if position.status = 'closing' then
    update public.positions set status = 'monitoring', exit_reason = null where id = p_position_id;
    update public.position_actions as asked set
      status = 'failed', error_message = left(p_detail, 2000), done_at = clock_timestamp()
    where asked.position_id = p_position_id and asked.status = 'pending' and asked.action = 'close';
  end if;
  return fillstream.held_document(p_position_id);
end $$;
comment on function public.resume_position is
  'Moves a closing position back to monitoring, where its exits were refused for good; its close actions fail.';

create function public.close_position(p_worker_id uuid, p_position_id uuid, p_reason text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  position public.positions;
  entry public.orders;
  rest numeric;
  profit numeric;
begin
  perform fillstream.live_worker(p_worker_id);
  position := fillstream.lock_position(p_worker_id, p_position_id);
  perform from public.orders as working where working.position_id = p_position_id order by working.id for update;
  if position.status not in ('open', 'monitoring', 'closing') or exists (
    select from public.orders as working
    where working.position_id = p_position_id
      and working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
  ) then
    return jsonb_build_object('closed', position.status = 'closed') || fillstream.held_document(p_position_id);
  end if;
  select candidate.* into entry from public.orders as candidate
  where candidate.position_id = p_position_id and candidate.purpose = 'entry';

  rest := position.entry_quantity - coalesce(position.exit_quantity, 0);
  if p_reason <> 'lost_at_venue' then
    select coalesce(position.exit_value, 0) - position.entry_value - coalesce(sum(trade.fee_usdt), 0) into profit
    from public.trades as trade
    where trade.position_id = p_position_id and trade.fee_asset <> split_part(trade.symbol, '/', 1);
  end if;
  update public.positions as written set
    status = 'closing',
    exit_reason = case when p_reason = 'lost_at_venue' then p_reason else coalesce(written.exit_reason, p_reason) end
  where written.id = p_position_id and written.status <> 'closing';
  update public.positions as written set
    status = 'closed',
    exit_reason = case when p_reason = 'lost_at_venue' then p_reason else coalesce(written.exit_reason, p_reason) end,
    exit_time = coalesce(written.exit_time, clock_timestamp()),
    exit_quantity = coalesce(written.exit_quantity, 0),
    exit_value = coalesce(written.exit_value, 0),
    dust_quantity = nullif(rest, 0),
    realized_pnl = profit,
    realized_pnl_percent = sign(profit) * fillstream.average(abs(profit) * 100, nullif(written.entry_value, 0))
  where written.id = p_position_id;
  update public.paper_balances as balance set
    total_pnl = total_pnl + profit,
    total_trades = total_trades + 1,
    winning_trades = winning_trades + (profit > 0)::integer,
    losing_trades = losing_trades + (profit < 0)::integer
  where balance.id = entry.paper_balance_id and profit is not null;
  delete from public.position_marks as mark where mark.position_id = p_position_id;
  return jsonb_build_object('closed', true) || fillstream.held_document(p_position_id);
end $$;
comment on function public.close_position is
  'Ends a position of which nothing sellable is left and no order is at work: what is left is dust, the profit is exit '
  'value less entry value less the fees that were not taken in the coin itself. Lost coins leave the profit unknown.';

-- Answers what was asked of a position; a stop or target that it moves is written with the answer.
create function public.settle_action(
  p_worker_id uuid, p_action_id uuid, p_status text, p_error text default null, p_change jsonb default '{}'
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  asked public.position_actions;
begin
  perform fillstream.live_worker(p_worker_id);
  select wanted.* into asked from public.position_actions as wanted where wanted.id = p_action_id;
  if asked.id is null then
    raise exception 'there is no action %', p_action_id using errcode = 'no_data_found';
  end if;
  perform fillstream.lock_position(p_worker_id, asked.position_id);
  update public.position_actions as wanted set
    status = p_status, error_message = left(p_error, 2000), done_at = clock_timestamp()
  where wanted.id = p_action_id and wanted.status = 'pending';
  if found then
    update public.positions as written set
      stop_loss_price = case
        when p_change ? 'stop_loss_price' then (p_change ->> 'stop_loss_price')::numeric else written.stop_loss_price
      end,
      take_profit_price = case
        when p_change ? 'take_profit_price'
        then (p_change ->> 'take_profit_price')::numeric else written.take_profit_price
      end,
      -- A stop that was set by hand follows the entry price no more.
      stop_loss_percent = case when p_change ? 'stop_loss_price' then null else written.stop_loss_percent end,
      take_profit_percent = case when p_change ? 'take_profit_price' then null else written.take_profit_percent end
    where written.id = asked.position_id and p_change <> '{}';
  end if;
  return fillstream.held_document(asked.position_id);
end $$;
comment on function public.settle_action is
  'Answers an action with done, refused or failed, once; {"stop_loss_price"} and {"take_profit_price"} are written with it.';

-- What is still asked of a position that has ended is answered by its end.
create function fillstream.answer_actions() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.position_actions as asked set
    status = case
      when asked.action = 'close' or (asked.action = 'cancel_entry' and new.status = 'failed') then 'done'
      else 'refused'
    end,
    error_message = case
      when asked.action = 'close' and new.status = 'failed' then 'The entry came to nothing, so there was nothing to close.'
      when asked.action in ('close', 'cancel_entry') and new.status = 'failed' then null
      when asked.action = 'close' then null
      else format('The position is %s.', new.status)
    end,
    done_at = clock_timestamp()
  where asked.position_id = new.id and asked.status = 'pending';
  return null;
end $$;
create trigger answer_actions after update of status on public.positions
  for each row when (new.status in ('closed', 'failed') and old.status is distinct from new.status)
  execute function fillstream.answer_actions();

-- An entry that has ended answers whoever wanted it cancelled.
create function fillstream.answer_cancel() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.position_actions as asked set
    status = case when new.status in ('cancelled', 'expired') then 'done' else 'refused' end,
    error_message = case
      when new.status = 'filled' then 'The entry was filled before it could be cancelled.'
      when new.filled_quantity > 0 then format('%s was bought before it was cancelled.', trim_scale(new.filled_quantity))
    end,
    done_at = clock_timestamp()
  where asked.position_id = new.position_id and asked.status = 'pending' and asked.action = 'cancel_entry';
  return null;
end $$;
create trigger answer_cancel after update of status on public.orders
  for each row when (
    new.purpose = 'entry' and new.status in ('cancelled', 'expired', 'filled') and old.status is distinct from new.status
  )
  execute function fillstream.answer_cancel();

-- Actions are announced like signals: a hint, and never a reason for an insert to fail.
create function fillstream.announce_actions() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  ids uuid[];
begin
  select array_agg(distinct action.position_id) into ids from asked as action;
  if ids is not null then
    perform realtime.send(
      jsonb_build_object('ids', to_jsonb(ids[1:100]), 'more', cardinality(ids) > 100), 'actions', 'workers', true
    );
  end if;
  return null;
exception when others then
  raise warning 'actions were not announced: %', sqlerrm;
  return null;
end $$;
create trigger announce after insert on public.position_actions
  referencing new table as asked
  for each statement execute function fillstream.announce_actions();

revoke execute on all functions in schema fillstream from public;
revoke execute on function
  public.held_positions, public.prepare_exits, public.adopt_position, public.resume_position, public.close_position,
  public.settle_action
from public, anon, authenticated;
grant execute on function
  public.held_positions, public.prepare_exits, public.adopt_position, public.resume_position, public.close_position,
  public.settle_action
to service_role;
