// The reader of the catalogue's lines. It ignores whatever does not look like a line that this program wrote.

import { isCount, isRecord } from "../json.ts";
import { encodings, parseUuid, type Identity, type Lineage } from "../plan/model.ts";
import type { KnownObject, StoredObject } from "../operations/store-ports.ts";

/** One line of the catalogue; null for one of another container or another form. */
export function parseKnown(
  line: unknown,
  scope: string,
): { readonly listed: StoredObject; readonly known: KnownObject } | null {
  if (!isRecord(line) || line["scope"] !== scope || !isRecord(line["known"])) return null;
  const listed = parseObject(line["listed"]);
  const details = parseObject(line["known"]["details"]);
  const metadata = isRecord(line["known"]["details"]) ? parseMetadata(line["known"]["details"]["metadata"]) : null;
  const peeked = parsePeeked(line["known"]["peeked"]);
  if (listed === null || details === null || metadata === null || peeked === undefined || details.key !== listed.key)
    return null;
  return { listed, known: { details: { ...details, metadata }, peeked } };
}

function parseObject(value: unknown): StoredObject | null {
  if (!isRecord(value)) return null;
  const { key, bytes, modified, etag } = value;
  const time = new Date(typeof modified === "string" ? modified : Number.NaN);
  if (typeof key !== "string" || typeof etag !== "string" || !isCount(bytes) || Number.isNaN(time.getTime()))
    return null;
  return { key, bytes, modified: time, etag };
}

function parseMetadata(value: unknown): Record<string, string> | null {
  if (!isRecord(value)) return null;
  const texts = Object.entries(value).flatMap(([name, text]) =>
    typeof text === "string" ? [[name, text] as const] : [],
  );
  return texts.length === Object.keys(value).length ? Object.fromEntries(texts) : null;
}

/** Undefined for anything that this program did not write. */
function parsePeeked(value: unknown): KnownObject["peeked"] | undefined {
  if (value === null) return null;
  if (!isRecord(value)) return undefined;
  const encoding = encodings.find((known) => known === value["encoding"]);
  const lineage = value["lineage"] === null ? null : parseLineage(value["lineage"]);
  return encoding === undefined || lineage === undefined ? undefined : { encoding, lineage };
}

function parseLineage(value: unknown): Lineage | undefined {
  if (!isRecord(value)) return undefined;
  const snapshot = parseIdentity(value["snapshot"]);
  const sendParent = value["sendParent"] === null ? null : parseIdentity(value["sendParent"]);
  return snapshot === undefined || sendParent === undefined ? undefined : { snapshot, sendParent };
}

function parseIdentity(value: unknown): Identity | undefined {
  if (!isRecord(value) || typeof value["uuid"] !== "string" || !isCount(value["ctransid"])) return undefined;
  const uuid = parseUuid(value["uuid"]);
  return uuid === null ? undefined : { uuid, ctransid: value["ctransid"] };
}
