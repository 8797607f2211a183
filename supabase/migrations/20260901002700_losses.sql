-- Limits on what may be lost, on size and on pace: refused at admission, and a loss that reaches its limit pauses the
-- account by itself.

alter table public.risk_limits
  add column paused_rule text check (paused_rule in ('daily_loss_limit', 'drawdown_limit'));
comment on column public.risk_limits.paused_rule is
  'Which limit paused it. One on a day''s loss lasts for that day (UTC), one on drawdown until resume_trading().';

-- One user's limit is computed with while signals of others are looked at, so none may be out of all bounds.
update public.risk_limits as own set
  max_position_size_usdt = trim_scale(round(least(own.max_position_size_usdt, 1e15), 18)),
  max_position_size_percent = trim_scale(round(least(own.max_position_size_percent, 1e15), 18)),
  min_position_size_usdt = trim_scale(round(least(own.min_position_size_usdt, 1e15), 18)),
  max_total_exposure_usdt = trim_scale(round(least(own.max_total_exposure_usdt, 1e15), 18)),
  daily_loss_limit_usdt = trim_scale(round(least(own.daily_loss_limit_usdt, 1e15), 18)),
  daily_loss_limit_percent = trim_scale(round(least(own.daily_loss_limit_percent, 1e15), 18)),
  max_drawdown_percent = trim_scale(round(least(own.max_drawdown_percent, 1e15), 18)),
  max_order_size_usdt = trim_scale(round(least(own.max_order_size_usdt, 1e15), 18)),
  max_price_deviation_percent = trim_scale(round(least(own.max_price_deviation_percent, 1e15), 18)),
  min_order_interval_seconds = trim_scale(round(least(own.min_order_interval_seconds, 1e9), 6)),
  max_stop_loss_percent = trim_scale(round(least(own.max_stop_loss_percent, 1e15), 18));
alter table public.risk_limits
  add constraint limits_in_bounds check (
    greatest(
      max_position_size_usdt, max_position_size_percent, min_position_size_usdt, max_total_exposure_usdt,
      daily_loss_limit_usdt, daily_loss_limit_percent, max_drawdown_percent, max_order_size_usdt,
      max_price_deviation_percent, max_stop_loss_percent
    ) <= 1e15
    and greatest(
      scale(max_position_size_usdt), scale(max_position_size_percent), scale(min_position_size_usdt),
      scale(max_total_exposure_usdt), scale(daily_loss_limit_usdt), scale(daily_loss_limit_percent),
      scale(max_drawdown_percent), scale(max_order_size_usdt), scale(max_price_deviation_percent),
      scale(max_stop_loss_percent)
    ) <= 18
  ),
  add constraint interval_in_bounds check (min_order_interval_seconds <= 1e9 and scale(min_order_interval_seconds) <= 6);

-- Whoever trades at an exchange keeps the limits that set_trader_mode asked for. Pauses and stops, which write none of
-- them, are never held up.
create function fillstream.keep_limits() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if auth.role() is not distinct from 'authenticated' and exists (
    select from public.traders as trader where trader.user_id = new.user_id and trader.mode <> 'paper'
  ) and (
    new.max_total_exposure_usdt is null
    or (new.max_position_size_usdt is null and new.max_position_size_percent is null)
    or (new.daily_loss_limit_usdt is null and new.daily_loss_limit_percent is null)
  ) then
    raise exception 'a trader of yours trades at an exchange: keep limits on position size, total exposure and daily loss'
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  return new;
end $$;
create trigger keep_limits before update of
  max_total_exposure_usdt, max_position_size_usdt, max_position_size_percent, daily_loss_limit_usdt,
  daily_loss_limit_percent
on public.risk_limits for each row when (new.trader_id is null) execute function fillstream.keep_limits();

create index positions_closed_idx on public.positions (user_id, exit_time) where status = 'closed';

create function fillstream.day_start() returns timestamptz language sql stable as $$
  select date_trunc('day', clock_timestamp() at time zone 'UTC') at time zone 'UTC'
$$;

-- What an account is worth in USDT, what it was at the start of the day, and how far it is below its peak in percent;
-- nulls where that is not known yet. Play money is known before its first mark.
create function fillstream.worth(
  p_user_id uuid, p_mode text, out current numeric, out day_start numeric, out drawdown numeric
) language plpgsql stable set search_path = '' as $$
declare
  known public.account_equity;
