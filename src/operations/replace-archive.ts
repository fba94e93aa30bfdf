// Replaces an archive by volumes that are stored beside it. The decision is written down first: see plan/replacement.ts.
// A run that ends after it leaves the old archive, or the new one, or neither under the key while the decision and the new
// volumes are there; then the next run that looks at the archive, on any machine, stores the new one.

import { Readable } from "node:stream";
import { BackupError, toBackupError } from "../errors.ts";
import { parseKey } from "../plan/key.ts";
import type { Layout } from "../plan/layout.ts";
import { formatManifest, volumeNumberOf } from "../plan/manifest.ts";
import type { Key } from "../plan/model.ts";
import {
  formatReplacement,
  formatReplacementKey,
  MAX_REPLACEMENT_BYTES,
  parseReplacement,
  replacedAmong,
  type Replacement,
} from "../plan/replacement.ts";
import { assertPresent } from "./archive-body.ts";
import { forgetProof, storeProof } from "./proof.ts";
import type { Reading } from "./read-archive.ts";
import { readText, storeText } from "./small-object.ts";
import type { Container, ObjectDetails, Stored, StoredObject } from "./store-ports.ts";

/** @throws STEP_FAILED when the store has deleted only a part of the old archive; ARCHIVE_DAMAGED, ALREADY_ARCHIVED */
export async function replaceArchive(
  key: Key,
  replacement: Replacement,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const text = formatReplacement(replacement, formatManifest(replacement.volumes, key));
  await storeText({ key: formatReplacementKey(key), text }, container, signal);
  return await finish(key, replacement, container, signal);
}

/**
 * Lists the objects under a prefix, after it has stored the new archives of replacements that were interrupted when the old
 * ones had been deleted.
 */
export async function listFinished(
  prefix: string,
  reading: Reading,
  signal: AbortSignal,
): Promise<readonly StoredObject[]> {
  const objects = await reading.container.list(prefix, signal);
  const finished = await finishReplacements(objects, reading, signal);
  const keys = new Set(finished.map(({ key }) => key));
  return [...objects.filter(({ key }) => !keys.has(key)), ...finished];
}

/** Returns what a listing may not show yet. */
async function finishReplacements(
  objects: readonly StoredObject[],
  { container, onFinding }: Reading,
  signal: AbortSignal,
): Promise<readonly ObjectDetails[]> {
  const finished: ObjectDetails[] = [];
  for (const replaced of replacedAmong(objects.map((object) => object.key))) {
    const key = parseKey(replaced)?.key;
    if (key === undefined) continue;
    const text = await readText(formatReplacementKey(key), MAX_REPLACEMENT_BYTES, container, signal);
    const replacement = text === null ? null : parseReplacement(text, key);
    if (replacement === null) continue;
    const there = await container.head(key, signal);
    // The old archive is complete. The next rebase of it goes on.
    if (there?.etag === replacement.replaces) continue;
    try {
      if (there === null) await finish(key, replacement, container, signal);
      else if (isOf(there, replacement)) await cleanUp(key, replacement, container, signal);
    } catch (error) {
      const { code, message } = toBackupError(error);
      if (code !== "ARCHIVE_DAMAGED" && code !== "ACCESS_DENIED" && code !== "ALREADY_ARCHIVED") throw error;
      if (there !== null) continue;
      const found = `the archive ${key} was about to be replaced when a run was interrupted, and is missing: ${message}`;
      onFinding?.({ code: "ARCHIVE_MISSING", severity: "warning", subject: key, message: found });
    }
    const object = there ?? (await container.head(key, signal));
    if (object !== null) finished.push(object);
  }
  return finished;
}

async function finish(
  key: Key,
  { replaces, volumes, metadata }: Replacement,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  await assertPresent(volumes, key, container, signal);
  if ((await container.head(key, signal))?.etag === replaces) {
    await container.delete(key, signal);
    if ((await container.head(key, signal))?.etag === replaces)
      throw new BackupError("STEP_FAILED", `the store has deleted only a part of the old archive ${key}`, {
        hint: "use the same command again",
        context: { key },
      });
  }
  await forgetProof(key, container, signal);
  const layout = { partBytes: container.limits.minPartBytes, concurrency: 1, partsInMemory: 2, volumeBytes: null };
  const stored = await putManifest(key, { volumes, metadata }, { container, layout }, signal);
  // From now on nobody deletes them; a removal that had already begun is over by now.
  await assertPresent(volumes, key, container, signal);
  await cleanUp(key, { volumes }, container, signal);
  if (stored.md5s.length > 0) await storeProof({ key, layout, metadata, stored }, container, signal);
  return stored;
}

/** True for the object of the new archive. */
function isOf(found: ObjectDetails, { metadata }: Pick<Replacement, "metadata">): boolean {
  return Object.entries(metadata).every(([name, value]) => found.metadata[name] === value);
}

/** Deletes the volumes of the old archive, then the decision. */
async function cleanUp(
  key: Key,
  { volumes }: Pick<Replacement, "volumes">,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const listed = new Set(volumes.map((volume) => volume.key));
  for (const object of await container.list(`${key}/`, signal))
    if (volumeNumberOf(object.key) !== null && !listed.has(object.key)) await container.delete(object.key, signal);
  await container.delete(formatReplacementKey(key), signal);
}

/** Another run may have finished it at the same time. */
async function putManifest(
  key: Key,
  { volumes, metadata }: Pick<Replacement, "volumes" | "metadata">,
  { container, layout }: { readonly container: Container; readonly layout: Layout },
  signal: AbortSignal,
): Promise<Stored> {
  const text = Buffer.from(formatManifest(volumes, key));
  try {
    return await container.put(
      key,
      Readable.from([text], { objectMode: false }),
      { ...layout, metadata, resumable: false },
      signal,
    );
  } catch (error) {
    const found = toBackupError(error).code === "ALREADY_ARCHIVED" ? await container.head(key, signal) : null;
    if (found === null) throw error;
    if (!isOf(found, { metadata })) {
      // Another run has archived the snapshot again, so nothing is missing any more.
      await container.delete(formatReplacementKey(key), signal);
      throw error;
    }
    return { bytes: found.bytes, etag: found.etag, parts: 1, md5s: [], resumedBytes: 0 };
  }
}
