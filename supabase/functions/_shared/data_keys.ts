/**
 * The keys that users' keys are encrypted with: AES-256-GCM (NIST SP 800-38D) with a random 96-bit IV, and whose key
 * of what it is as additional data, so that a ciphertext that was moved or changed does not decrypt.
 */

import { Refusal } from "./answers.ts";
import type { Keys, Place } from "./credential.ts";
import { required, type Surroundings } from "./surroundings.ts";

/** Encrypted keys as they stand in a row: base64 of IV and ciphertext, and the version of the data key. */
export interface Sealed {
  readonly apiKeyCiphertext: string;
  readonly secretCiphertext: string;
  readonly keyVersion: number;
}

/** A ciphertext was changed, moved, or made with another data key under the same version. */
export class Unreadable extends Error {}

const SETTING = "CREDENTIALS_KEYS";
const IV_BYTES = 12;
const KEY_BYTES = 32;
const MOST_VERSION = 2 ** 31 - 1; // an integer column

export class DataKeys {
  private constructor(readonly current: number, private readonly keys: ReadonlyMap<number, CryptoKey>) {}

  /** Reads CREDENTIALS_KEYS: {"current": "2", "keys": {"1": base64, "2": base64}}. Raises Refusal. */
  static async read(around: Surroundings): Promise<DataKeys> {
    let setting: unknown;
    try {
      setting = JSON.parse(required(around, SETTING));
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw misconfigured("it is not JSON"); // an error of the parser quotes what it read
    }
    if (!isRecord(setting) || !isRecord(setting.keys)) throw misconfigured("it needs current and keys");
    const keys = new Map<number, CryptoKey>();
    for (const [name, text] of Object.entries(setting.keys)) {
      keys.set(versionOf(name), await imported(name, text));
    }
    const current = versionOf(setting.current);
    if (!keys.has(current)) throw misconfigured("current names none of its keys");
    return new DataKeys(current, keys);
  }

  /** Encrypts with the current data key. */
  async seal(place: Place, keys: Keys): Promise<Sealed> {
    const key = this.keys.get(this.current)!;
    return {
      apiKeyCiphertext: await sealed(key, boundTo(place, "api_key"), keys.apiKey),
      secretCiphertext: await sealed(key, boundTo(place, "secret"), keys.secret),
      keyVersion: this.current,
    };
  }

  /** Decrypts with the data key that it was encrypted with. Raises Unreadable; Refusal where that key is gone. */
  async open(place: Place, found: Sealed): Promise<Keys> {
    const key = this.keys.get(found.keyVersion);
    if (key === undefined) {
      throw misconfigured(`key ${found.keyVersion} is missing, and rows encrypted with it remain`);
    }
    return {
      apiKey: await opened(key, boundTo(place, "api_key"), found.apiKeyCiphertext),
      secret: await opened(key, boundTo(place, "secret"), found.secretCiphertext),
    };
  }
}

function boundTo(place: Place, field: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${place.userId}|${place.exchange}|${place.mode}|${field}`);
}

async function sealed(
  key: CryptoKey,
  additionalData: Uint8Array<ArrayBuffer>,
  text: string,
): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
  const bytes = new TextEncoder().encode(text);
  const ciphertext = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, bytes);
  return btoa(String.fromCharCode(...iv, ...new Uint8Array(ciphertext)));
}

async function opened(
  key: CryptoKey,
  additionalData: Uint8Array<ArrayBuffer>,
  text: string,
): Promise<string> {
  try {
    const bytes = bytesOf(text);
    const iv = bytes.subarray(0, IV_BYTES);
    const plain = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv, additionalData },
      key,
      bytes.subarray(IV_BYTES),
    );
    return new TextDecoder().decode(plain);
  } catch {
    throw new Unreadable();
  }
}

async function imported(name: string, text: unknown): Promise<CryptoKey> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = bytesOf(String(text));
  } catch {
    throw misconfigured(`key ${name} is not base64`);
  }
  if (bytes.length !== KEY_BYTES) throw misconfigured(`key ${name} is not of ${KEY_BYTES} bytes`);
  return await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function versionOf(name: unknown): number {
  const version = Number(name);
  if (!/^[1-9]\d*$/.test(String(name)) || version > MOST_VERSION) {
    throw misconfigured("versions of keys are whole numbers from 1");
  }
  return version;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function misconfigured(what: string): Refusal {
  return new Refusal("not_configured", `The project's operator must mend the secret ${SETTING}: ${what}.`);
}
