-- Users' exchange keys: stored, read, revoked and encrypted anew for the Edge Functions. Only ciphertexts come here.

alter table public.system_state
  add column key_reads_per_minute integer not null default 120 check (key_reads_per_minute > 0);
comment on column public.system_state.key_reads_per_minute is
  'How often the keys of one user may be read in a minute; a worker asks for them about once.';

alter table public.exchange_accounts add column credential_version bigint not null default 0;
comment on column public.exchange_accounts.credential_version is
  'Version of the keys stored last. It outlives a revocation, so that no keys ever bear the number of older ones.';

comment on column public.key_access_log.outcome is
  'decrypted | missing | unreadable (changed, moved, or made otherwise) | rate_limited | reencrypted; '
  'begun: the function read the row and never said what came of it.';

-- The same keys under another data key are no news to whoever holds them.
create or replace function fillstream.renew_credential() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.version := greatest(
    new.version, old.version + case when new.key_version is distinct from old.key_version then 0 else 1 end
  );
  new.updated_at := clock_timestamp();
  return new;
end $$;

create function public.store_credentials(
  p_user_id uuid, p_exchange text, p_mode text, p_label text, p_api_key_ciphertext text, p_secret_ciphertext text,
  p_key_version integer, p_permissions jsonb
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  stored_version bigint;
begin
  insert into public.exchange_accounts as known (user_id, exchange, mode, label, permissions, credential_version)
  values (p_user_id, p_exchange, p_mode, p_label, p_permissions, 1)
  on conflict (user_id, exchange, mode) do update set
    label = excluded.label, permissions = excluded.permissions, is_active = true, error = null, last_used_at = null,
    credential_version = known.credential_version + 1
  returning known.credential_version into stored_version;

  insert into public.exchange_credentials as known
    (user_id, exchange, mode, api_key_ciphertext, secret_ciphertext, key_version, version)
  values (p_user_id, p_exchange, p_mode, p_api_key_ciphertext, p_secret_ciphertext, p_key_version, stored_version)
  on conflict (user_id, exchange, mode) do update set
    api_key_ciphertext = excluded.api_key_ciphertext, secret_ciphertext = excluded.secret_ciphertext,
    key_version = excluded.key_version, version = greatest(excluded.version, known.version + 1)
  returning known.version into stored_version;

  -- They differ only where keys were written past this function.
  update public.exchange_accounts as known set credential_version = stored_version
  where known.user_id = p_user_id and known.exchange = p_exchange and known.mode = p_mode
    and known.credential_version <> stored_version;
  return jsonb_build_object('version', stored_version);
end $$;
comment on function public.store_credentials is
  'Puts a user''s encrypted keys in the place of those they had, under the next version, and shows them as active.';

create function public.revoke_credentials(p_user_id uuid, p_exchange text, p_mode text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  last_version bigint;
begin
  -- The account first, as in storing: two requests of one user wait for each other, and neither for the other's lock.
  perform from public.exchange_accounts as known
  where known.user_id = p_user_id and known.exchange = p_exchange and known.mode = p_mode for update;
  delete from public.exchange_credentials as known
  where known.user_id = p_user_id and known.exchange = p_exchange and known.mode = p_mode
  returning known.version into last_version;
  update public.exchange_accounts as known set
    is_active = false, permissions = '{}', error = null,
    credential_version = greatest(known.credential_version, last_version)
  where known.user_id = p_user_id and known.exchange = p_exchange and known.mode = p_mode and known.is_active;
  return jsonb_build_object('revoked', last_version is not null);
end $$;
comment on function public.revoke_credentials is
  'Deletes a user''s encrypted keys; what remains is that there were some. Again, it changes nothing.';

-- One user's reads wait for one another, so that the limit holds under any contention. The row of the log is there
-- before the ciphertext is handed out: keys that nobody knows were read do not exist.
create function public.read_credentials(p_user_id uuid, p_exchange text, p_mode text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  allowed integer;
  used integer;
  credential public.exchange_credentials;
  access_id bigint;
begin
  if not exists (select from auth.users as known where known.id = p_user_id) then
    return jsonb_build_object('outcome', 'missing');
  end if;
  perform pg_advisory_xact_lock(hashtextextended('fillstream key access ' || p_user_id::text, 0));
  select state.key_reads_per_minute into allowed from public.system_state as state;
  select count(*) into used from public.key_access_log as access
  where access.user_id = p_user_id and access.at > clock_timestamp() - interval '1 minute'
    and access.outcome not in ('rate_limited', 'reencrypted');
  if used >= allowed then
    -- One row a second tells of a flood as well as all of them would.
    insert into public.key_access_log (user_id, exchange, mode, outcome)
    select p_user_id, p_exchange, p_mode, 'rate_limited'
    where not exists (
      select from public.key_access_log as access
      where access.user_id = p_user_id and access.at > clock_timestamp() - interval '1 second'
        and access.outcome = 'rate_limited'
    );
    return jsonb_build_object('outcome', 'rate_limited', 'per_minute', allowed);
  end if;

  select known.* into credential from public.exchange_credentials as known
  where known.user_id = p_user_id and known.exchange = p_exchange and known.mode = p_mode;
  insert into public.key_access_log (user_id, exchange, mode, outcome)
  values (p_user_id, p_exchange, p_mode, case when credential.id is null then 'missing' else 'begun' end)
  returning id into access_id;
  if credential.id is null then
    return jsonb_build_object('outcome', 'missing');
  end if;
  return jsonb_build_object(
    'outcome', 'found',
    'access_id', access_id,
    'api_key_ciphertext', credential.api_key_ciphertext,
    'secret_ciphertext', credential.secret_ciphertext,
    'key_version', credential.key_version,
    'version', credential.version
  );
end $$;
comment on function public.read_credentials is
  'Hands out a user''s encrypted keys, or says missing or rate_limited; each read is logged before it is answered, '
  'and is closed by end_key_access.';

create function public.end_key_access(p_access_id bigint, p_outcome text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  access public.key_access_log;
begin
  if p_outcome is null or p_outcome not in ('decrypted', 'unreadable') then
    raise exception 'a key access ends as decrypted or unreadable' using errcode = 'invalid_parameter_value';
  end if;
  update public.key_access_log as begun set outcome = p_outcome
  where begun.id = p_access_id and begun.outcome = 'begun' returning begun.* into access;
  if access.id is null then
    raise exception 'there is no key access under way with this number' using errcode = 'no_data_found';
  end if;
  if p_outcome = 'decrypted' then
    update public.exchange_accounts as known set last_used_at = clock_timestamp()
    where known.user_id = access.user_id and known.exchange = access.exchange and known.mode = access.mode;
  end if;
end $$;
comment on function public.end_key_access is 'Says what came of a read, and shows the owner when a key was last used.';

create function public.reencrypt_credentials(p_rows jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  given record;
  changed public.exchange_credentials;
  done integer := 0;
begin
  for given in
    select * from jsonb_to_recordset(p_rows) as one (
      id uuid, from_key_version integer, version bigint, readable boolean, api_key_ciphertext text,
      secret_ciphertext text, key_version integer
    ) order by one.id
  loop
    if given.readable then
      -- Keys that were stored or revoked meanwhile are left as they are.
      update public.exchange_credentials as known set
        api_key_ciphertext = given.api_key_ciphertext, secret_ciphertext = given.secret_ciphertext,
        key_version = given.key_version
      where known.id = given.id and known.version = given.version and known.key_version = given.from_key_version
      returning known.* into changed;
      continue when not found;
      done := done + 1;
    else
      select known.* into changed from public.exchange_credentials as known where known.id = given.id;
      continue when not found;
    end if;
    insert into public.key_access_log (user_id, exchange, mode, outcome)
    values (
      changed.user_id, changed.exchange, changed.mode,
      case when given.readable then 'reencrypted' else 'unreadable' end
    );
  end loop;
  return jsonb_build_object('reencrypted', done);
end $$;
comment on function public.reencrypt_credentials is
  'Writes ciphertexts made with another data key, where the keys are still those that were read, and logs each.';

revoke execute on all functions in schema fillstream from public;
revoke execute on function
  public.store_credentials, public.revoke_credentials, public.read_credentials, public.end_key_access,
  public.reencrypt_credentials
from public, anon, authenticated, service_role;
grant execute on function
  public.store_credentials, public.revoke_credentials, public.read_credentials, public.end_key_access,
  public.reencrypt_credentials
to service_role;
