import { endpoint } from "../_shared/endpoint.ts";
import { store } from "./store.ts";

Deno.serve(endpoint(store, { forBrowsers: true }));
