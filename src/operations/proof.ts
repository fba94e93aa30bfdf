// Keeps and reads what proves an archive's bytes when its ETag does not: see plan/proof.ts.

import { createHash } from "node:crypto";
import { toBackupError } from "../errors.ts";
import type { Layout } from "../plan/layout.ts";
import type { Key } from "../plan/model.ts";
import { formatProof, formatProofKey, HEAD_BYTES, MAX_PROOF_BYTES, parseProof, type Proof } from "../plan/proof.ts";
import { storeText } from "./small-object.ts";
import type { Container, ObjectDetails, Stored } from "./store-ports.ts";

/** An object stored under a key. */
export interface ProvenObject {
  readonly key: Key;
  readonly layout: Layout;
  readonly metadata: Readonly<Record<string, string>>;
  readonly stored: Stored;
}

/**
 * Stores the proof of an archive. The archive is complete without it, so neither a failure nor a stop of the run is
 * reported.
 */
export async function storeProof(object: ProvenObject, container: Container, signal: AbortSignal): Promise<void> {
  await tryToStore(object, container, signal).catch(() => undefined);
}

async function tryToStore(
  { key, layout, metadata, stored }: ProvenObject,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const text = formatProof({
    bytes: stored.bytes,
    partBytes: layout.partBytes,
    md5s: stored.md5s.map((md5) => md5.toString("hex")),
    head: await hashHead(key, container, signal),
    metadata,
  });
  // One that an archive before it has left under this key is replaced.
  await storeText({ key: formatProofKey(key), text, layout }, container, signal);
}

/**
 * Deletes the proof of an archive that is gone, before another one is stored under its key. Otherwise the old proof
 * would count for copies of the new archive, if its own proof were never stored. Not worth a failure.
 */
export async function forgetProof(key: Key, container: Container, signal: AbortSignal): Promise<void> {
  const proofKey = formatProofKey(key);
  const isStale = async (): Promise<boolean> =>
    (await container.head(proofKey, signal)) !== null && (await container.head(key, signal)) === null;
  await isStale()
    .then(async (stale) => (stale ? await container.delete(proofKey, signal) : undefined))
    .catch(() => undefined);
}

/** The proof of an archive; null when there is none that could be read, or it is of another one. */
export async function readProof(
  object: Pick<ObjectDetails, "key" | "etag">,
  container: Container,
  signal: AbortSignal,
): Promise<Proof | null> {
  try {
    const text = await container.peek(formatProofKey(object.key), MAX_PROOF_BYTES, signal);
    const proof = parseProof(text.toString());
    return proof !== null && (await isProofOf(proof, object, container, signal)) ? proof : null;
  } catch (error) {
    const failure = toBackupError(error);
    if (failure.code === "ARCHIVE_MISSING" || failure.code === "ARCHIVE_DAMAGED") return null;
    throw failure;
  }
}

/** False when an archive has left it that was under this key before. */
async function isProofOf(
  proof: Proof,
  { key, etag }: Pick<ObjectDetails, "key" | "etag">,
  container: Container,
  signal: AbortSignal,
): Promise<boolean> {
  return container.isSentAs(etag, proof) || (await hashHead(key, container, signal)) === proof.head;
}

async function hashHead(key: string, container: Container, signal: AbortSignal): Promise<string> {
  return createHash("sha256")
    .update(await container.peek(key, HEAD_BYTES, signal))
    .digest("hex");
}
