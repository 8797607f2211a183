-- Which signals a worker gets, and what it is told of them.

-- Every number in an object as text: money crosses the wire as it stands in its row.
create function fillstream.numbers_as_text(p_object jsonb) returns jsonb language sql immutable as $$
  select jsonb_object_agg(
    field.key,
    case jsonb_typeof(field.value) when 'number' then to_jsonb(field.value #>> '{}') else field.value end
  )
  from jsonb_each(p_object) as field
$$;

-- Changes when the trader or the signal does; a plan made from another version is stale.
create function fillstream.version(p_signal public.signals, p_trader public.traders) returns text
language sql immutable as $$
  select concat_ws('/', extract(epoch from p_trader.updated_at)::text, extract(epoch from p_signal.updated_at)::text)
$$;

-- All that is needed to prepare each signal, in the order given.
create function fillstream.briefs(p_signal_ids uuid[]) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  briefs jsonb;
begin
  select jsonb_agg(
    jsonb_build_object(
      'id', signal.id, 'seq', signal.seq, 'user_id', signal.user_id, 'trader_id', signal.trader_id,
      'symbol', signal.symbol, 'side', signal.side, 'order_type', signal.order_type,
      'price', signal.price::text, 'limit_price', signal.limit_price::text,
      'stop_loss', signal.stop_loss::text, 'take_profit', signal.take_profit::text,
      'confidence', signal.confidence::text,
      'expires_at', signal.expires_at, 'ready_at', signal.ready_at,
      'mode', trader.mode,
      'trader_version', fillstream.version(signal, trader),
      'risk_config', trader.risk_config::text,
      'limits', jsonb_build_object(
        'account', fillstream.numbers_as_text(to_jsonb(of_account)),
        'trader', fillstream.numbers_as_text(to_jsonb(of_trader))
      ),
      'paper', case when balance.id is not null then jsonb_build_object(
        'current', balance.current_balance::text,
        'available', (balance.current_balance - balance.reserved)::text
      ) end,
      'equity', equity.current::text,
      'claimed_at', clock_timestamp()
    ) order by wanted.place
  ) into briefs
  from unnest(p_signal_ids) with ordinality as wanted (id, place)
  join public.signals as signal on signal.id = wanted.id
  join public.traders as trader on trader.id = signal.trader_id
  left join public.risk_limits as of_account
    on of_account.user_id = signal.user_id and of_account.trader_id is null
  left join public.risk_limits as of_trader
    on of_trader.user_id = signal.user_id and of_trader.trader_id = signal.trader_id
  left join public.account_equity as equity on equity.user_id = signal.user_id and equity.mode = trader.mode
  left join lateral fillstream.paper_balance(signal.user_id, signal.trader_id) as balance on true;
  return coalesce(briefs, '[]');
end $$;

-- Who of a mode has ready signals.
create function fillstream.users_with_signals(p_mode text) returns setof uuid language sql stable set search_path = '' as $$
  select distinct signal.user_id
  from public.signals as signal
  join public.traders as trader on trader.id = signal.trader_id
  where signal.status = 'ready' and signal.decision = 'enter_trade' and trader.mode = p_mode
$$;

-- How many accounts with ready signals a worker may take now: its share of all there are, plus one, less those it
-- holds. Null, so no bound, where it is the only worker of the mode. Without this, whoever holds fewest accounts gets
-- every account of a burst and the others none.
create function fillstream.room_for_signals(p_worker_id uuid, p_mode text) returns integer
language sql stable set search_path = '' as $$
  select case when live.workers > 1 then ceil(waiting.accounts::numeric / live.workers)::integer + 1 - waiting.held end
  from (
    select count(*) as workers from public.workers as worker
    where worker.dead_at is null and p_mode = any (worker.modes)
  ) as live
  cross join (
    select count(*) as accounts, count(*) filter (where account.worker_id = p_worker_id)::integer as held
    from fillstream.users_with_signals(p_mode) as waiting (user_id)
    join public.accounts as account on account.user_id = waiting.user_id and account.mode = p_mode
  ) as waiting
$$;

-- Takes free accounts for a worker, up to its share: those of the given signals, or with null any that need work.
create function fillstream.take_accounts(p_worker public.workers, p_signal_ids uuid[]) returns jsonb
language plpgsql set search_path = '' as $$
declare
  wanted_mode text;
  wanted uuid[];
  room integer;
  room_for_signals integer;
  fresh jsonb;
  taken jsonb := '[]';
begin
  perform fillstream.declare_lapsed(p_worker.id);
  foreach wanted_mode in array p_worker.modes loop
    if p_signal_ids is null then
      select array_agg(work.user_id order by work.since) into wanted
      from fillstream.users_with_work(wanted_mode) as work
      join public.accounts as account on account.user_id = work.user_id and account.mode = wanted_mode
      where account.worker_id is null;
    else
      select array_agg(free.user_id order by free.since) into wanted from (
        select signal.user_id, min(signal.ready_at) as since
        from public.signals as signal
        join public.traders as trader on trader.id = signal.trader_id
        join public.accounts as account on account.user_id = signal.user_id and account.mode = trader.mode
        where signal.id = any (p_signal_ids) and signal.status = 'ready' and signal.decision = 'enter_trade'
          and trader.mode = wanted_mode and account.worker_id is null
        group by signal.user_id
      ) as free;
    end if;
    continue when wanted is null;
    room := fillstream.most_accounts(wanted_mode) - (
      select count(*) from public.accounts as account
      where account.worker_id = p_worker.id and account.mode = wanted_mode
    );
    continue when room <= 0;
    room_for_signals := least(room, fillstream.room_for_signals(p_worker.id, wanted_mode));
    if room_for_signals < 0 then
      room_for_signals := 0;
    end if;
    with candidates as (
      select candidate.user_id, candidate.place, waiting.user_id is not null as waits
      from unnest(wanted) with ordinality as candidate (user_id, place)
      left join fillstream.users_with_signals(wanted_mode) as waiting (user_id) on waiting.user_id = candidate.user_id
    ),
    with_signals as (
      select account.user_id
      from candidates as candidate
      join public.accounts as account on account.user_id = candidate.user_id and account.mode = wanted_mode
      where candidate.waits and account.worker_id is null
      order by candidate.place
      limit room_for_signals -- null: the only worker of the mode takes all
      for update of account skip locked
    ),
    others as (
      select account.user_id
      from candidates as candidate
      join public.accounts as account on account.user_id = candidate.user_id and account.mode = wanted_mode
      where not candidate.waits and account.worker_id is null
      order by candidate.place
      limit room - (select count(*) from with_signals)
      for update of account skip locked
    ),
    picked as (
      select with_signals.user_id from with_signals union all select others.user_id from others
    ),
    took as (
      update public.accounts as account set worker_id = p_worker.id, taken_at = clock_timestamp()
      from picked where account.user_id = picked.user_id and account.mode = wanted_mode
      returning account.user_id, account.mode
    )
    select coalesce(jsonb_agg(jsonb_build_object('user_id', took.user_id, 'mode', took.mode)), '[]') into fresh
    from took;
    taken := taken || fresh;
  end loop;
  return taken;
end $$;

-- Signals in a mode that no live worker trades in are answered by whoever comes by.
create function fillstream.refuse_unserved() returns void language plpgsql set search_path = '' as $$
declare
  refusals fillstream.refusal[];
begin
  select array_agg(row(
    signal.id, 'mode_not_allowed', format('The trader is in %s mode, which no running worker trades in.', trader.mode),
    trader.mode, null
  )::fillstream.refusal) into refusals
  from public.signals as signal
  join public.traders as trader on trader.id = signal.trader_id
  where signal.status = 'ready' and signal.decision = 'enter_trade'
    and not exists (
      select from public.workers as worker where worker.dead_at is null and trader.mode = any (worker.modes)
    );
  if refusals is not null then
    perform fillstream.refuse(refusals);
  end if;
end $$;

-- The lines of ready signals of the accounts a worker holds, oldest first: of each account its first few, so that a
-- long line keeps no other one waiting; with ids, of the accounts of these signals only.
create function fillstream.lines(p_worker_id uuid, p_signal_ids uuid[], p_line integer, p_limit integer)
returns table (ids uuid[], more boolean) language sql stable as $$
  with held as (
    select account.user_id, account.mode from public.accounts as account
    where account.worker_id = p_worker_id
      and (
        p_signal_ids is null
        or exists (
          select from public.signals as named
          join public.traders as trader on trader.id = named.trader_id
          where named.id = any (p_signal_ids) and named.user_id = account.user_id and trader.mode = account.mode
        )
      )
  ),
  standing as (
    select line.*, row_number() over (order by line.ready_at, line.seq) as place
    from held
    cross join lateral (
      select signal.id, signal.ready_at, signal.seq,
        row_number() over (order by signal.ready_at, signal.seq) as place_in_line
      from public.signals as signal
      join public.traders as trader on trader.id = signal.trader_id
      where signal.user_id = held.user_id and trader.mode = held.mode
        and signal.status = 'ready' and signal.decision = 'enter_trade'
      order by signal.ready_at, signal.seq
      limit p_line + 1
    ) as line
  )
  select
    array_agg(standing.id order by standing.place)
      filter (where standing.place <= p_limit and standing.place_in_line <= p_line),
    coalesce(bool_or(standing.place > p_limit or standing.place_in_line > p_line), false)
  from standing
$$;

create function public.claim_signals(
  p_worker_id uuid, p_signal_ids uuid[] default null, p_limit integer default 400, p_line integer default 20
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  worker constant public.workers := fillstream.live_worker(p_worker_id);
  taken constant jsonb := fillstream.take_accounts(worker, p_signal_ids);
  most_looks constant integer := 50;
  ready uuid[];
  kept uuid[];
  more boolean;
begin
  if p_signal_ids is null then
    perform fillstream.refuse_unserved();
  end if;
  -- Whoever is refused leaves the line, and the next ones step up at once: no good signal waits behind bad ones.
  for look in 1..most_looks loop
    select lines.ids, lines.more into ready, more
    from fillstream.lines(p_worker_id, p_signal_ids, p_line, p_limit) as lines;
    kept := fillstream.sift(worker, ready);
    exit when not more or cardinality(kept) = cardinality(ready);
  end loop;
  return jsonb_build_object(
    'taken', taken,
    'signals', fillstream.briefs(kept),
    'more', more,
    -- A commit is announced a moment before it shows to other sessions: these are to be asked for again.
    'unseen', coalesce((
      select jsonb_agg(announced.id) from unnest(p_signal_ids) as announced (id)
      where not exists (
        select from public.signals as signal where signal.id = announced.id and signal.ready_at is not null
      )
    ), '[]')
  );
end $$;
comment on function public.claim_signals is
  'Takes free accounts that need work and gives the first ready signals of each account held, oldest first; with ids, '
  'of the accounts of these signals only. Signals that rows speak against are refused at once and not given.';

-- Whether a signal is ready and of an account that the worker holds.
create function fillstream.is_ready_for(p_worker_id uuid, p_signal_id uuid) returns boolean
language plpgsql stable set search_path = '' as $$
begin
  return exists (
    select from public.signals as signal
    join public.traders as trader on trader.id = signal.trader_id
    join public.accounts as account on account.user_id = signal.user_id and account.mode = trader.mode
    where signal.id = p_signal_id and signal.status = 'ready' and signal.decision = 'enter_trade'
      and account.worker_id = p_worker_id
  );
end $$;

create function public.signal_brief(p_worker_id uuid, p_signal_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  worker constant public.workers := fillstream.live_worker(p_worker_id);
begin
  if not fillstream.is_ready_for(p_worker_id, p_signal_id) then
    return jsonb_build_object('signal', null);
  end if;
  return jsonb_build_object('signal', fillstream.briefs(fillstream.sift(worker, array[p_signal_id])) -> 0);
end $$;
comment on function public.signal_brief is
  'One ready signal as it stands now; null when it is not this worker''s to trade any more.';

create function public.refuse_signal(
  p_worker_id uuid,
  p_signal_id uuid,
  p_code text,
  p_reason text,
  p_rule_value text default null,
  p_limit_value text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  perform fillstream.live_worker(p_worker_id);
  perform from public.signals as signal where signal.id = p_signal_id for update;
  if not fillstream.is_ready_for(p_worker_id, p_signal_id) then
    return jsonb_build_object('outcome', 'taken');
  end if;
  perform fillstream.refuse(array[
    row(p_signal_id, p_code, p_reason, p_rule_value, p_limit_value)::fillstream.refusal
  ]);
  return jsonb_build_object('outcome', 'refused');
end $$;
comment on function public.refuse_signal is 'Answers a ready signal with a code of the closed list and a sentence.';

create function public.record_failed_try(p_worker_id uuid, p_signal_id uuid, p_detail text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  most_tries constant integer := 3;
  so_far integer;
begin
  perform fillstream.live_worker(p_worker_id);
  perform from public.signals as signal where signal.id = p_signal_id for update;
  if not fillstream.is_ready_for(p_worker_id, p_signal_id) then
    return jsonb_build_object('tries', 0, 'outcome', 'taken');
  end if;
  insert into fillstream.tries as earlier (signal_id, detail) values (p_signal_id, left(p_detail, 2000))
  on conflict (signal_id) do update
    set tries = earlier.tries + 1, detail = excluded.detail, at = clock_timestamp()
  returning earlier.tries into so_far;
  if so_far < most_tries then
    return jsonb_build_object('tries', so_far, 'outcome', 'ready');
  end if;
  perform fillstream.refuse(array[row(
    p_signal_id, 'internal_error',
    format('The signal could not be carried out in %s tries; the operator''s log says why.', so_far),
    so_far::text, most_tries::text
  )::fillstream.refusal]);
  return jsonb_build_object('tries', so_far, 'outcome', 'refused');
end $$;
comment on function public.record_failed_try is 'Counts a try that failed by no rule; the third refuses the signal.';

revoke execute on all functions in schema fillstream from public;
revoke execute on function
  public.claim_signals, public.signal_brief, public.refuse_signal, public.record_failed_try
from public, anon, authenticated;
grant execute on function
  public.claim_signals, public.signal_brief, public.refuse_signal, public.record_failed_try
to service_role;
