// Stores one stream in the container, as one object or as volumes with the manifest last. It resumes what an earlier
// run left, and starts again if that is not the beginning of the stream of this run. It encodes each object for itself,
// so that common tools read any of them, and so that an encrypted volume that is completely stored is not sent again.
//
// Volumes have the same keys in every run, on every machine with this subvolume. So a volume is deleted only to be
// replaced, or when no volume has its number any more; and only after a HEAD has shown that no archive that could need
// it is under the archive's key.

import type { Readable } from "node:stream";
import { forgetProof, storeProof } from "./proof.ts";
import type { Container, Stored } from "./store-ports.ts";
import { bodyOf, metadataOf, putOptions, removeVolumes, type Storing } from "./object-to-store.ts";
import { storeVolumes } from "./write-volumes.ts";

/**
 * Stores the complete stream, or nothing that looks like an archive.
 * @throws RESUME_REFUSED, STREAM_TOO_LONG, errors of `Container.put`, and any error that the body is destroyed with
 */
export async function storeArchive(
  plain: Readable,
  storing: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step, layout, onProgress } = storing;
  await forgetProof(step.key, container, signal);
  if (layout.volumeBytes !== null || step.replaces !== undefined)
    return await storeVolumes(plain, storing, container, signal);
  const metadata = metadataOf(storing, null);
  const options = putOptions({ storing, metadata, onProgress });
  const resume = options.resume === true && storing.openParts !== null;
  const body = await bodyOf(plain, storing, signal);
  const stored = await container.put(step.key, body, { ...options, resume }, signal);
  await forgetVolumes(stored, storing, container, signal);
  await storeProof({ key: step.key, layout, metadata, stored }, container, signal);
  return stored;
}

/**
 * Deletes the volumes of an earlier run that needed several objects: nobody would see them beside a complete archive.
 * Not worth a failure.
 */
async function forgetVolumes(
  { etag }: Stored,
  { step, checkpoints }: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  // Nothing else can be stored under a key that is taken, so nobody will need them.
  const isOurs = async (): Promise<boolean> => (await container.head(step.key, signal))?.etag === etag;
  await removeVolumes(step, { but: [], when: isOurs }, container, signal).catch(() => undefined);
  await checkpoints.forget();
}
