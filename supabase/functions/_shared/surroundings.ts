/** What a function has of the world: its settings, the network and the time. Tests bring their own. */

import { Refusal } from "./answers.ts";

export interface Surroundings {
  setting(name: string): string | undefined;
  fetch(url: string, request: RequestInit): Promise<Response>;
  /** Unix milliseconds. */
  now(): number;
}

export const PLATFORM: Surroundings = {
  setting: (name) => Deno.env.get(name),
  fetch: (url, request) => fetch(url, request),
  now: () => Date.now(),
};

/** A setting that must be there. The platform sets those that begin with SUPABASE_ by itself. */
export function required(around: Surroundings, name: string): string {
  const value = around.setting(name);
  if (!value) {
    throw new Refusal("not_configured", `The project's operator must set ${name} for its functions.`);
  }
  return value;
}
