/**
 * Trying a key at Binance before it is kept (binance-spot-api-docs, rest-api: request security, account information;
 * Wallet API: API key permission).
 */

import { Refusal } from "./answers.ts";
import type { Keys, Mode } from "./credential.ts";
import type { Surroundings } from "./surroundings.ts";

/** What the exchange lets the key do; null where it does not tell. */
export interface Permissions {
  readonly trade: boolean;
  readonly withdraw: boolean | null;
  readonly ip_restricted: boolean | null;
}

const HOSTS: Record<Mode, string> = {
  testnet: "https://testnet.binance.vision",
  live: "https://api.binance.com",
};
const EXCHANGE_MS = 10_000;
const RECV_WINDOW_MS = 5000;
const OUTSIDE_WINDOW = -1021;
/** Bad signature, bad format of a key, and a key that is wrong, lacks a right or is used from the wrong address. */
const REJECTED = [-1022, -2014, -2015];

interface Told {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Asks the exchange of that mode what the key may do. Raises Refusal for one that is wrong or may do too much. */
export async function tryKeys(keys: Keys, mode: Mode, around: Surroundings): Promise<Permissions> {
  const exchange = new Exchange(keys, originOf(mode, around), around);
  const account = await exchange.ask("/api/v3/account", { omitZeroBalances: "true" });
  if (account === null || typeof account.canTrade !== "boolean") {
    throw unavailable("an account that cannot be read");
  }
  const restrictions = mode === "live" ? await exchange.ask("/sapi/v1/account/apiRestrictions", {}) : null;
  const withdraw = told(restrictions?.enableWithdrawals);
  if (restrictions !== null && withdraw === null) throw unavailable("rights of the key that cannot be read");
  if (withdraw === true) {
    throw new Refusal(
      "keys_can_withdraw",
      "This key may withdraw. Turn withdrawals off for it at the exchange, or make another key, and store it again.",
    );
  }
  const trade = account.canTrade && told(restrictions?.enableSpotAndMarginTrading) !== false;
  if (!trade) {
    throw new Refusal(
      "keys_cannot_trade",
      "This key may not trade. Turn spot trading on for it at the exchange, and store it again.",
    );
  }
  return { trade, withdraw, ip_restricted: told(restrictions?.ipRestrict) };
}

class Exchange {
  private aheadMs = 0;

  constructor(
    private readonly keys: Keys,
    private readonly origin: string,
    private readonly around: Surroundings,
  ) {}

  /** A signed question; null where the exchange has no such endpoint. Raises Refusal. */
  async ask(
    path: string,
    parameters: Record<string, string>,
  ): Promise<Readonly<Record<string, unknown>> | null> {
    let given = await this.signed(path, parameters);
    if (given.body.code === OUTSIDE_WINDOW) {
      await this.readClock();
      given = await this.signed(path, parameters);
    }
    if (given.status === 200) return given.body;
    if (REJECTED.includes(Number(given.body.code)) || given.status === 401) {
      throw new Refusal(
        "keys_rejected",
        "The exchange does not take this key. Check that it was made for this mode, that key and secret were copied " +
          "whole, and that it is not bound to other IP addresses.",
      );
    }
    if (given.status === 404) return null;
    throw unavailable(`status ${given.status}`);
  }

  private async signed(path: string, parameters: Record<string, string>): Promise<Told> {
    const query = new URLSearchParams({
      ...parameters,
      recvWindow: String(RECV_WINDOW_MS),
      timestamp: String(Math.round(this.around.now() + this.aheadMs)),
    }).toString();
    const signature = await hmac(this.keys.secret, query);
    return await this.get(`${path}?${query}&signature=${signature}`, { "X-MBX-APIKEY": this.keys.apiKey });
  }

  private async readClock(): Promise<void> {
    const { body } = await this.get("/api/v3/time", {});
    if (typeof body.serverTime !== "number") throw unavailable("no time");
    this.aheadMs = body.serverTime - this.around.now();
  }

  private async get(path: string, headers: Record<string, string>): Promise<Told> {
    let response: Response;
    let text: string;
    try {
      response = await this.around.fetch(this.origin + path, {
        headers,
        redirect: "error", // it would carry the key to wherever it leads
        signal: AbortSignal.timeout(EXCHANGE_MS),
      });
      text = await response.text();
    } catch {
      throw unavailable("no answer");
    }
    return { status: response.status, body: objectIn(text, response.status) };
  }
}

function objectIn(text: string, status: number): Readonly<Record<string, unknown>> {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) {
      return body as Record<string, unknown>;
    }
  } catch {
    // A page of what stands before the exchange; its status says enough.
  }
  if (status === 200) throw unavailable("an answer that is none");
  return {};
}

function originOf(mode: Mode, around: Surroundings): string {
  const setting = around.setting("EXCHANGE_BASE_URL");
  if (!setting) return HOSTS[mode];
  const url = URL.canParse(setting) ? new URL(setting) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol) || url.username || url.pathname !== "/") {
    throw new Refusal(
      "not_configured",
      "The project's operator must set EXCHANGE_BASE_URL to an origin, or unset it.",
    );
  }
  return url.origin;
}

async function hmac(secret: string, text: string): Promise<string> {
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["sign"]);
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(text)));
  return Array.from(signature, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function told(value: unknown): boolean | null {
  return typeof value === "boolean" ? value : null;
}

function unavailable(what: string): Refusal {
  return new Refusal(
    "exchange_unavailable",
    `The key could not be tried, so it was not stored: the exchange gave ${what}. Try again later.`,
  );
}