begin
  select equity.* into known from public.account_equity as equity
  where equity.user_id = p_user_id and equity.mode = p_mode;
  current := known.current;
  day_start := case
    when known.day = (clock_timestamp() at time zone 'UTC')::date then known.day_start else known.current
  end;
  if known.user_id is null and p_mode = 'paper' then
    select sum(balance.current_balance) into current from public.paper_balances as balance
    where balance.user_id = p_user_id;
    day_start := current;
  end if;
  drawdown := (known.peak - known.current) * 100 / nullif(known.peak, 0);
end $$;

-- How much a day may lose at most by these limits: the tighter of the two; null is no limit.
create function fillstream.loss_limit(p_limits public.risk_limits, p_mode text) returns numeric
language plpgsql stable set search_path = '' as $$
begin
  if p_limits.daily_loss_limit_percent is null then
    return p_limits.daily_loss_limit_usdt;
  end if;
  return least(
    p_limits.daily_loss_limit_usdt,
    (select worth.day_start from fillstream.worth(p_limits.user_id, p_mode) as worth)
      * p_limits.daily_loss_limit_percent / 100
  );
end $$;

-- What was lost today in one mode: realised by positions that ended today, and unrealised by those that are open. Null
-- where no limit asks for it; a gain is a loss below zero.
create function fillstream.loss_today(p_limits public.risk_limits, p_mode text) returns numeric
language plpgsql stable set search_path = '' as $$
begin
  if p_limits.daily_loss_limit_usdt is null and p_limits.daily_loss_limit_percent is null then
    return null;
  end if;
  return -coalesce((
    select sum(ended.realized_pnl) from public.positions as ended
    where ended.user_id = p_limits.user_id and ended.mode = p_mode and ended.status = 'closed'
      and ended.exit_time >= fillstream.day_start()
      and (p_limits.trader_id is null or ended.trader_id = p_limits.trader_id)
  ), 0) - coalesce((
    select sum(mark.unrealized_pnl) from public.positions as position
    join public.position_marks as mark on mark.position_id = position.id
    where position.user_id = p_limits.user_id and position.mode = p_mode
      and position.status in ('open', 'monitoring', 'closing')
      and (p_limits.trader_id is null or position.trader_id = p_limits.trader_id)
  ), 0);
end $$;

-- When the last entry was admitted; null where no limit asks for it.
create function fillstream.last_entry(p_limits public.risk_limits, p_mode text) returns timestamptz
language plpgsql stable set search_path = '' as $$
begin
  if p_limits.min_order_interval_seconds is null then
    return null;
  end if;
  return (
    select max(position.admitted_at) from public.positions as position
    where position.user_id = p_limits.user_id and position.mode = p_mode
      and (p_limits.trader_id is null or position.trader_id = p_limits.trader_id)
      and position.created_at > clock_timestamp() - p_limits.min_order_interval_seconds * interval '1 second'
        - interval '1 minute'
  );
end $$;

-- The first rule that speaks against a signal, or null. Positions in flight count like open ones, at what they may
-- cost at worst; positions of another mode do not count. Without a plan, what it would cost is not asked.
create or replace function fillstream.row_refusal(
  p_signal public.signals, p_trader public.traders, p_worker public.workers, p_plan jsonb
) returns fillstream.refusal language plpgsql stable set search_path = '' as $$
declare
  refusal fillstream.refusal;
  now constant timestamptz := clock_timestamp();
  age constant numeric := extract(epoch from now - p_signal.ready_at);
  worst_value constant numeric := p_plan ->> 'worst_value';
  cost constant numeric := (p_plan ->> 'worst_value')::numeric + (p_plan ->> 'fee_reserve')::numeric;
