-- A loss or a drawdown that has reached its limit pauses, of itself, the account or the trader whose limit it is. Like
-- every pause it holds the user's accounts, so that no admission is under way; it waits for nothing, since its caller
-- holds marks, and whoever closes a position wants those: what is locked now is paused with the next batch.
create function fillstream.pause_by_limits(p_user_ids uuid[]) returns void language plpgsql set search_path = '' as $$
declare
  reached record;
  free integer;
begin
  for reached in
    select limits.id, limits.user_id, broken.rule, broken.reason
    from public.risk_limits as limits
    cross join lateral (
      select 'daily_loss_limit' as rule, format('%s USDT were lost today in %s mode; the limit is %s USDT.',
        fillstream.digits(day.loss), day.mode, fillstream.digits(day.loss_limit)) as reason
      from (
        select account.mode,
          fillstream.loss_today(limits, account.mode) as loss, fillstream.loss_limit(limits, account.mode) as loss_limit
        from public.accounts as account where account.user_id = limits.user_id
      ) as day
      where day.loss >= day.loss_limit
      union all
      select 'drawdown_limit', format('The %s account is %s %% below its peak; the limit is %s %%.',
        account.mode, fillstream.digits(round(worth.drawdown, 4)), fillstream.digits(limits.max_drawdown_percent))
      from public.accounts as account
      cross join fillstream.worth(account.user_id, account.mode) as worth
      where account.user_id = limits.user_id and worth.drawdown >= limits.max_drawdown_percent
      limit 1
    ) as broken
    where limits.user_id = any (p_user_ids) and not limits.trading_paused
    order by limits.user_id, limits.id
  loop
    select count(*) into free from (
      select from public.accounts as account where account.user_id = reached.user_id
      order by account.mode for update skip locked
    ) as held;
    continue when free < (select count(*) from public.accounts as account where account.user_id = reached.user_id);
    update public.risk_limits as own set
      trading_paused = true, pause_reason = reached.reason, paused_by = 'limit', paused_rule = reached.rule,
      paused_at = clock_timestamp()
    where own.id in (
      select limits.id from public.risk_limits as limits
      where limits.id = reached.id and not limits.trading_paused for update skip locked
    );
  end loop;
end $$;

-- A new day lifts what a day's loss has paused.
create function fillstream.lift_daily_pauses() returns void language plpgsql set search_path = '' as $$
begin
  update public.risk_limits as own set
    trading_paused = false, pause_reason = null, paused_by = null, paused_rule = null, paused_at = null
  where own.id in (
    select paused.id from public.risk_limits as paused
    where paused.paused_by = 'limit' and paused.paused_rule = 'daily_loss_limit'
      and paused.paused_at < fillstream.day_start()
    order by paused.id
    for update skip locked
  );
end $$;
create index risk_limits_paused_rule_idx on public.risk_limits (paused_at) where paused_rule is not null;

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
  perform fillstream.pause_by_limits(array(
    select position.user_id from jsonb_to_recordset(p_marks) as mark (position_id uuid)
    join public.positions as position on position.id = mark.position_id
    union
    select account.user_id from public.accounts as account
    where account.worker_id = p_worker_id and exists (
      select from public.positions as ended
      where ended.user_id = account.user_id and ended.mode = account.mode and ended.status = 'closed'
        and ended.exit_time > clock_timestamp() - interval '1 minute'
    )
  ));
  return jsonb_build_object('workers', (select count(*) from public.workers as worker where worker.dead_at is null));
end $$;

create or replace function fillstream.pause(p_user_id uuid, p_reason text, p_by text) returns public.risk_limits
language plpgsql set search_path = '' as $$
declare
  limits public.risk_limits;
begin
  perform fillstream.ensure_limits(p_user_id);
  -- Each of the user's admissions holds its account, so this holds with limits written just now as well.
  perform from public.accounts as account where account.user_id = p_user_id order by account.mode for update;
  perform from public.risk_limits as own where own.user_id = p_user_id and own.trader_id is null for update;
  update public.risk_limits as own set
    trading_paused = true, pause_reason = left(p_reason, 1000), paused_by = p_by, paused_rule = null,
    paused_at = clock_timestamp()
  where own.user_id = p_user_id and own.trader_id is null
    and (p_by = 'operator' or not (own.trading_paused and own.paused_by = 'operator'));
  select own.* into limits from public.risk_limits as own
  where own.user_id = p_user_id and own.trader_id is null;
  return limits;
end $$;

create or replace function public.resume_trading() returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  asking constant uuid := fillstream.caller(null);
begin
  perform from public.risk_limits as own where own.user_id = asking order by own.id for update;
  if exists (
    select from public.risk_limits as own
    where own.user_id = asking and own.trader_id is null and own.trading_paused and own.paused_by = 'operator'
  ) then
    raise exception 'the operator paused this account, and only the operator can resume it'
      using errcode = 'insufficient_privilege';
  end if;
  -- Whoever goes on after a drawdown measures the next one from here.
  update public.account_equity as known set peak = known.current
  where known.user_id = asking and exists (
    select from public.risk_limits as own
    where own.user_id = asking and (known.peak - known.current) * 100 >= known.peak * own.max_drawdown_percent
  );
  update public.risk_limits as own set
    trading_paused = false, pause_reason = null, paused_by = null, paused_rule = null, paused_at = null
  where own.user_id = asking and own.trading_paused and (own.trader_id is null or own.paused_by = 'limit');
  return jsonb_build_object('trading_paused', false);
end $$;
comment on function public.resume_trading is
  'Lifts one''s own pause, or those by limits; never the operator''s. After a drawdown the peak is counted anew.';

create or replace function public.worker_heartbeat(p_worker_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker public.workers;
  held jsonb;
  surplus integer;
begin
  update public.workers as own set heartbeat_at = clock_timestamp()
  where own.id = p_worker_id and own.dead_at is null
  returning own.* into worker;
  if worker.id is null then
    return jsonb_build_object(
      'alive', false, 'now_ms', fillstream.epoch_ms(clock_timestamp()), 'heartbeat_ms', null,
      'accounts', '[]'::jsonb, 'surplus', 0
    );
  end if;
  perform fillstream.declare_lapsed(p_worker_id);
  perform fillstream.lift_daily_pauses();
  -- An answer is kept for as long as its question could be asked again, and well beyond.
  delete from fillstream.admissions where worker_id = p_worker_id and at < clock_timestamp() - interval '10 minutes';
  select coalesce(
    jsonb_agg(jsonb_build_object('user_id', account.user_id, 'mode', account.mode)), '[]'
  ) into held
  from public.accounts as account where account.worker_id = p_worker_id;
  select coalesce(sum(greatest(counted.accounts - fillstream.most_accounts(counted.mode), 0)), 0) into surplus
  from (
    select account.mode, count(*)::integer as accounts
    from public.accounts as account where account.worker_id = p_worker_id group by account.mode
  ) as counted;
  return jsonb_build_object(
    'alive', true,
    'now_ms', fillstream.epoch_ms(clock_timestamp()),
    'heartbeat_ms', fillstream.epoch_ms(worker.heartbeat_at),
    'accounts', held,
    'surplus', surplus
  );
end $$;

revoke execute on all functions in schema fillstream from public;
