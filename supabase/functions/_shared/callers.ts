/** Who calls. The platform has checked the token's signature before, but tells neither whose it is nor which role. */

import { Refusal } from "./answers.ts";
import { required, type Surroundings } from "./surroundings.ts";

const AUTH_MS = 10_000;
const BEARER = /^Bearer +(\S+)$/i;

/** The id of the signed-in user who calls, as the auth server knows them now. Raises Refusal. */
export async function requireUser(request: Request, around: Surroundings): Promise<string> {
  const token = bearer(request);
  const anonKey = required(around, "SUPABASE_ANON_KEY");
  let response: Response;
  let user: unknown;
  try {
    response = await around.fetch(`${required(around, "SUPABASE_URL")}/auth/v1/user`, {
      headers: { apikey: anonKey, Authorization: `Bearer ${token}` },
      redirect: "error",
      signal: AbortSignal.timeout(AUTH_MS),
    });
    user = await response.json();
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal("database_unavailable", "The project's auth server does not answer; try again.");
  }
  if (response.status === 429 || response.status >= 500) {
    throw new Refusal("database_unavailable", "The project's auth server cannot answer now; try again.");
  }
  const id = response.ok && typeof user === "object" && user !== null && "id" in user ? user.id : undefined;
  if (typeof id !== "string" || !id) {
    throw new Refusal("unauthorized", "Sign in, and send your own access token as the bearer.");
  }
  return id.toLowerCase();
}

/** Lets pass whoever has the key of the service role. Raises Refusal. */
export async function requireServiceRole(request: Request, around: Surroundings): Promise<void> {
  const expected = required(around, "SUPABASE_SERVICE_ROLE_KEY");
  if (!(await alike(bearer(request), expected))) {
    throw new Refusal(
      "forbidden",
      "This is for the project's own services: send the key of the service role.",
    );
  }
}

function bearer(request: Request): string {
  const token = BEARER.exec(request.headers.get("Authorization") ?? "")?.[1];
  if (!token) {
    throw new Refusal("unauthorized", "Send a token: Authorization: Bearer <token>.");
  }
  return token;
}

/** Whether two texts are the same, in a time that tells nothing of where they differ. */
async function alike(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([one, other].map(digest));
  let difference = 0;
  first!.forEach((byte, index) => difference |= byte ^ second![index]!);
  return difference === 0;
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}
