-- What is done for every open position, or at each step of one, costs little: sets instead of a function a row, and one
-- call instead of three.

-- Books what was heard of several sells of a position, and gives the position as it stands then.
create function public.record_exits(p_worker_id uuid, p_position_id uuid, p_reports jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  heard record;
begin
  perform fillstream.live_worker(p_worker_id);
  perform fillstream.lock_position(p_worker_id, p_position_id);
  perform from public.orders as working where working.position_id = p_position_id order by working.id for update;
  perform from public.paper_balances as balance
  where balance.id = (
    select entry.paper_balance_id from public.orders as entry
    where entry.position_id = p_position_id and entry.purpose = 'entry'
  ) for update;
  for heard in select one.order_id, one.report from jsonb_to_recordset(p_reports) as one (order_id uuid, report jsonb)
  loop
    if not exists (
      select from public.orders as working
      where working.id = heard.order_id and working.position_id = p_position_id and working.purpose <> 'entry'
    ) then
      raise exception 'order % is no sell of position %', heard.order_id, p_position_id using errcode = 'no_data_found';
    end if;
    perform fillstream.book(heard.order_id, heard.report);
  end loop;
  return fillstream.held_document(p_position_id);
end $$;
comment on function public.record_exits is
  'Books what a venue said of sells of a position, each report as record_order does, and gives the position with its '
  'orders and actions. Reports older than the rows change nothing.';

-- What positions of accounts held would make if what is left of them were sold at these prices, and that in percent of
-- what they cost.
create or replace function fillstream.marked(p_worker_id uuid, p_marks jsonb)
returns table (id uuid, user_id uuid, mode text, quantity numeric, price numeric, profit numeric, percent numeric)
language sql stable set search_path = '' as $$
  select
    made.id, made.user_id, made.mode, made.quantity, made.price, made.profit,
    sign(made.profit) * fillstream.average(abs(made.profit) * 100, nullif(made.entry_value, 0))
  from (
    select
      position.id, position.user_id, position.mode, position.entry_value, mark.price,
      position.entry_quantity - coalesce(position.exit_quantity, 0) as quantity,
      (position.entry_quantity - coalesce(position.exit_quantity, 0)) * mark.price
      + coalesce(position.exit_value, 0) - position.entry_value - coalesce(paid.fees, 0) as profit
    from jsonb_to_recordset(p_marks) as mark (position_id uuid, price numeric)
    join public.positions as position on position.id = mark.position_id
    join public.accounts as account
      on account.user_id = position.user_id and account.mode = position.mode and account.worker_id = p_worker_id
    left join (
      select trade.position_id, sum(trade.fee_usdt) as fees
      from public.trades as trade
      where trade.position_id in (select one.position_id from jsonb_to_recordset(p_marks) as one (position_id uuid))
        and trade.fee_asset <> split_part(trade.symbol, '/', 1)
      group by trade.position_id
    ) as paid on paid.position_id = position.id
    where position.status in ('open', 'monitoring', 'closing')
  ) as made
$$;
drop function fillstream.profit_at(public.positions, numeric);

create or replace function public.write_marks(p_worker_id uuid, p_marks jsonb, p_balances jsonb default '[]')
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  paper jsonb;
begin
  perform fillstream.live_worker(p_worker_id);
  with marked as materialized (
    select one.* from fillstream.marked(p_worker_id, p_marks) as one order by one.id
  ), written as (
    insert into public.position_marks as known (
      position_id, user_id, mark_price, unrealized_pnl, unrealized_pnl_percent, updated_at
    )
    select marked.id, marked.user_id, marked.price, marked.profit, marked.percent, clock_timestamp() from marked
    on conflict (position_id) do update set
      mark_price = excluded.mark_price, unrealized_pnl = excluded.unrealized_pnl,
      unrealized_pnl_percent = excluded.unrealized_pnl_percent, updated_at = excluded.updated_at
  )
  insert into public.pnl_snapshots (position_id, user_id, pnl, pnl_percent, current_price)
  select marked.id, marked.user_id, marked.profit, marked.percent, marked.price
  from marked
  where not exists (
    select from public.pnl_snapshots as taken
    where taken.position_id = marked.id and taken.snapshot_at >= date_trunc('hour', clock_timestamp())
  );

  -- Play money is in rows; what an exchange keeps is told by the worker.
  select jsonb_agg(jsonb_build_object('user_id', had.user_id, 'mode', 'paper', 'balance', had.balance)) into paper
  from (
    select balance.user_id, sum(balance.current_balance) as balance
    from public.paper_balances as balance
    join public.accounts as account
      on account.user_id = balance.user_id and account.mode = 'paper' and account.worker_id = p_worker_id
    where balance.user_id in (
      select position.user_id from jsonb_to_recordset(p_marks) as mark (position_id uuid)
      join public.positions as position on position.id = mark.position_id
    )
    group by balance.user_id
  ) as had;
  perform fillstream.write_equity(coalesce(paper, '[]') || coalesce((
    select jsonb_agg(told) from jsonb_array_elements(p_balances) as told
    join public.accounts as account
      on account.user_id = (told ->> 'user_id')::uuid and account.mode = told ->> 'mode'
      and account.worker_id = p_worker_id
    where told ->> 'mode' <> 'paper'
  ), '[]'));
  return jsonb_build_object('workers', (select count(*) from public.workers as worker where worker.dead_at is null));
end $$;

revoke execute on all functions in schema fillstream from public;
revoke execute on function public.record_exits from public, anon, authenticated;
grant execute on function public.record_exits to service_role;
