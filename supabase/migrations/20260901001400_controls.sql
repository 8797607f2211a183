-- What users and the operator may do: pause, resume, stop, change a trader's mode. Who asks is told by auth.role()
-- and auth.uid(); whoever is neither is turned away.

-- The user a call is for. Raises insufficient_privilege unless a signed-in user asks for themselves, or the service
-- role for the user it names.
create function fillstream.caller(p_user_id uuid) returns uuid language plpgsql stable set search_path = '' as $$
begin
  if auth.role() = 'service_role' and p_user_id is not null then
    return p_user_id;
  end if;
  if auth.role() = 'authenticated' and auth.uid() is not null and coalesce(p_user_id, auth.uid()) = auth.uid() then
    return auth.uid();
  end if;
  raise exception 'sign in, and ask for your own account only' using errcode = 'insufficient_privilege';
end $$;

-- Pauses an account. Waits for admissions under way, which hold the row shared: none commits after. A pause by the
-- operator is not replaced by another.
create function fillstream.pause(p_user_id uuid, p_reason text, p_by text) returns public.risk_limits
language plpgsql set search_path = '' as $$
declare
  limits public.risk_limits;
begin
  perform fillstream.ensure_limits(p_user_id);
  -- Each of the user's admissions holds its account, so this holds with limits written just now as well.
  perform from public.accounts as account where account.user_id = p_user_id order by account.mode for update;
  perform from public.risk_limits as own where own.user_id = p_user_id and own.trader_id is null for update;
  update public.risk_limits as own set
    trading_paused = true, pause_reason = left(p_reason, 1000), paused_by = p_by, paused_at = clock_timestamp()
  where own.user_id = p_user_id and own.trader_id is null
    and (p_by = 'operator' or not (own.trading_paused and own.paused_by = 'operator'));
  select own.* into limits from public.risk_limits as own
  where own.user_id = p_user_id and own.trader_id is null;
  return limits;
end $$;

create function fillstream.pause_state(p_limits public.risk_limits) returns jsonb language sql immutable as $$
  select jsonb_build_object(
    'trading_paused', p_limits.trading_paused, 'pause_reason', p_limits.pause_reason,
    'paused_by', p_limits.paused_by, 'paused_at', p_limits.paused_at
  )
$$;

