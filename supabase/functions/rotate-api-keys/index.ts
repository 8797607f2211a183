import { endpoint } from "../_shared/endpoint.ts";
import { rotate } from "./rotate.ts";

Deno.serve(endpoint(rotate, { forBrowsers: false }));
