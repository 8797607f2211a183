import { endpoint } from "../_shared/endpoint.ts";
import { decrypt } from "./decrypt.ts";

Deno.serve(endpoint(decrypt, { forBrowsers: false }));
