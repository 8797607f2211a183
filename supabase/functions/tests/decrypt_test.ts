import assert from "node:assert/strict";

import { decrypt } from "../decrypt-api-keys/decrypt.ts";
import { revoke } from "../revoke-api-keys/revoke.ts";
import { rotate } from "../rotate-api-keys/rotate.ts";
import { store } from "../store-api-keys/store.ts";
import {
  ALICE,
  ALICES_TOKEN,
  ANON_KEY,
  API_KEY,
  BOB,
  DATA_KEY,
  OTHER_DATA_KEY,
  SECRET,
  SERVICE_KEY,
  World,
} from "./world.ts";

const PLACE = { exchange: "binance", mode: "testnet" };
const REQUEST = { ...PLACE, userId: ALICE };
const BOTH_DATA_KEYS = JSON.stringify({ current: "2", keys: { "1": DATA_KEY, "2": OTHER_DATA_KEY } });

async function stored(): Promise<World> {
  const world = new World();
  for (const mode of ["testnet", "live"]) {
    const given = await world.send(store, { ...PLACE, mode, apiKey: API_KEY, secret: SECRET }, ALICES_TOKEN);
    assert.equal(given.status, 200);
  }
  return world;
}

Deno.test("the service role is given the key, and the access is closed before that", async () => {
  const world = await stored();
  const given = await world.send(decrypt, { ...REQUEST, userId: ALICE.toUpperCase() }, SERVICE_KEY);
  assert.equal(given.status, 200);
  assert.deepEqual(given.body, { apiKey: API_KEY, secret: SECRET, version: 1 });
  assert.deepEqual(world.accesses, ["decrypted"]);
  assert.equal(world.asked.at(-1)!.url.pathname, "/rest/v1/rpc/end_key_access");
});

Deno.test("a key whose access cannot be written down is not given", async () => {
  const world = await stored();
  world.answers.set("/rest/v1/rpc/end_key_access", () => new Response("", { status: 503 }));
  const given = await world.send(decrypt, REQUEST, SERVICE_KEY);
  assert.equal(given.body.code, "database_unavailable");
  assert.deepEqual(world.accesses, ["begun"]);
});

Deno.test("nobody else is given it, whatever they send", async () => {
  const wrong = [
    ALICES_TOKEN,
    ANON_KEY,
    "",
    SERVICE_KEY.slice(0, -1),
    `${SERVICE_KEY}x`,
    SERVICE_KEY.toUpperCase(),
  ];
  for (const verb of [decrypt, rotate]) {
    for (const token of [null, ...wrong]) {
      const world = await stored();
      const asked = world.asked.length;
      const given = await world.send(verb, REQUEST, token);
      assert.ok([401, 403].includes(given.status), `${given.status}`);
      assert.equal(world.asked.length, asked);
    }
  }
});

Deno.test("a user without keys is told apart from keys that cannot be read", async () => {
  const world = await stored();
  const missing = await world.send(decrypt, { ...REQUEST, userId: BOB }, SERVICE_KEY);
  assert.deepEqual([missing.status, missing.body.code], [404, "keys_missing"]);
  world.rows[0]!.secret_ciphertext = world.rows[0]!.secret_ciphertext.replace(/^..../, "AAAA");
  const unreadable = await world.send(decrypt, REQUEST, SERVICE_KEY);
  assert.deepEqual([unreadable.status, unreadable.body.code], [422, "keys_unreadable"]);
  assert.deepEqual(world.accesses, ["missing", "unreadable"]);
});

Deno.test("rows that were swapped are read by nobody", async () => {
  const world = await stored();
  const [testnet, live] = world.rows;
  [testnet!.mode, live!.mode] = [live!.mode, testnet!.mode];
  for (const mode of ["testnet", "live"]) {
    const given = await world.send(decrypt, { ...REQUEST, mode }, SERVICE_KEY);
    assert.equal(given.body.code, "keys_unreadable");
  }
});

Deno.test("too many reads are refused", async () => {
  const world = await stored();
  world.limit = 2;
  for (const status of [200, 200, 429]) {
    assert.equal((await world.send(decrypt, REQUEST, SERVICE_KEY)).status, status);
  }
});

Deno.test("requests for nobody's keys are refused", async () => {
  for (
    const wrong of [{}, { userId: "x" }, { userId: 7 }, { ...REQUEST, mode: "paper" }, { userId: ALICE }]
  ) {
    const given = await (await stored()).send(decrypt, wrong, SERVICE_KEY);
    assert.equal(given.body.code, "invalid_request");
  }
});

Deno.test("a function without its secrets says which", async () => {
  for (const name of ["CREDENTIALS_KEYS", "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"]) {
    const world = await stored();
    delete world.settings[name];
    const given = await world.send(decrypt, REQUEST, SERVICE_KEY);
    assert.deepEqual([given.status, given.body.code], [500, "not_configured"]);
    assert.ok(String(given.body.message).includes(name));
    assert.deepEqual(world.accesses, []);
  }
});

Deno.test("a rotation encrypts everything anew, and the keys stay the same", async () => {
  const world = await stored();
  const before = world.rows.map((row) => row.secret_ciphertext);
  world.settings.CREDENTIALS_KEYS = BOTH_DATA_KEYS;
  assert.deepEqual((await world.send(decrypt, REQUEST, SERVICE_KEY)).body.secret, SECRET); // with the old key
  const given = await world.send(rotate, "", SERVICE_KEY);
  assert.deepEqual(given.body, { keyVersion: 2, reencrypted: 2, unreadable: [] });
  assert.deepEqual(world.rows.map((row) => [row.key_version, row.version]), [[2, 1], [2, 1]]);
  assert.ok(world.rows.every((row) => !before.includes(row.secret_ciphertext)));
  world.settings.CREDENTIALS_KEYS = JSON.stringify({ current: "2", keys: { "2": OTHER_DATA_KEY } });
  assert.deepEqual((await world.send(decrypt, REQUEST, SERVICE_KEY)).body, {
    apiKey: API_KEY,
    secret: SECRET,
    version: 1,
  });
  assert.deepEqual((await world.send(rotate, "", SERVICE_KEY)).body.reencrypted, 0);
});

Deno.test("a rotation passes every row, names those it cannot read and stops for a key that is gone", async () => {
  const world = await stored();
  for (let index = 0; index < 450; index++) {
    world.rows.push({ ...world.rows[0]!, id: crypto.randomUUID(), user_id: ALICE });
  }
  const broken = world.rows[7]!;
  broken.api_key_ciphertext = "AAAA";
  world.settings.CREDENTIALS_KEYS = BOTH_DATA_KEYS;
  const given = await world.send(rotate, "", SERVICE_KEY);
  assert.deepEqual(given.body, { keyVersion: 2, reencrypted: 451, unreadable: [broken.id] });
  world.settings.CREDENTIALS_KEYS = JSON.stringify({ current: "2", keys: { "2": OTHER_DATA_KEY } });
  assert.equal((await world.send(rotate, "", SERVICE_KEY)).body.code, "not_configured");
});

Deno.test("a user takes back their own key, once or twice", async () => {
  const world = await stored();
  for (const revoked of [true, false]) {
    const given = await world.send(revoke, { ...PLACE, userId: BOB }, ALICES_TOKEN);
    assert.deepEqual(given.body, { ...PLACE, revoked });
  }
  assert.deepEqual(world.rows.map((row) => row.mode), ["live"]);
  for (const token of [null, "forged", SERVICE_KEY]) {
    assert.equal((await world.send(revoke, { ...PLACE, mode: "live" }, token)).status, 401);
  }
  assert.equal(world.rows.length, 1);
});
