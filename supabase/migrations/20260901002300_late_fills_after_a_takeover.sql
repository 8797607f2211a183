-- Who takes an account over looks once more at entries that were cut short not long ago: the fill that came before the
-- cancel may have been told while nobody listened. Those without any fill are unfinished in any case.

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
    or (
      p_accounts is not null and working.status = 'cancelled' and working.mode <> 'paper'
      and position.status in ('open', 'monitoring', 'closing')
      and working.updated_at > clock_timestamp() - interval '1 hour'
    )
  );
  return jsonb_build_object('orders', coalesce(found, '[]'));
end $$;
comment on function public.unfinished_orders is
  'Entries of accounts held that have not ended for good, oldest first, each with its position and the signal behind it; '
  'of accounts named, as at a takeover, also those that were cut short in the last hour.';
