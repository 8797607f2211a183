/** What callers are told: JSON, and with every refusal a code for programs and a sentence for people. */

export type RefusalCode =
  | "database_unavailable"
  | "exchange_unavailable"
  | "forbidden"
  | "internal_error"
  | "invalid_request"
  | "keys_can_withdraw"
  | "keys_cannot_trade"
  | "keys_missing"
  | "keys_rejected"
  | "keys_unreadable"
  | "method_not_allowed"
  | "not_configured"
  | "rate_limited"
  | "too_large"
  | "unauthorized";

const STATUS: Record<RefusalCode, number> = {
  database_unavailable: 503,
  exchange_unavailable: 502,
  forbidden: 403,
  internal_error: 500,
  invalid_request: 400,
  keys_can_withdraw: 422,
  keys_cannot_trade: 422,
  keys_missing: 404,
  keys_rejected: 422,
  keys_unreadable: 422,
  method_not_allowed: 405,
  not_configured: 500,
  rate_limited: 429,
  too_large: 413,
  unauthorized: 401,
};

/** A request that is not carried out. The sentence says what to do and holds nothing that was sent. */
export class Refusal extends Error {
  constructor(readonly code: RefusalCode, sentence: string) {
    super(sentence);
  }

  get status(): number {
    return STATUS[this.code];
  }
}

/** A JSON answer that nobody on the way keeps. */
export function answer(body: unknown, status: number, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { "Cache-Control": "no-store", ...headers } });
}