create function public.pause_trading(p_reason text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  return fillstream.pause_state(fillstream.pause(fillstream.caller(null), p_reason, 'user'));
end $$;
comment on function public.pause_trading is 'Pauses one''s own account: from the commit on, nothing is admitted.';

create function public.resume_trading() returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  asking constant uuid := fillstream.caller(null);
  limits public.risk_limits;
begin
  select own.* into limits from public.risk_limits as own
  where own.user_id = asking and own.trader_id is null for update;
  if limits.trading_paused and limits.paused_by = 'operator' then
    raise exception 'the operator paused this account, and only the operator can resume it'
      using errcode = 'insufficient_privilege';
  end if;
  update public.risk_limits as own set
    trading_paused = false, pause_reason = null, paused_by = null, paused_at = null
  where own.id = limits.id and own.trading_paused
  returning own.* into limits;
  return jsonb_build_object('trading_paused', false);
end $$;
comment on function public.resume_trading is 'Lifts one''s own pause, or one by a limit; never the operator''s.';

-- Queues what brings an account to rest: entries at work are cancelled, and positions closed where asked. An entry
-- may still fill while it is cancelled, so its position is asked to close too.
create function fillstream.queue_stop(p_user_id uuid, p_close_positions boolean) returns jsonb
language plpgsql set search_path = '' as $$
declare
  counts jsonb;
begin
  with queued as (
    insert into public.position_actions (position_id, action, reasoning)
    select position.id, wanted.action, 'emergency stop'
    from public.positions as position
    cross join lateral (
      select 'cancel_entry' as action, 1 as place
      where position.status in ('created', 'submitting') or exists (
        select from public.orders as entry
        where entry.position_id = position.id and entry.purpose = 'entry'
          and entry.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
      )
      union all
      select 'close', 2 where p_close_positions and position.status <> 'closing'
    ) as wanted
    where position.status in ('created', 'submitting', 'open', 'monitoring', 'closing')
      and (p_user_id is null or position.user_id = p_user_id)
      and not exists (
        select from public.position_actions as earlier
        where earlier.position_id = position.id and earlier.action = wanted.action and earlier.status = 'pending'
      )
    order by position.created_at, position.id, wanted.place
    returning action
  )
  select jsonb_build_object(
    'cancel_entry', count(*) filter (where queued.action = 'cancel_entry'),
    'close', count(*) filter (where queued.action = 'close')
  ) into counts
  from queued;
  return counts;
end $$;

create function public.emergency_stop(p_user_id uuid default null, p_close_positions boolean default false)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  is_service constant boolean := auth.role() is not distinct from 'service_role';
  whose uuid;
begin
  if is_service and p_user_id is null then
    perform from public.system_state as state for update;
    update public.system_state as state set
      stopped = true, stop_reason = 'emergency stop', stopped_at = clock_timestamp()
    where not state.stopped;
    return jsonb_build_object('everybody', true, 'paused', (
      select count(distinct account.user_id) from public.accounts as account
    )) || fillstream.queue_stop(null, p_close_positions);
  end if;
  whose := fillstream.caller(p_user_id);
  perform fillstream.pause(whose, 'emergency stop', case when is_service then 'operator' else 'user' end);
  return jsonb_build_object('everybody', false, 'paused', 1) || fillstream.queue_stop(whose, p_close_positions);
end $$;
comment on function public.emergency_stop is
  'Pauses at once and queues the cancelling of entries and, where asked, the closing of positions: of one''s own '
  'account; by the service role of a user, or with null of everybody. Answers with counts.';

create function public.clear_system_stop() returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  if auth.role() is distinct from 'service_role' then
    raise exception 'only the service role lifts a stop of everybody' using errcode = 'insufficient_privilege';
  end if;
  update public.system_state set stopped = false, stop_reason = null, stopped_at = null;
  return jsonb_build_object('stopped', false);
end $$;
comment on function public.clear_system_stop is 'Lifts the stop of everybody; pauses of single accounts stay.';

create function public.set_trader_mode(p_trader_id uuid, p_mode text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  trader public.traders;
begin
  if p_mode is null or p_mode not in ('paper', 'testnet', 'live') then
    raise exception 'the mode must be paper, testnet or live' using errcode = 'invalid_parameter_value';
  end if;
  select own.* into trader from public.traders as own
  where own.id = p_trader_id and (
    auth.role() = 'service_role' or (auth.role() = 'authenticated' and own.user_id = auth.uid())
  )
  for update;
  if trader.id is null then
    raise exception 'there is no such trader of yours' using errcode = 'insufficient_privilege';
  end if;
  if p_mode <> 'paper' then
    if not exists (
      select from public.exchange_accounts as key
      join public.exchange_credentials as credential
        on credential.user_id = key.user_id and credential.exchange = key.exchange and credential.mode = key.mode
      where key.user_id = trader.user_id and key.exchange = trader.exchange and key.mode = p_mode
        and key.is_active and key.error is null
    ) then
      raise exception 'store working % keys for % first', p_mode, trader.exchange
        using errcode = 'object_not_in_prerequisite_state';
    end if;
    if not exists (
      select from public.risk_limits as limits
      where limits.user_id = trader.user_id and limits.trader_id is null
        and limits.max_total_exposure_usdt is not null
        and (limits.max_position_size_usdt is not null or limits.max_position_size_percent is not null)
        and (limits.daily_loss_limit_usdt is not null or limits.daily_loss_limit_percent is not null)
    ) then
      raise exception 'set limits of the account first: position size, total exposure and daily loss'
        using errcode = 'object_not_in_prerequisite_state';
    end if;
  end if;
  update public.traders set mode = p_mode where id = p_trader_id and mode <> p_mode;
  return jsonb_build_object('trader_id', p_trader_id, 'mode', p_mode);
end $$;
comment on function public.set_trader_mode is
  'Moves a trader to another mode; to testnet and live only with working keys of that mode and limits set.';

revoke execute on all functions in schema fillstream from public;
revoke execute on function
  public.pause_trading, public.resume_trading, public.emergency_stop, public.clear_system_stop,
  public.set_trader_mode
from public, anon, authenticated, service_role;
grant execute on function public.pause_trading, public.resume_trading to authenticated;
grant execute on function public.emergency_stop, public.set_trader_mode to authenticated, service_role;
grant execute on function public.clear_system_stop to service_role;
