/** A project and an exchange in memory, as the functions see them; every request is kept. */

import { timingSafeEqual } from "node:crypto";

import { endpoint, type Verb } from "../_shared/endpoint.ts";
import type { Surroundings } from "../_shared/surroundings.ts";

export const ALICE = "11111111-1111-4111-8111-111111111111";
export const BOB = "22222222-2222-4222-8222-222222222222";
export const ALICES_TOKEN = "token-of-alice";
export const SERVICE_KEY = "key-of-the-service-role";
export const ANON_KEY = "key-of-anybody";
export const API_KEY = "AlicesApiKey".padEnd(64, "Kk9");
export const SECRET = "AlicesSecret".padEnd(64, "Ss7");
export const DATA_KEY = btoa("0123456789abcdef0123456789abcdef");
export const OTHER_DATA_KEY = btoa("fedcba9876543210fedcba9876543210");

export interface Row {
  id: string;
  user_id: string;
  exchange: string;
  mode: string;
  api_key_ciphertext: string;
  secret_ciphertext: string;
  key_version: number;
  version: number;
}

export interface Asked {
  readonly url: URL;
  readonly headers: Headers;
  readonly body: string;
}

type Answer = (asked: Asked) => Response | Promise<Response>;

export class World implements Surroundings {
  readonly settings: Record<string, string> = {
    SUPABASE_URL: "http://project.test",
    SUPABASE_ANON_KEY: ANON_KEY,
    SUPABASE_SERVICE_ROLE_KEY: SERVICE_KEY,
    CREDENTIALS_KEYS: JSON.stringify({ current: "1", keys: { "1": DATA_KEY } }),
  };
  readonly rows: Row[] = [];
  readonly accesses: string[] = [];
  readonly asked: Asked[] = [];
  /** What is said to a path instead of the usual. */
  readonly answers = new Map<string, Answer>();
  venueAheadMs = 0;
  limit = 120;

  setting(name: string): string | undefined {
    return this.settings[name];
  }

  now(): number {
    return 1_700_000_000_000;
  }

  async fetch(url: string, request: RequestInit): Promise<Response> {
    const asked = {
      url: new URL(url),
      headers: new Headers(request.headers),
      body: String(request.body ?? ""),
    };
    this.asked.push(asked);
    const path = asked.url.pathname;
    const ordered = this.answers.get(path);
    if (ordered) return await ordered(asked);
    if (path === "/auth/v1/user") return this.user(asked);
    if (path.startsWith("/rest/v1/")) return this.database(asked);
    return await this.exchange(asked);
  }

  /** Sends a request to a function and reads its JSON. */
  async send(
    verb: Verb,
    body: unknown,
    token: string | null,
    method = "POST",
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const headers: Record<string, string> = token === null ? {} : { Authorization: `Bearer ${token}` };
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const init = method === "POST" ? { method, headers, body: text } : { method, headers };
    const handle = endpoint(verb, { forBrowsers: false }, this);
    const response = await handle(new Request("http://functions.test/name", init));
    return { status: response.status, body: await response.json() };
  }

  /** The requests to hosts other than the project's. */
  get toExchange(): Asked[] {
    return this.asked.filter((one) => one.url.host !== "project.test");
  }

  private user(asked: Asked): Response {
    if (asked.headers.get("apikey") !== ANON_KEY) return Response.json({}, { status: 401 });
    if (asked.headers.get("Authorization") !== `Bearer ${ALICES_TOKEN}`) {
      return Response.json({ error_code: "bad_jwt" }, { status: 403 });
    }
    return Response.json({ id: ALICE, role: "authenticated" });
  }

