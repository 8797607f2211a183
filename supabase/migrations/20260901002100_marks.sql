-- What open positions are worth: rows in batches, live marks by broadcast, equity, and a snapshot an hour.

-- What a position would make if what is left of it were sold at a price, and that in percent of what it cost.
create function fillstream.profit_at(p_position public.positions, p_price numeric)
returns table (profit numeric, percent numeric) language sql stable set search_path = '' as $$
  select made.profit, sign(made.profit) * fillstream.average(abs(made.profit) * 100, nullif(p_position.entry_value, 0))
  from (
    select
      (p_position.entry_quantity - coalesce(p_position.exit_quantity, 0)) * p_price
      + coalesce(p_position.exit_value, 0) - p_position.entry_value - coalesce((
        select sum(trade.fee_usdt) from public.trades as trade
        where trade.position_id = p_position.id and trade.fee_asset <> split_part(trade.symbol, '/', 1)
      ), 0) as profit
  ) as made
$$;

create function fillstream.marked(p_worker_id uuid, p_marks jsonb)
returns table (id uuid, user_id uuid, mode text, quantity numeric, price numeric, profit numeric, percent numeric)
language sql stable set search_path = '' as $$
  select
    position.id, position.user_id, position.mode, position.entry_quantity - coalesce(position.exit_quantity, 0),
    mark.price, made.profit, made.percent
  from jsonb_to_recordset(p_marks) as mark (position_id uuid, price numeric)
  join public.positions as position on position.id = mark.position_id
  join public.accounts as account
    on account.user_id = position.user_id and account.mode = position.mode and account.worker_id = p_worker_id
  cross join lateral fillstream.profit_at(position, mark.price) as made
  where position.status in ('open', 'monitoring', 'closing')
$$;

-- Equity of the accounts named: what they have in USDT and what their open positions are worth now. The day is UTC's:
-- its start is what the account had when the day was first seen.
create function fillstream.write_equity(p_balances jsonb) returns void language sql set search_path = '' as $$
  insert into public.account_equity as known (user_id, mode, day, day_start, peak, current)
  select worth.user_id, worth.mode, (clock_timestamp() at time zone 'UTC')::date, worth.equity, worth.equity, worth.equity
  from (
    select had.user_id, had.mode, had.balance + coalesce(sum(
      (position.entry_quantity - coalesce(position.exit_quantity, 0)) * coalesce(mark.mark_price, position.entry_price)
    ), 0) as equity
    from jsonb_to_recordset(p_balances) as had (user_id uuid, mode text, balance numeric)
    left join public.positions as position
      on position.user_id = had.user_id and position.mode = had.mode
      and position.status in ('open', 'monitoring', 'closing')
    left join public.position_marks as mark on mark.position_id = position.id
    group by had.user_id, had.mode, had.balance
  ) as worth
  order by worth.user_id, worth.mode
  on conflict (user_id, mode) do update set
    day = excluded.day,
    day_start = case when known.day = excluded.day then known.day_start else coalesce(known.current, excluded.current) end,
    peak = greatest(known.peak, excluded.current),
    current = excluded.current
$$;

create function public.write_marks(p_worker_id uuid, p_marks jsonb, p_balances jsonb default '[]') returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  paper jsonb;
begin
  perform fillstream.live_worker(p_worker_id);
  insert into public.position_marks as known (
    position_id, user_id, mark_price, unrealized_pnl, unrealized_pnl_percent, updated_at
  )
  select marked.id, marked.user_id, marked.price, marked.profit, marked.percent, clock_timestamp()
  from fillstream.marked(p_worker_id, p_marks) as marked
  order by marked.id
  on conflict (position_id) do update set
    mark_price = excluded.mark_price, unrealized_pnl = excluded.unrealized_pnl,
    unrealized_pnl_percent = excluded.unrealized_pnl_percent, updated_at = excluded.updated_at;

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

  insert into public.pnl_snapshots (position_id, user_id, pnl, pnl_percent, current_price)
  select marked.id, marked.user_id, marked.profit, marked.percent, marked.price
  from fillstream.marked(p_worker_id, p_marks) as marked
  where not exists (
    select from public.pnl_snapshots as taken
    where taken.position_id = marked.id and taken.snapshot_at >= date_trunc('hour', clock_timestamp())
  );
  return jsonb_build_object('workers', (select count(*) from public.workers as worker where worker.dead_at is null));
end $$;
comment on function public.write_marks is
  'Writes what open positions of accounts held are worth, in one batch, with their accounts'' equity and the hour''s '
  'snapshots. Balances are those of accounts at an exchange, in USDT. Answers how many workers are alive.';

create function public.send_marks(p_worker_id uuid, p_marks jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  told record;
  sent integer := 0;
begin
  perform fillstream.live_worker(p_worker_id);
  for told in
    select marked.user_id, jsonb_agg(jsonb_build_object(
      'position_id', marked.id, 'mark_price', fillstream.digits(marked.price),
      'unrealized_pnl', fillstream.digits(marked.profit),
      'unrealized_pnl_percent', fillstream.digits(marked.percent)
    ) order by marked.id) as positions
    from fillstream.marked(p_worker_id, p_marks) as marked
    group by marked.user_id
  loop
    perform realtime.send(
      jsonb_build_object('positions', told.positions, 'at', clock_timestamp()), 'pnl-update',
      'user:' || told.user_id::text, true
    );
    sent := sent + 1;
  end loop;
  return jsonb_build_object('sent', sent);
exception when undefined_function or insufficient_privilege or undefined_table then
  return jsonb_build_object('sent', 0);
end $$;
comment on function public.send_marks is
  'Broadcasts the marks of open positions of accounts held, one message a user, on the private topic user:<id>.';

revoke execute on all functions in schema fillstream from public;
revoke execute on function public.write_marks, public.send_marks from public, anon, authenticated;
grant execute on function public.write_marks, public.send_marks to service_role;
