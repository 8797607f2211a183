/** A signed-in user hands over a key: it is tried, encrypted at once, and shown to nobody again. */

import { type Permissions, tryKeys } from "../_shared/binance.ts";
import { requireUser } from "../_shared/callers.ts";
import { type Exchange, keysOf, labelOf, type Mode, placeOf } from "../_shared/credential.ts";
import { DataKeys } from "../_shared/data_keys.ts";
import { fieldsOf } from "../_shared/endpoint.ts";
import { call } from "../_shared/project.ts";
import type { Surroundings } from "../_shared/surroundings.ts";

/** What the user is told of a key that was stored. */
export interface Stored {
  readonly exchange: Exchange;
  readonly mode: Mode;
  readonly label: string | null;
  readonly permissions: Permissions;
  readonly version: number;
}

export async function store(request: Request, around: Surroundings): Promise<Stored> {
  const userId = await requireUser(request, around);
  const fields = await fieldsOf(request);
  const place = placeOf(userId, fields);
  const label = labelOf(fields);
  const keys = keysOf(fields);
  const dataKeys = await DataKeys.read(around); // before the key leaves for anywhere
  const permissions = await tryKeys(keys, place.mode, around);
  const sealed = await dataKeys.seal(place, keys);
  const stored = await call(around, "store_credentials", {
    p_user_id: place.userId,
    p_exchange: place.exchange,
    p_mode: place.mode,
    p_label: label,
    p_api_key_ciphertext: sealed.apiKeyCiphertext,
    p_secret_ciphertext: sealed.secretCiphertext,
    p_key_version: sealed.keyVersion,
    p_permissions: permissions,
  }) as { version: number };
  return { exchange: place.exchange, mode: place.mode, label, permissions, version: stored.version };
}
