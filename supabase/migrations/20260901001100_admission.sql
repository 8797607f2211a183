-- Admission: the one way from a signal to a position. One call takes the ready signal, writes position and entry
-- order, reserves what it may cost and stamps the request; or writes why not.

-- Locks, each in a statement of its own so that what is read later was committed by then. In the order that holds
-- everywhere: system_state, workers, accounts, limits, signal, position, order, balance.
create function fillstream.lock_for_admission(
  p_user_id uuid, p_trader_id uuid, p_mode text, p_signal_id uuid
) returns void language plpgsql set search_path = '' as $$
begin
  perform from public.accounts as account where account.user_id = p_user_id and account.mode = p_mode for update;
  perform from public.risk_limits as limits
  where limits.user_id = p_user_id and (limits.trader_id is null or limits.trader_id = p_trader_id)
  order by limits.id for share;
  perform from public.signals as signal where signal.id = p_signal_id for update;
  if p_mode = 'paper' then
    perform from public.paper_balances as balance
    where balance.id = (select own.id from fillstream.paper_balance(p_user_id, p_trader_id) as own) for update;
  end if;
end $$;

create function public.admit_signal(p_worker_id uuid, p_signal_id uuid, p_attempt_id uuid, p_plan jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  worker public.workers;
  signal public.signals;
  trader public.traders;
  refusal fillstream.refusal;
  answer jsonb;
  is_held boolean;
  is_stale boolean;
  locked_mode text;
  recv_window_ms constant integer := p_plan ->> 'recv_window_ms';
  signed_at timestamptz;
  credential_version bigint;
begin
  perform from public.system_state as state for share;
  worker := fillstream.live_worker(p_worker_id);
  -- Read to know what to lock; read again below, under the locks.
  select candidate.* into signal from public.signals as candidate where candidate.id = p_signal_id;
  select candidate.* into trader from public.traders as candidate where candidate.id = signal.trader_id;
  locked_mode := trader.mode;
  perform fillstream.lock_for_admission(signal.user_id, trader.id, locked_mode, p_signal_id);

  select earlier.answer into answer from fillstream.admissions as earlier
  where earlier.worker_id = p_worker_id and earlier.attempt_id = p_attempt_id;
  if answer is not null then
    return answer;
  end if;

  select exists (
    select from public.accounts as account
    where account.user_id = signal.user_id and account.mode = locked_mode and account.worker_id = p_worker_id
  ) into is_held;
  select candidate.* into signal from public.signals as candidate where candidate.id = p_signal_id;
  if not is_held or signal.status is distinct from 'ready' or signal.decision <> 'enter_trade' then
    return jsonb_build_object('outcome', 'taken');
  end if;

  select candidate.* into trader from public.traders as candidate where candidate.id = signal.trader_id;
  is_stale := fillstream.version(signal, trader) is distinct from p_plan ->> 'trader_version'
    or trader.mode is distinct from p_plan ->> 'mode'
    or trader.mode is distinct from locked_mode
    or signal.symbol is distinct from p_plan ->> 'symbol'
    or signal.side is distinct from p_plan ->> 'side';
  -- A stale plan cannot speak against its signal; what needs no plan still can.
  refusal := fillstream.row_refusal(signal, trader, worker, case when not is_stale then p_plan end);
  if refusal.code is not null then
    perform fillstream.refuse(array[refusal]);
    answer := jsonb_build_object('outcome', 'refused', 'code', refusal.code, 'reason', refusal.reason);
    insert into fillstream.admissions (worker_id, attempt_id, signal_id, answer)
    values (p_worker_id, p_attempt_id, p_signal_id, answer);
    return answer;
  end if;
  if is_stale then
    return jsonb_build_object('outcome', 'stale');
  end if;

  select credential.version into credential_version from public.exchange_credentials as credential
  where credential.user_id = signal.user_id and credential.exchange = trader.exchange and credential.mode = trader.mode;

  -- Taken after every lock: the request is good for recv_window from here, which must end within the lease.
  signed_at := date_trunc('milliseconds', clock_timestamp());
  select candidate.* into worker from public.workers as candidate where candidate.id = p_worker_id;
  if signed_at > worker.heartbeat_at + fillstream.lease(worker) - recv_window_ms * interval '1 millisecond' then
    return jsonb_build_object('outcome', 'late');
  end if;
  signed_at := signed_at + (p_plan ->> 'venue_offset_ms')::bigint * interval '1 millisecond';

  perform fillstream.write_entry(signal, trader, p_plan, signed_at);
  answer := jsonb_build_object(
    'outcome', 'admitted',
    'position_id', p_plan ->> 'position_id',
    'order_id', p_plan ->> 'order_id',
    'client_order_id', p_plan ->> 'client_order_id',
    'signed_at_ms', fillstream.epoch_ms(signed_at),
    'signed_at', signed_at,
    'credential_version', credential_version
  );
  insert into fillstream.admissions (worker_id, attempt_id, signal_id, answer)
  values (p_worker_id, p_attempt_id, p_signal_id, answer);
  return answer;
end $$;
comment on function public.admit_signal is
  'Turns a ready signal of an account held into a position and an entry order at submitting, which the caller may '
  'send once. Answers admitted, refused, taken, stale (prepare again) or late (heartbeat first); again with the same '
  'attempt, the first answer.';

-- Each row passes through created, so that subscribers and position_events see every state.
create function fillstream.write_entry(
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
    take_profit_percent, max_loss_usdt, woken_at, admitted_at
  ) values (
    new_position_id, p_signal.user_id, p_trader.id, p_signal.id, p_signal.symbol, p_signal.side, p_trader.mode,
    (p_plan ->> 'stop_loss_price')::numeric, (p_plan ->> 'stop_loss_percent')::numeric,
    (p_plan ->> 'take_profit_price')::numeric, (p_plan ->> 'take_profit_percent')::numeric,
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
revoke execute on function public.admit_signal from public, anon, authenticated;
grant execute on function public.admit_signal to service_role;
