/** The operator has made another data key current: everything is encrypted anew with it, and stays the same keys. */

import { requireServiceRole } from "../_shared/callers.ts";
import type { Exchange, Mode } from "../_shared/credential.ts";
import { DataKeys, Unreadable } from "../_shared/data_keys.ts";
import { call, rows } from "../_shared/project.ts";
import type { Surroundings } from "../_shared/surroundings.ts";

interface Row {
  readonly id: string;
  readonly user_id: string;
  readonly exchange: Exchange;
  readonly mode: Mode;
  readonly api_key_ciphertext: string;
  readonly secret_ciphertext: string;
  readonly key_version: number;
  readonly version: number;
}

const COLUMNS = "id,user_id,exchange,mode,api_key_ciphertext,secret_ciphertext,key_version,version";
const PAGE = 200;
const FIRST = "00000000-0000-0000-0000-000000000000";

export async function rotate(
  request: Request,
  around: Surroundings,
): Promise<{ keyVersion: number; reencrypted: number; unreadable: string[] }> {
  await requireServiceRole(request, around);
  const dataKeys = await DataKeys.read(around);
  const unreadable: string[] = [];
  let reencrypted = 0;
  for (let page = await rowsAfter(FIRST, dataKeys, around); page.length > 0;) {
    const changes = await Promise.all(page.map((row) => anew(row, dataKeys)));
    unreadable.push(...changes.filter((one) => !one.readable).map((one) => one.id));
    const done = await call(around, "reencrypt_credentials", { p_rows: changes }) as { reencrypted: number };
    reencrypted += done.reencrypted;
    page = await rowsAfter(page.at(-1)!.id, dataKeys, around);
  }
  return { keyVersion: dataKeys.current, reencrypted, unreadable };
}

async function rowsAfter(id: string, dataKeys: DataKeys, around: Surroundings): Promise<Row[]> {
  return await rows(around, "exchange_credentials", {
    select: COLUMNS,
    id: `gt.${id}`,
    key_version: `neq.${dataKeys.current}`,
    order: "id",
    limit: String(PAGE),
  }) as unknown as Row[];
}

async function anew(row: Row, dataKeys: DataKeys): Promise<{ id: string; readable: boolean }> {
  const place = { userId: row.user_id, exchange: row.exchange, mode: row.mode };
  try {
    const keys = await dataKeys.open(place, {
      apiKeyCiphertext: row.api_key_ciphertext,
      secretCiphertext: row.secret_ciphertext,
      keyVersion: row.key_version,
    });
    const sealed = await dataKeys.seal(place, keys);
    const written = {
      from_key_version: row.key_version,
      version: row.version,
      api_key_ciphertext: sealed.apiKeyCiphertext,
      secret_ciphertext: sealed.secretCiphertext,
      key_version: sealed.keyVersion,
    };
    return { id: row.id, readable: true, ...written };
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return { id: row.id, readable: false };
  }
}
