import assert from "node:assert/strict";

import { store } from "../store-api-keys/store.ts";
import { ALICE, ALICES_TOKEN, ANON_KEY, API_KEY, SECRET, SERVICE_KEY, World } from "./world.ts";

const REQUEST = {
  exchange: "binance",
  mode: "testnet",
  label: " main ",
  apiKey: `${API_KEY}\n`,
  secret: ` ${SECRET}`,
};
const LIVE = { ...REQUEST, mode: "live" };
const ACCOUNT = "/api/v3/account";
const RESTRICTIONS = "/sapi/v1/account/apiRestrictions";

async function refused(world: World, body: unknown, token: string | null = ALICES_TOKEN): Promise<unknown> {
  const given = await world.send(store, body, token);
  assert.ok(given.status >= 400);
  assert.deepEqual(world.rows, []);
  const told = JSON.stringify(given.body);
  for (const secret of [API_KEY, SECRET]) assert.ok(!told.includes(secret));
  assert.match(String(given.body.message), /\.$/);
  return given.body.code;
}

Deno.test("a good key is stored encrypted, and no request but the exchange's carries it", async () => {
  const world = new World();
  const given = await world.send(store, REQUEST, ALICES_TOKEN);
  const permissions = { trade: true, withdraw: null, ip_restricted: null };
  assert.equal(given.status, 200);
  assert.deepEqual(given.body, {
    exchange: "binance",
    mode: "testnet",
    label: "main",
    permissions,
    version: 1,
  });
  assert.equal(world.rows[0]!.user_id, ALICE);
  for (const asked of world.asked) {
    assert.ok(!asked.url.href.includes(API_KEY));
    assert.ok(!`${asked.url.href}${asked.body}`.includes(SECRET));
    if (asked.url.host === "project.test") assert.ok(!asked.body.includes(API_KEY));
  }
});

Deno.test("each mode is tried at its own exchange, unless another is set", async () => {
  const hosts = async (mode: string, setting?: string): Promise<Set<string>> => {
    const world = new World();
    if (setting) world.settings.EXCHANGE_BASE_URL = setting;
    await world.send(store, { ...REQUEST, mode }, ALICES_TOKEN);
    return new Set(world.toExchange.map((one) => one.url.origin));
  };
  assert.deepEqual(await hosts("testnet"), new Set(["https://testnet.binance.vision"]));
  assert.deepEqual(await hosts("live"), new Set(["https://api.binance.com"]));
  assert.deepEqual(await hosts("live", "http://127.0.0.1:54400/"), new Set(["http://127.0.0.1:54400"]));
});

Deno.test("an exchange address that is none is the operator's to mend", async () => {
  for (const setting of ["nonsense", "ftp://127.0.0.1", "http://127.0.0.1/path", "http://user@127.0.0.1"]) {
    const world = new World();
    world.settings.EXCHANGE_BASE_URL = setting;
    assert.equal(await refused(world, REQUEST), "not_configured");
    assert.deepEqual(world.toExchange, []);
  }
});

Deno.test("a key that the exchange does not take is refused", async () => {
  assert.equal(await refused(new World(), { ...REQUEST, apiKey: API_KEY.toLowerCase() }), "keys_rejected");
  assert.equal(await refused(new World(), { ...REQUEST, secret: SECRET.toLowerCase() }), "keys_rejected");
  const world = new World();
  world.answers.set(
    ACCOUNT,
    () => Response.json({ code: -2014, msg: "API-key format invalid." }, { status: 401 }),
  );
  assert.equal(await refused(world, REQUEST), "keys_rejected");
});

Deno.test("a live key that can withdraw, or cannot trade, is refused", async () => {
  const restrictions = async (told: unknown): Promise<unknown> => {
    const world = new World();
    world.answers.set(RESTRICTIONS, () => Response.json(told));
    return await refused(world, LIVE);
  };
  assert.equal(
    await restrictions({ enableWithdrawals: true, enableSpotAndMarginTrading: true }),
    "keys_can_withdraw",
  );
  assert.equal(
    await restrictions({ enableWithdrawals: false, enableSpotAndMarginTrading: false }),
    "keys_cannot_trade",
  );
  assert.equal(await restrictions({ enableSpotAndMarginTrading: true }), "exchange_unavailable");
  const world = new World();
  world.answers.set(ACCOUNT, () => Response.json({ canTrade: false }));
  assert.equal(await refused(world, REQUEST), "keys_cannot_trade");
});

