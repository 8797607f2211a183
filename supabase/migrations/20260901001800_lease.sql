-- A worker knows from its registration on how far its lease reaches: what it signs, cancels too, must end within it.

create or replace function public.worker_register(
  p_worker_id uuid,
  p_modes text[],
  p_lease_seconds numeric,
  p_max_signal_age_seconds numeric,
  p_name text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  worker public.workers;
begin
  insert into public.workers (id, modes, lease_seconds, max_signal_age_seconds, name)
  values (p_worker_id, p_modes, p_lease_seconds, p_max_signal_age_seconds, p_name)
  on conflict (id) do nothing;
  -- The id of a dead worker is dead too.
  worker := fillstream.live_worker(p_worker_id);
  return jsonb_build_object(
    'now_ms', fillstream.epoch_ms(clock_timestamp()), 'heartbeat_ms', fillstream.epoch_ms(worker.heartbeat_at)
  );
end $$;
