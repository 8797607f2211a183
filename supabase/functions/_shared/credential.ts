/** Whose keys of what: the three words that a stored key is found by and bound to. */

import { Refusal } from "./answers.ts";
import type { Fields } from "./endpoint.ts";

export const EXCHANGES = ["binance"] as const;
export const MODES = ["testnet", "live"] as const;

export type Exchange = (typeof EXCHANGES)[number];
export type Mode = (typeof MODES)[number];

export interface Place {
  readonly userId: string;
  readonly exchange: Exchange;
  readonly mode: Mode;
}

export interface Keys {
  readonly apiKey: string;
  readonly secret: string;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const KEY = /^[!-~]{8,512}$/;
const MOST_OF_A_LABEL = 100;

/** The place that a user's request names. Raises Refusal. */
export function placeOf(userId: string, fields: Fields): Place {
  return { userId, exchange: oneOf(EXCHANGES, fields, "exchange"), mode: oneOf(MODES, fields, "mode") };
}

/** The user that a service's request names. Raises Refusal. */
export function userIdOf(fields: Fields): string {
  const id = typeof fields.userId === "string" ? fields.userId.toLowerCase() : "";
  if (!UUID.test(id)) {
    throw new Refusal("invalid_request", "userId must be the id of a user, a UUID.");
  }
  return id;
}

/** The keys in a request, without the blanks that copying brings along. Raises Refusal. */
export function keysOf(fields: Fields): Keys {
  return { apiKey: keyOf(fields, "apiKey"), secret: keyOf(fields, "secret") };
}

/** What the user calls the key; null where they do not name it. Raises Refusal. */
export function labelOf(fields: Fields): string | null {
  const label = fields.label ?? null;
  if (label === null) return null;
  if (typeof label !== "string" || label.length > MOST_OF_A_LABEL || /\p{Cc}/u.test(label)) {
    throw new Refusal("invalid_request", `label must be a line of at most ${MOST_OF_A_LABEL} characters.`);
  }
  return label.trim() || null;
}

function keyOf(fields: Fields, name: "apiKey" | "secret"): string {
  const written = fields[name];
  const key = typeof written === "string" ? written.trim() : "";
  if (!KEY.test(key)) {
    throw new Refusal("invalid_request", `${name} must be the text that the exchange shows for an HMAC key.`);
  }
  return key;
}

function oneOf<T extends string>(known: readonly T[], fields: Fields, name: string): T {
  const found = known.find((one) => one === fields[name]);
  if (found === undefined) {
    throw new Refusal("invalid_request", `${name} must be ${known.join(" or ")}.`);
  }
  return found;
}
