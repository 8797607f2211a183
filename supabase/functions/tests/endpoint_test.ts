import assert from "node:assert/strict";

import { endpoint } from "../_shared/endpoint.ts";
import { requireUser } from "../_shared/callers.ts";
import { ALICES_TOKEN, SECRET, World } from "./world.ts";

const ADDRESS = "http://functions.test/name";

Deno.test("pages may ask first, where a function is for browsers", async () => {
  const handle = endpoint(() => Promise.resolve({}), { forBrowsers: true }, new World());
  const asked = await handle(new Request(ADDRESS, { method: "OPTIONS" }));
  assert.equal(asked.status, 204);
  assert.match(asked.headers.get("Access-Control-Allow-Headers")!, /authorization/);
  const given = await handle(new Request(ADDRESS, { method: "POST" }));
  assert.equal(given.headers.get("Access-Control-Allow-Origin"), "*");
  const closed = endpoint(() => Promise.resolve({}), { forBrowsers: false }, new World());
  assert.equal((await closed(new Request(ADDRESS, { method: "OPTIONS" }))).status, 405);
});

Deno.test("only POST is answered, and no answer is kept on the way", async () => {
  const handle = endpoint(() => Promise.resolve({}), { forBrowsers: false }, new World());
  for (const method of ["GET", "PUT", "DELETE"]) {
    const given = await handle(new Request(ADDRESS, { method }));
    assert.deepEqual([given.status, (await given.json()).code], [405, "method_not_allowed"]);
    assert.equal(given.headers.get("Cache-Control"), "no-store");
  }
});

Deno.test("an unexpected failure tells nothing of what was being done", async () => {
  const said: string[] = [];
  const { error } = console;
  console.error = (...words: unknown[]) => said.push(words.join(" "));
  try {
    const fail = (): Promise<never> => Promise.reject(new TypeError(`cannot read ${SECRET}`));
    const given = await endpoint(fail, { forBrowsers: false }, new World())(
      new Request(ADDRESS, { method: "POST" }),
    );
    const body = await given.text();
    assert.equal(given.status, 500);
    assert.ok(!`${body}${said}`.includes(SECRET));
    assert.deepEqual(said, ["unexpected TypeError"]);
  } finally {
    console.error = error;
  }
});

Deno.test("an auth server that is down is no reason to sign in again", async () => {
  const answers = [() => new Response("", { status: 500 }), () => Response.json({}, { status: 429 })];
  for (const answer of answers) {
    const world = new World();
    world.answers.set("/auth/v1/user", answer);
    const given = await world.send((request, around) => requireUser(request, around), {}, ALICES_TOKEN);
    assert.equal(given.body.code, "database_unavailable");
  }
});