Deno.test("where the exchange does not tell the rights of a live key, they are shown as unknown", async () => {
  const world = new World();
  const given = await world.send(store, LIVE, ALICES_TOKEN);
  assert.deepEqual(given.body.permissions, { trade: true, withdraw: false, ip_restricted: true });
  world.answers.set(RESTRICTIONS, () => new Response("not found", { status: 404 }));
  const again = await world.send(store, LIVE, ALICES_TOKEN);
  assert.deepEqual(again.body.permissions, { trade: true, withdraw: null, ip_restricted: null });
  assert.equal(again.body.version, 2);
});

Deno.test("a key that could not be tried is not stored", async () => {
  const answers: (() => Response)[] = [
    () => new Response("<html>busy</html>", { status: 200 }),
    () => new Response("<html>blocked</html>", { status: 403 }),
    () => Response.json({ code: 0, msg: "restricted location" }, { status: 451 }),
    () => Response.json({ code: -1003, msg: "banned" }, { status: 418 }),
    () => Response.json([], { status: 200 }),
    () => Response.json({ canTrade: "yes" }),
    () => new Response("", { status: 503 }),
    () => {
      throw new TypeError(`error sending request for ${API_KEY} ${SECRET}`);
    },
  ];
  for (const path of [ACCOUNT, RESTRICTIONS]) {
    for (const answer of answers) {
      const world = new World();
      world.answers.set(path, answer);
      assert.equal(await refused(world, LIVE), "exchange_unavailable");
    }
  }
  const world = new World();
  world.answers.set(ACCOUNT, () => new Response("", { status: 404 }));
  assert.equal(await refused(world, REQUEST), "exchange_unavailable");
});

Deno.test("a clock that is off is put right by the exchange's", async () => {
  const world = new World();
  world.venueAheadMs = -30_000;
  assert.equal((await world.send(store, REQUEST, ALICES_TOKEN)).status, 200);
  world.answers.set("/api/v3/time", () => Response.json({}));
  assert.equal((await world.send(store, REQUEST, ALICES_TOKEN)).body.code, "exchange_unavailable");
});

Deno.test("nobody but a signed-in user stores a key", async () => {
  assert.equal(await refused(new World(), REQUEST, null), "unauthorized");
  for (const token of ["", "forged", ANON_KEY, SERVICE_KEY]) {
    const world = new World();
    assert.equal(await refused(world, REQUEST, token), "unauthorized");
    assert.deepEqual(world.toExchange, []);
  }
});

Deno.test("whose keys they are is the token's to say", async () => {
  const world = new World();
  await world.send(store, { ...REQUEST, userId: "somebody", user_id: "somebody" }, ALICES_TOKEN);
  assert.equal(world.rows[0]!.user_id, ALICE);
});

Deno.test("requests that say too little or too much are refused before anybody is asked", async () => {
  const wrong: unknown[] = [
    "not json",
    "[]",
    "null",
    { ...REQUEST, exchange: "kraken" },
    { ...REQUEST, mode: "paper" },
    { ...REQUEST, mode: ["live"] },
    { ...REQUEST, apiKey: "" },
    { ...REQUEST, apiKey: `${API_KEY} ${API_KEY}` },
    { ...REQUEST, secret: 7 },
    { ...REQUEST, secret: "x".repeat(600) },
    { ...REQUEST, label: "a\u0000b" },
    { ...REQUEST, label: "x".repeat(101) },
  ];
  for (const body of wrong) {
    const world = new World();
    assert.equal(await refused(world, body), "invalid_request", JSON.stringify(body));
    assert.deepEqual(world.toExchange, []);
  }
  assert.equal(await refused(new World(), { ...REQUEST, padding: "x".repeat(9000) }), "too_large");
});

Deno.test("without data keys nothing leaves for the exchange", async () => {
  const world = new World();
  delete world.settings.CREDENTIALS_KEYS;
  assert.equal(await refused(world, REQUEST), "not_configured");
  assert.deepEqual(world.toExchange, []);
});

Deno.test("a database that does not take it is said so", async () => {
  const answers = [
    () => new Response("", { status: 502 }),
    () => Response.json({ code: "40001" }, { status: 500 }),
    () => new Response("<html>", { status: 200 }),
  ];
  for (const answer of answers) {
    const world = new World();
    world.answers.set("/rest/v1/rpc/store_credentials", answer);
    assert.equal(await refused(world, REQUEST), "database_unavailable");
  }
  const bare = new World();
  bare.answers.set(
    "/rest/v1/rpc/store_credentials",
    () => Response.json({ code: "PGRST202" }, { status: 404 }),
  );
  assert.equal(await refused(bare, REQUEST), "not_configured");
});
