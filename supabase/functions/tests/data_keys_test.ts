import assert from "node:assert/strict";

import { Refusal } from "../_shared/answers.ts";
import type { Place } from "../_shared/credential.ts";
import { DataKeys, Unreadable } from "../_shared/data_keys.ts";
import { ALICE, API_KEY, BOB, DATA_KEY, OTHER_DATA_KEY, SECRET, World } from "./world.ts";

const PLACE: Place = { userId: ALICE, exchange: "binance", mode: "testnet" };
const KEYS = { apiKey: API_KEY, secret: SECRET };

function having(setting: unknown): World {
  const world = new World();
  world.settings.CREDENTIALS_KEYS = typeof setting === "string" ? setting : JSON.stringify(setting);
  return world;
}

Deno.test("what was sealed opens where it was sealed for", async () => {
  const keys = await DataKeys.read(new World());
  assert.deepEqual(await keys.open(PLACE, await keys.seal(PLACE, KEYS)), KEYS);
});

Deno.test("the same keys are never sealed alike, and never in plain", async () => {
  const keys = await DataKeys.read(new World());
  const [one, other] = [await keys.seal(PLACE, KEYS), await keys.seal(PLACE, KEYS)];
  assert.notEqual(one.secretCiphertext, other.secretCiphertext);
  assert.notEqual(one.secretCiphertext.slice(0, 16), other.secretCiphertext.slice(0, 16)); // the IV
  assert.ok(!atob(one.apiKeyCiphertext).includes(API_KEY.slice(0, 4)));
  assert.ok(!atob(one.secretCiphertext).includes(SECRET.slice(0, 4)));
});

Deno.test("a ciphertext does not open in another row or another column", async () => {
  const keys = await DataKeys.read(new World());
  const sealed = await keys.seal(PLACE, KEYS);
  for (const place of [{ ...PLACE, userId: BOB }, { ...PLACE, mode: "live" as const }]) {
    await assert.rejects(keys.open(place, sealed), Unreadable);
  }
  const swapped = {
    ...sealed,
    apiKeyCiphertext: sealed.secretCiphertext,
    secretCiphertext: sealed.apiKeyCiphertext,
  };
  await assert.rejects(keys.open(PLACE, swapped), Unreadable);
});

Deno.test("a ciphertext changed anywhere does not open", async () => {
  const keys = await DataKeys.read(new World());
  const sealed = await keys.seal(PLACE, KEYS);
  const bytes = Array.from(atob(sealed.secretCiphertext), (character) => character.charCodeAt(0));
  for (const index of bytes.keys()) {
    const changed = bytes.with(index, bytes[index]! ^ 1);
    const secretCiphertext = btoa(String.fromCharCode(...changed));
    await assert.rejects(keys.open(PLACE, { ...sealed, secretCiphertext }), Unreadable);
  }
  for (const secretCiphertext of ["", "not base64!", "AAAA", sealed.secretCiphertext.slice(0, -8)]) {
    await assert.rejects(keys.open(PLACE, { ...sealed, secretCiphertext }), Unreadable);
  }
});

Deno.test("after a rotation old ciphertexts open, and new ones are made with the new key", async () => {
  const before = await DataKeys.read(new World());
  const sealed = await before.seal(PLACE, KEYS);
  const after = await DataKeys.read(having({ current: "2", keys: { "1": DATA_KEY, "2": OTHER_DATA_KEY } }));
  assert.deepEqual(await after.open(PLACE, sealed), KEYS);
  const anew = await after.seal(PLACE, KEYS);
  assert.equal(anew.keyVersion, 2);
  await assert.rejects(before.open(PLACE, anew), (error: Refusal) => error.code === "not_configured");
  await assert.rejects(after.open(PLACE, { ...anew, keyVersion: 1 }), Unreadable);
});

Deno.test("a secret that is missing or wrong is said without a word of it", async () => {
  const wrong = [
    "",
    `{"current": "1", "keys": {"1": "${DATA_KEY}"`,
    [],
    "null",
    { keys: { "1": DATA_KEY } },
    { current: "1" },
    { current: "1", keys: { "2": DATA_KEY } },
    { current: "one", keys: { one: DATA_KEY } },
    { current: "0", keys: { "0": DATA_KEY } },
    { current: "4294967296", keys: { "4294967296": DATA_KEY } },
    { current: "1", keys: { "1": `${DATA_KEY}!` } },
    { current: "1", keys: { "1": btoa("too short") } },
    { current: "1", keys: { "1": 7 } },
  ];
  for (const setting of wrong) {
    await assert.rejects(DataKeys.read(having(setting)), (error: Refusal) => {
      assert.equal(error.code, "not_configured", JSON.stringify(setting));
      assert.match(error.message, /CREDENTIALS_KEYS/);
      assert.ok(!error.message.includes(DATA_KEY.slice(0, 8)));
      return true;
    });
  }
});
