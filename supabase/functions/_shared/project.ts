/** The project's database as the service role reaches it: functions of the schema, and rows to read. */

import { Refusal } from "./answers.ts";
import { required, type Surroundings } from "./surroundings.ts";

const DATABASE_MS = 10_000;
const NO_SUCH_FUNCTION = "PGRST202";

/** Calls a function of the database. Raises Refusal. */
export async function call(
  around: Surroundings,
  name: string,
  parameters: Record<string, unknown>,
): Promise<unknown> {
  return await asked(around, `rpc/${name}`, { method: "POST", body: JSON.stringify(parameters) });
}

/** Reads rows; the query is as PostgREST takes it. Raises Refusal. */
export async function rows(
  around: Surroundings,
  table: string,
  query: Record<string, string>,
): Promise<Record<string, unknown>[]> {
  const found = await asked(around, `${table}?${new URLSearchParams(query)}`, { method: "GET" });
  if (!Array.isArray(found)) throw unavailable();
  return found;
}

async function asked(around: Surroundings, path: string, request: RequestInit): Promise<unknown> {
  const key = required(around, "SUPABASE_SERVICE_ROLE_KEY");
  const url = `${required(around, "SUPABASE_URL")}/rest/v1/${path}`;
  let response: Response;
  let text: string;
  try {
    response = await around.fetch(url, {
      ...request,
      headers: { apikey: key, Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      redirect: "error",
      signal: AbortSignal.timeout(DATABASE_MS),
    });
    text = await response.text();
  } catch {
    throw unavailable();
  }
  const body = parsed(text);
  if (response.ok) return body;
  const code = typeof body === "object" && body !== null && "code" in body ? String(body.code) : "";
  console.error(`the database answered ${response.status} ${code.slice(0, 20)}`);
  if (code === NO_SUCH_FUNCTION) {
    throw new Refusal(
      "not_configured",
      "The project's operator must bring the schema up to date: supabase db push.",
    );
  }
  throw unavailable();
}

function parsed(text: string): unknown {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw unavailable();
  }
}

function unavailable(): Refusal {
  return new Refusal("database_unavailable", "The project's database does not answer; try again.");
}
