/** A signed-in user takes a key back: what was stored of it is deleted. */

import { requireUser } from "../_shared/callers.ts";
import { type Exchange, type Mode, placeOf } from "../_shared/credential.ts";
import { fieldsOf } from "../_shared/endpoint.ts";
import { call } from "../_shared/project.ts";
import type { Surroundings } from "../_shared/surroundings.ts";

export async function revoke(
  request: Request,
  around: Surroundings,
): Promise<{ exchange: Exchange; mode: Mode; revoked: boolean }> {
  const userId = await requireUser(request, around);
  const place = placeOf(userId, await fieldsOf(request));
  const done = await call(around, "revoke_credentials", {
    p_user_id: place.userId,
    p_exchange: place.exchange,
    p_mode: place.mode,
  }) as { revoked: boolean };
  return { exchange: place.exchange, mode: place.mode, revoked: done.revoked };
}
