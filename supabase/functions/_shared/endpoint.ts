/** The way in and out of every function: one method, bounded JSON, and no failure that tells what it must not. */

import { answer, Refusal } from "./answers.ts";
import { PLATFORM, type Surroundings } from "./surroundings.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** Carries a request out and returns the body of its answer. Raises Refusal. */
export type Verb = (request: Request, around: Surroundings) => Promise<unknown>;

const MOST_CHARACTERS = 8192;
const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "authorization, x-client-info, apikey, content-type, x-region",
  "Access-Control-Allow-Methods": "POST, OPTIONS",
};

/** Makes a handler for Deno.serve. `forBrowsers`: pages of any origin may call it, with their user's token. */
export function endpoint(
  verb: Verb,
  options: { forBrowsers: boolean },
  around: Surroundings = PLATFORM,
): (request: Request) => Promise<Response> {
  const headers = options.forBrowsers ? CORS : {};
  return async (request) => {
    if (options.forBrowsers && request.method === "OPTIONS") {
      return new Response(null, { status: 204, headers });
    }
    try {
      if (request.method !== "POST") {
        throw new Refusal("method_not_allowed", "Send a POST request.");
      }
      return answer(await verb(request, around), 200, headers);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : unexpected(error);
      return answer({ code: refusal.code, message: refusal.message }, refusal.status, headers);
    }
  };
}

/** The fields of a request's JSON body. Raises Refusal. */
export async function fieldsOf(request: Request): Promise<Fields> {
  const text = await boundedText(request);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined; // an error of the parser quotes what it read
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new Refusal("invalid_request", "The body must be a JSON object.");
  }
  return body as Fields;
}

async function boundedText(request: Request): Promise<string> {
  let text = "";
  for await (const part of (request.body ?? new Blob().stream()).pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.length > MOST_CHARACTERS) {
      throw new Refusal("too_large", `The body must not be above ${MOST_CHARACTERS} characters.`);
    }
  }
  return text;
}

function unexpected(error: unknown): Refusal {
  // The kind alone: a message may quote what was being worked on.
  console.error(`unexpected ${error instanceof Error ? error.name : typeof error}`);
  return new Refusal(
    "internal_error",
    "This failed unexpectedly; try again, and tell the project's operator.",
  );
}
