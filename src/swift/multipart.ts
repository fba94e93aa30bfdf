// An object in several parts, some of which may be stored already.
// Not by lib-storage, which joins each part out of pieces in memory of its own, hashes where everything else waits for it,
// and knows of no upload but its own.

import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import { fail, notePart, noteStored, type Attempt } from "./attempt.ts";
import { unquoted } from "./etag.ts";
import type { Part, PartMemory } from "./parts.ts";
import type { StoredPart } from "./resume.ts";

/** What an upload is made with, and its parts are hashed with. */
export interface PartSender {
  readonly client: S3Client;
  readonly memory: PartMemory;
}

/** What every object is. s3api would give one of several parts the type of the request that completes it. */
export const CONTENT_TYPE = "application/octet-stream";

/** Sends the parts, so many at a time, and makes the object of them. */
export async function sendParts(attempt: Attempt, parts: AsyncIterable<Part>, sender: PartSender): Promise<void> {
  attempt.uploadId = attempt.resumable?.upload.uploadId ?? (await begin(attempt, sender.client));
  const inFlight = new Set<Promise<void>>();
  try {
    for await (const part of parts) {
      notePart(attempt, part);
      const hashed = sender.memory.md5(part.data);
      // It is waited for below; until then nobody may call it unheard.
      hashed.catch(() => undefined);
      while (inFlight.size >= attempt.options.concurrency) await Promise.race(inFlight);
      const flight = sendPart(attempt, part, hashed, sender.client)
        .catch((error: unknown) => fail(attempt, { error, ofBody: false }))
        .finally(() => {
          part.release();
          inFlight.delete(flight);
        });
      inFlight.add(flight);
    }
  } catch (error) {
    fail(attempt, { error, ofBody: false });
  }
  await Promise.all(inFlight);
  if (attempt.failure !== null) throw attempt.failure.error;
  await complete(attempt, sender.client);
}

async function begin({ store, key, options }: Attempt, client: S3Client): Promise<string> {
  const wanted = { Bucket: store.container, Key: key, ContentType: CONTENT_TYPE, Metadata: { ...options.metadata } };
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(wanted));
  if (UploadId === undefined) throw new BackupError("INTERNAL", `the store gives no id for an upload of '${key}'`);
  return UploadId;
}

async function sendPart(attempt: Attempt, { number, data }: Part, hashed: Promise<Buffer>, client: S3Client): Promise<void> {
  const { store, key, uploadId } = attempt;
  const md5 = await hashed;
  attempt.md5s.set(number, md5);
  if (isThere(attempt, number, { etag: md5.toString("hex"), bytes: data.length })) {
    attempt.resumedBytes += data.length;
  } else {
    const which = { Bucket: store.container, Key: key, UploadId: uploadId ?? "", PartNumber: number };
    const { ETag } = await client.send(new UploadPartCommand({ ...which, Body: data, ContentMD5: md5.toString("base64") }));
    checkPart(attempt, number, ETag);
  }
  noteStored(attempt, data.length);
}

/**
 * Whether a part need not be sent. Parts come here in order, as their MD5s do; from the first on that is not what is
 * stored all are sent, so that no object is the beginning of one run and the end of another.
 */
function isThere(attempt: Attempt, number: number, part: StoredPart): boolean {
  const stored = attempt.resumable?.parts.get(number);
  if (stored === undefined || attempt.differs) return false;
  if (stored.etag === part.etag && stored.bytes === part.bytes) return true;
  // The first part says whose stream it is, and so which metadata the upload was begun with.
  if (number === 1) throw resumeRefused(attempt.key);
  attempt.differs = true;
  return false;
}

function checkPart({ md5s, key }: Attempt, part: number, etag: string | undefined): void {
  const [expected, found] = [md5s.get(part)?.toString("hex"), unquoted(etag)];
  if (found === expected) return;
  throw new BackupError("ARCHIVE_DAMAGED", `the store has not kept part ${String(part)} of '${key}' as it was sent`, {
    hint: "nothing was stored; if it happens again, distrust the store",
    context: { key, part, expected, found },
  });
}

async function complete(attempt: Attempt, client: S3Client): Promise<void> {
  const { store, key, uploadId, md5s } = attempt;
  refuseLeftovers(attempt);
  const numbers = [...md5s.keys()].toSorted((a, b) => a - b);
  const Parts = numbers.map((number) => ({ PartNumber: number, ETag: `"${md5s.get(number)?.toString("hex") ?? ""}"` }));
  attempt.committing = true;
  const { ETag } = await client.send(
    new CompleteMultipartUploadCommand({
      Bucket: store.container,
      Key: key,
      UploadId: uploadId ?? "",
      MultipartUpload: { Parts },
      // Swift's only way to create an object only where there is none; a PutObject that asks for it is refused (501).
      IfNoneMatch: "*",
    }),
  );
  attempt.committedEtag = unquoted(ETag);
}

/** Parts behind the end of this body would stay in the store for ever, and nobody would see them. */
function refuseLeftovers({ resumable, md5s, key }: Attempt): void {
  if (resumable !== null && Math.max(...resumable.parts.keys()) > md5s.size) throw resumeRefused(key);
}

function resumeRefused(key: string): BackupError {
  return new BackupError("RESUME_REFUSED", `what was stored of '${key}' before is not the beginning of what it is now`, {
    context: { key },
  });
}
