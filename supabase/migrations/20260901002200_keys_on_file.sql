-- Nobody trades at an exchange without keys of that mode on file.

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