  private database(asked: Asked): Response {
    if (asked.headers.get("Authorization") !== `Bearer ${SERVICE_KEY}`) {
      return Response.json({}, { status: 401 });
    }
    const name = asked.url.pathname.replace("/rest/v1/", "");
    if (name === "exchange_credentials") return Response.json(this.selected(asked.url.searchParams));
    const given = JSON.parse(asked.body);
    switch (name) {
      case "rpc/store_credentials":
        return Response.json(this.store(given));
      case "rpc/revoke_credentials": {
        const place = this.placed(given);
        if (place >= 0) this.rows.splice(place, 1);
        return Response.json({ revoked: place >= 0 });
      }
      case "rpc/read_credentials":
        return Response.json(this.read(given));
      case "rpc/end_key_access":
        this.accesses[given.p_access_id] = given.p_outcome;
        return new Response(null, { status: 204 });
      case "rpc/reencrypt_credentials":
        return Response.json(this.reencrypt(given.p_rows));
    }
    return Response.json({ code: "PGRST202", message: "no such function" }, { status: 404 });
  }

  private placed(given: Record<string, unknown>): number {
    return this.rows.findIndex((row) =>
      row.user_id === given.p_user_id && row.exchange === given.p_exchange && row.mode === given.p_mode
    );
  }

  private store(given: Record<string, never>): { version: number } {
    const known = this.placed(given);
    const row = {
      id: known < 0 ? crypto.randomUUID() : this.rows[known]!.id,
      user_id: given.p_user_id!,
      exchange: given.p_exchange!,
      mode: given.p_mode!,
      api_key_ciphertext: given.p_api_key_ciphertext!,
      secret_ciphertext: given.p_secret_ciphertext!,
      key_version: given.p_key_version!,
      version: known < 0 ? 1 : this.rows[known]!.version + 1,
    };
    this.rows.splice(known < 0 ? this.rows.length : known, 1, row);
    return { version: row.version };
  }

  private read(given: Record<string, unknown>): Record<string, unknown> {
    if (this.accesses.length >= this.limit) return { outcome: "rate_limited", per_minute: this.limit };
    const row = this.rows[this.placed(given)];
    this.accesses.push(row ? "begun" : "missing");
    return row ? { outcome: "found", access_id: this.accesses.length - 1, ...row } : { outcome: "missing" };
  }

  private selected(query: URLSearchParams): Row[] {
    const after = query.get("id")!.replace("gt.", "");
    const current = Number(query.get("key_version")!.replace("neq.", ""));
    return this.rows
      .filter((row) => row.id > after && row.key_version !== current)
      .sort((one, other) => one.id < other.id ? -1 : 1)
      .slice(0, Number(query.get("limit")));
  }

  private reencrypt(
    changes: (Row & { readable: boolean; from_key_version: number })[],
  ): { reencrypted: number } {
    let reencrypted = 0;
    for (const change of changes.filter((one) => one.readable)) {
      const row = this.rows.find((one) => one.id === change.id && one.version === change.version)!;
      row.api_key_ciphertext = change.api_key_ciphertext;
      row.secret_ciphertext = change.secret_ciphertext;
      row.key_version = change.key_version;
      reencrypted++;
    }
    return { reencrypted };
  }

  private async exchange(asked: Asked): Promise<Response> {
    const refused = (code: number): Response => Response.json({ code, msg: "no" }, { status: 400 });
    if (asked.url.pathname === "/api/v3/time") {
      return Response.json({ serverTime: this.now() + this.venueAheadMs });
    }
    if (asked.headers.get("X-MBX-APIKEY") !== API_KEY) return refused(-2015);
    const [query, signature] = asked.url.search.slice(1).split("&signature=");
    if (!await signedWith(SECRET, query!, signature!)) return refused(-1022);
    const sentAt = Number(asked.url.searchParams.get("timestamp"));
    if (Math.abs(sentAt - this.now() - this.venueAheadMs) > 1000) return refused(-1021);
    if (asked.url.pathname === "/api/v3/account") return Response.json({ canTrade: true, balances: [] });
    if (asked.url.pathname === "/sapi/v1/account/apiRestrictions") {
      return Response.json({ enableWithdrawals: false, enableSpotAndMarginTrading: true, ipRestrict: true });
    }
    return Response.json({}, { status: 404 });
  }
}

async function signedWith(secret: string, text: string, signature: string): Promise<boolean> {
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["sign"]);
  const expected = new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(text)));
  const given = Uint8Array.from(signature.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  return given.length === expected.length && timingSafeEqual(given, expected);
}
