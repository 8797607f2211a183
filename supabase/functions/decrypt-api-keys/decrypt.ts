/** The worker asks for a user's key. Each answer is in key_access_log before it is given. */

import { Refusal } from "../_shared/answers.ts";
import { requireServiceRole } from "../_shared/callers.ts";
import { type Keys, placeOf, userIdOf } from "../_shared/credential.ts";
import { DataKeys, Unreadable } from "../_shared/data_keys.ts";
import { fieldsOf } from "../_shared/endpoint.ts";
import { call } from "../_shared/project.ts";
import type { Surroundings } from "../_shared/surroundings.ts";

type Read =
  | { outcome: "missing" }
  | { outcome: "rate_limited"; per_minute: number }
  | {
    outcome: "found";
    access_id: number;
    api_key_ciphertext: string;
    secret_ciphertext: string;
    key_version: number;
    version: number;
  };

export async function decrypt(request: Request, around: Surroundings): Promise<Keys & { version: number }> {
  await requireServiceRole(request, around);
  const fields = await fieldsOf(request);
  const place = placeOf(userIdOf(fields), fields);
  const dataKeys = await DataKeys.read(around);
  const read = await call(around, "read_credentials", {
    p_user_id: place.userId,
    p_exchange: place.exchange,
    p_mode: place.mode,
  }) as Read;
  if (read.outcome === "missing") {
    throw new Refusal("keys_missing", `The user has stored no ${place.mode} keys for ${place.exchange}.`);
  }
  if (read.outcome === "rate_limited") {
    throw new Refusal(
      "rate_limited",
      `The keys of a user are read at most ${read.per_minute} times a minute; wait.`,
    );
  }
  try {
    const keys = await dataKeys.open(place, {
      apiKeyCiphertext: read.api_key_ciphertext,
      secretCiphertext: read.secret_ciphertext,
      keyVersion: read.key_version,
    });
    await call(around, "end_key_access", { p_access_id: read.access_id, p_outcome: "decrypted" });
    return { apiKey: keys.apiKey, secret: keys.secret, version: read.version };
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    await call(around, "end_key_access", { p_access_id: read.access_id, p_outcome: "unreadable" });
    throw new Refusal(
      "keys_unreadable",
      "What is stored was changed, moved from another row, or encrypted otherwise; the user must store the key again.",
    );
  }
}