begin
  with scopes as (
    -- The limits of the account and of the trader, each with what already counts against it.
    select
      limits.trader_id is not null as of_trader, limits.trading_paused, limits.pause_reason, limits.paused_by,
      limits.paused_rule, limits.paused_at, limits.max_open_positions, limits.max_total_exposure_usdt,
      limits.one_position_per_symbol, limits.max_order_size_usdt, limits.max_position_size_usdt,
      limits.max_position_size_percent, limits.max_drawdown_percent, limits.min_order_interval_seconds,
      coalesce(worth.current, (p_plan ->> 'balance')::numeric) as equity, worth.drawdown,
      fillstream.loss_limit(limits, p_trader.mode) as loss_limit,
      fillstream.loss_today(limits, p_trader.mode) as loss,
      fillstream.last_entry(limits, p_trader.mode) as last_entry_at,
      held.positions, held.exposure, held.same_symbol
    from public.risk_limits as limits
    cross join lateral (
      select
        count(*) as positions,
        coalesce(bool_or(position.symbol = p_signal.symbol), false) as same_symbol,
        coalesce(sum(
          coalesce(position.entry_value, 0)
          + coalesce(entry.worst_value * (entry.quantity - entry.filled_quantity) / entry.quantity, 0)
        ), 0) as exposure
      from public.positions as position
      left join public.orders as entry
        on entry.position_id = position.id and entry.purpose = 'entry' and (
          entry.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
          -- Cancelled, and not for good yet: a fill that came before it may still be told.
          or (entry.status in ('cancelled', 'expired') and position.status = 'submitting')
        )
      where position.user_id = p_signal.user_id and position.mode = p_trader.mode
        and position.status in ('created', 'submitting', 'open', 'monitoring', 'closing')
        and (limits.trader_id is null or position.trader_id = limits.trader_id)
    ) as held
    cross join fillstream.worth(p_signal.user_id, p_trader.mode) as worth
    where limits.user_id = p_signal.user_id and (limits.trader_id is null or limits.trader_id = p_trader.id)
  ),
  rules (place, broken, code, reason, rule_value, limit_value) as (
    select
      10, p_trader.user_id <> p_signal.user_id, 'trader_not_owned',
      'The signal names a trader of another user.', null, null
    union all
    select
      20, not p_trader.enabled, 'trader_disabled',
      format('The trader %s is switched off.', p_trader.name), null, null
    union all
    select
      30, p_trader.mode <> all (p_worker.modes), 'mode_not_allowed',
      format('The trader is in %s mode, which this worker does not trade in (it does in %s).',
        p_trader.mode, array_to_string(p_worker.modes, ', ')),
      p_trader.mode, array_to_string(p_worker.modes, ', ')
    union all
    -- Keys taken back count from this moment on, whatever a worker still holds of them.
    select
      35, p_trader.mode <> 'paper' and not exists (
        select from public.exchange_credentials as credential
        where credential.user_id = p_signal.user_id and credential.exchange = p_trader.exchange
          and credential.mode = p_trader.mode
      ), 'keys_missing',
      format('Store your exchange keys for %s first.', p_trader.mode), null, null
    union all
    select
      40, p_signal.expires_at <= now, 'signal_expired',
      format('The signal expired at %s.', fillstream.in_words(p_signal.expires_at)),
      fillstream.in_words(now), fillstream.in_words(p_signal.expires_at)
    union all
    select
      50, age > p_worker.max_signal_age_seconds, 'signal_expired',
      format('The signal was %s s old, above the limit of %s s.',
        round(age, 1), fillstream.digits(p_worker.max_signal_age_seconds)),
      round(age, 1)::text, fillstream.digits(p_worker.max_signal_age_seconds)
    union all
    select
      60, state.stopped, 'trading_paused',
      concat('Trading is stopped for everybody', ': ' || nullif(state.stop_reason, ''), '.'), 'operator', null
    from public.system_state as state
    union all
    select
      70, scope.trading_paused and (scope.paused_rule is null or scope.paused_by <> 'limit'), 'trading_paused',
      concat(
        case when scope.of_trader then 'Trading of this trader is paused' else 'Trading is paused' end,
        ' by the ' || scope.paused_by, ': ' || nullif(scope.pause_reason, ''), '.'
      ),
      scope.paused_by, null
    from scopes as scope
    union all
    -- What an account has lost speaks before what it holds; a pause by that limit lasts as long as it may.
    select
      75, scope.loss >= scope.loss_limit
        or (scope.paused_rule = 'daily_loss_limit' and scope.paused_at >= fillstream.day_start()),
      'daily_loss_limit',
      case
        when scope.loss >= scope.loss_limit then format('%s USDT were lost today%s; the limit is %s USDT.',
          fillstream.digits(scope.loss), case when scope.of_trader then ' by this trader' end,
          fillstream.digits(scope.loss_limit))
        else concat('Trading is paused for today: ', scope.pause_reason)
      end,
      fillstream.digits(scope.loss), fillstream.digits(scope.loss_limit)
    from scopes as scope
    union all
    select
      76, scope.drawdown >= scope.max_drawdown_percent
        or scope.paused_rule = 'drawdown_limit',
      'drawdown_limit',
      case
        when scope.drawdown >= scope.max_drawdown_percent
        then format('The account is %s %% below its peak; the limit%s is %s %%.',
          fillstream.digits(round(scope.drawdown, 4)), case when scope.of_trader then ' of this trader' end,
          fillstream.digits(scope.max_drawdown_percent))
        else concat('Trading is paused until it is resumed: ', scope.pause_reason)
      end,
      fillstream.digits(round(scope.drawdown, 4)), fillstream.digits(scope.max_drawdown_percent)
    from scopes as scope
    union all
    select
      80, scope.one_position_per_symbol and scope.same_symbol, 'duplicate_position',
      format('There is a position in %s already, and the limits%s allow one per symbol.',
        p_signal.symbol, case when scope.of_trader then ' of this trader' end),
      p_signal.symbol, '1'
    from scopes as scope
    union all
    select
      90, scope.positions >= scope.max_open_positions, 'max_open_positions',
      format('%s positions are open or being opened%s; the limit is %s.',
        scope.positions, case when scope.of_trader then ' by this trader' end, scope.max_open_positions),
      scope.positions::text, scope.max_open_positions::text
    from scopes as scope
    union all
    select
      92, extract(epoch from now - scope.last_entry_at) < scope.min_order_interval_seconds, 'order_interval',
      format('The last entry%s was %s s ago; the limit is one in %s s.',
        case when scope.of_trader then ' of this trader' end,
        round(extract(epoch from now - scope.last_entry_at), 1), fillstream.digits(scope.min_order_interval_seconds)),
      round(extract(epoch from now - scope.last_entry_at), 1)::text, fillstream.digits(scope.min_order_interval_seconds)
    from scopes as scope
    union all
    select
      94, worst_value > most.value, 'position_too_large',
      format('The entry may cost %s USDT; the limit%s is %s USDT%s.',
        fillstream.digits(worst_value), case when scope.of_trader then ' of this trader' end,
        fillstream.digits(most.value), most.meaning),
      fillstream.digits(worst_value), fillstream.digits(most.value)
    from scopes as scope
    cross join lateral (
      values
        (scope.max_position_size_usdt, ' a position'),
        (scope.equity * scope.max_position_size_percent / 100,
          format(', %s %% of the account', fillstream.digits(scope.max_position_size_percent))),
        (scope.max_order_size_usdt, ' an order')
    ) as most (value, meaning)
    union all
    select
      100, case when worst_value is null
        then scope.exposure >= scope.max_total_exposure_usdt
        else scope.exposure + worst_value > scope.max_total_exposure_usdt
      end, 'exposure_limit',
      case when worst_value is null
        then format('The exposure%s is %s USDT; the limit is %s USDT.',
          case when scope.of_trader then ' of this trader' end,
          fillstream.digits(scope.exposure), fillstream.digits(scope.max_total_exposure_usdt))
        else format(
          'The exposure%s would be %s USDT (%s USDT now, %s USDT at worst for this entry); the limit is %s USDT.',
          case when scope.of_trader then ' of this trader' end,
          fillstream.digits(scope.exposure + worst_value), fillstream.digits(scope.exposure),
          fillstream.digits(worst_value), fillstream.digits(scope.max_total_exposure_usdt))
      end,
      fillstream.digits(scope.exposure + coalesce(worst_value, 0)), fillstream.digits(scope.max_total_exposure_usdt)
    from scopes as scope
    union all
    select
      110, cost > coalesce(balance.current_balance - balance.reserved, 0), 'insufficient_balance',
      format('The entry may cost %s USDT with its fee; the paper balance has %s USDT free.',
        fillstream.digits(cost), fillstream.digits(coalesce(balance.current_balance - balance.reserved, 0))),
      fillstream.digits(cost), fillstream.digits(coalesce(balance.current_balance - balance.reserved, 0))
    from (select) as always
    left join lateral fillstream.paper_balance(p_signal.user_id, p_trader.id) as balance on true
    where cost is not null and p_trader.mode = 'paper'
  )
  select p_signal.id, rule.code, rule.reason, rule.rule_value, rule.limit_value into refusal
  from rules as rule where rule.broken order by rule.place, rule.reason limit 1;
  return refusal;
end $$;

-- Each row passes through created, so that subscribers and position_events see every state.
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

  -- What an account is worth is known from its first entry on: limits in percent and drawdown are held against it.
  insert into public.account_equity (user_id, mode, day, day_start, peak, current)
  select p_signal.user_id, p_trader.mode, (clock_timestamp() at time zone 'UTC')::date, had.all, had.all, had.all
  from (
    select case
      when p_trader.mode <> 'paper' then (p_plan ->> 'balance')::numeric
      else (select sum(own.current_balance) from public.paper_balances as own where own.user_id = p_signal.user_id)
    end as all
  ) as had
  where had.all is not null
  on conflict (user_id, mode) do nothing;

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

revoke execute on all functions in schema fillstream from public;
