-- What the exchange says of a user's keys, on the row that their owner sees.

create function public.note_keys(
  p_worker_id uuid, p_user_id uuid, p_mode text, p_version bigint, p_error text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  changed boolean;
begin
  perform fillstream.live_worker(p_worker_id);
  if not exists (
    select from public.accounts as account
    where account.user_id = p_user_id and account.mode = p_mode and account.worker_id = p_worker_id
  ) then
    raise exception using
      errcode = 'FSD02',
      message = format('the account of user %s in %s mode is not held by worker %s', p_user_id, p_mode, p_worker_id),
      hint = 'Another worker has the work: drop it.';
  end if;
  -- Of keys that were stored meanwhile, this says nothing.
  update public.exchange_accounts as known set error = left(p_error, 1000)
  where known.user_id = p_user_id and known.exchange = 'binance' and known.mode = p_mode and known.is_active
    and known.credential_version = p_version and known.error is distinct from left(p_error, 1000);
  changed := found;
  return jsonb_build_object('changed', changed);
end $$;
comment on function public.note_keys is
  'Shows the owner that the exchange refuses their keys of this version, or with null that it takes them.';

revoke execute on function public.note_keys from public, anon, authenticated;
grant execute on function public.note_keys to service_role;
