-- What rows alone can decide of a signal, in one place: asked when a signal is claimed, again when it is prepared,
-- and at admission, there under locks and with the plan.

create type fillstream.refusal as (
  signal_id uuid,
  code text,
  reason text,
  rule_value text,
  limit_value text
);

create function fillstream.digits(p_amount numeric) returns text language sql immutable as $$
  select trim_scale(p_amount)::text
$$;

create function fillstream.in_words(p_at timestamptz) returns text language sql immutable as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
$$;

-- The first rule that speaks against a signal, or null. Positions in flight count like open ones, at what they may
-- cost at worst; positions of another mode do not count. Without a plan, what it would cost is not asked.
create function fillstream.row_refusal(
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
      limits.max_open_positions, limits.max_total_exposure_usdt, limits.one_position_per_symbol,
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
        on entry.position_id = position.id and entry.purpose = 'entry'
        and entry.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
      where position.user_id = p_signal.user_id and position.mode = p_trader.mode
        and position.status in ('created', 'submitting', 'open', 'monitoring', 'closing')
        and (limits.trader_id is null or position.trader_id = limits.trader_id)
    ) as held
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
      70, scope.trading_paused, 'trading_paused',
      concat(
        case when scope.of_trader then 'Trading of this trader is paused' else 'Trading is paused' end,
        ' by the ' || scope.paused_by, ': ' || nullif(scope.pause_reason, ''), '.'
      ),
      scope.paused_by, null
    from scopes as scope
    union all
    -- Daily loss and drawdown belong here: what an account has lost speaks before what it holds.
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
    -- The order interval belongs here, then the largest position and the largest order.
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
  from rules as rule where rule.broken order by rule.place limit 1;
  return refusal;
end $$;

-- The balance a trader's paper entries come from: their own where there is one, else the account's.
create function fillstream.paper_balance(p_user_id uuid, p_trader_id uuid) returns setof public.paper_balances
language sql stable rows 1 as $$
  select balance.* from public.paper_balances as balance
  where balance.user_id = p_user_id and (balance.trader_id = p_trader_id or balance.trader_id is null)
  order by balance.trader_id nulls last
  limit 1
$$;

-- The one place where a refusal is written; gives the signals that were ready and are refused now. A signal that
-- somebody else is changing this very moment is left to the next look.
create function fillstream.refuse(p_refusals fillstream.refusal[]) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  written uuid[];
begin
  with asked as (
    select refusal.* from unnest(p_refusals) as refusal
  ),
  locked as (
    select signal.id from public.signals as signal
    join asked on asked.signal_id = signal.id
    where signal.status = 'ready'
    order by signal.id
    for update of signal skip locked
  ),
  refused as (
    update public.signals as signal set
      status = case when asked.code = 'signal_expired' then 'expired' else 'rejected' end,
      refusal_code = asked.code,
      refusal_reason = asked.reason,
      closed_at = clock_timestamp()
    from asked, locked
    where signal.id = locked.id and asked.signal_id = locked.id
    returning signal.id, signal.user_id
  ),
  noted as (
    insert into public.risk_refusals (signal_id, user_id, code, rule_value, limit_value)
    select refused.id, refused.user_id, asked.code, asked.rule_value, asked.limit_value
    from refused join asked on asked.signal_id = refused.id
    returning signal_id
  )
  select array_agg(noted.signal_id) into written from noted;
  return written;
end $$;

-- Refuses, of the given ready signals, those that rows speak against; gives the others in their order.
create function fillstream.sift(p_worker public.workers, p_signal_ids uuid[]) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  kept uuid[];
  refusals fillstream.refusal[];
begin
  select
    array_agg(judged.id order by judged.ready_at, judged.seq) filter (where (judged.refusal).code is null),
    array_agg(judged.refusal) filter (where (judged.refusal).code is not null)
  into kept, refusals
  from (
    select signal.id, signal.ready_at, signal.seq, fillstream.row_refusal(signal, trader, p_worker, null) as refusal
    from public.signals as signal
    join public.traders as trader on trader.id = signal.trader_id
    where signal.id = any (p_signal_ids) and signal.status = 'ready' and signal.decision = 'enter_trade'
    offset 0 -- keeps each signal judged once
  ) as judged;
  if refusals is not null then
    perform fillstream.refuse(refusals);
  end if;
  return kept;
end $$;

revoke execute on all functions in schema fillstream from public;
