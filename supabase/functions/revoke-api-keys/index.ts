import { endpoint } from "../_shared/endpoint.ts";
import { revoke } from "./revoke.ts";

Deno.serve(endpoint(revoke, { forBrowsers: true }));
