// Stores an object by a multipart upload. Some of its parts may be stored already. It does not use lib-storage, which joins
// each part from pieces in memory of its own, hashes on the event loop, and cannot resume an upload.

import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { BackupError } from "../../errors.ts";
import type { UploadSession } from "./session.ts";
import { unquoted } from "../etag.ts";
import { openPartHasher } from "../part-hasher.ts";
import type { Part } from "./part-buffers.ts";

/**
 * The type of every object. For an object of several parts, s3api would use the type of the request that completes it.
 */
export const CONTENT_TYPE = "application/octet-stream";

/** Sends the parts, several at a time, and makes the object of them. */
export async function sendParts(session: UploadSession, parts: AsyncIterable<Part>, client: S3Client): Promise<void> {
  session.beginMultipart(session.resumable?.upload.uploadId ?? (await createUpload(session, client)));
  const { concurrency, partsInMemory } = session.options;
  const hasher = openPartHasher(partsInMemory - concurrency);
  const inFlight = new Set<Promise<void>>();
  try {
    for await (const part of parts) {
      session.countPart(part);
      const sent = sendPart(session, part, hasher.md5(part.data), client)
        .catch((error: unknown) => session.fail({ error, ofBody: false }))
        .finally(() => {
          part.release();
          inFlight.delete(sent);
        });
      inFlight.add(sent);
      if (part.isLast) hasher.flush();
      while (inFlight.size >= partsInMemory) await Promise.race(inFlight);
    }
  } catch (error) {
    session.fail({ error, ofBody: false });
    hasher.flush();
  }
  await Promise.all(inFlight);
  session.throwIfFailed();
  await complete(session, client);
}

async function createUpload({ store, key, options }: UploadSession, client: S3Client): Promise<string> {
  const wanted = { Bucket: store.container, Key: key, ContentType: CONTENT_TYPE, Metadata: { ...options.metadata } };
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(wanted));
  if (UploadId === undefined) throw new BackupError("INTERNAL", `the store gives no id for an upload of '${key}'`);
  return UploadId;
}

async function sendPart(session: UploadSession, part: Part, hashed: Promise<Buffer>, client: S3Client): Promise<void> {
  const { partBytes, concurrency: most } = session.options;
  const md5 = await hashed;
  if (!session.isAlreadyUploaded(part, md5)) {
    const send = async (): Promise<string | undefined> => uploadPart(session, part, md5, client);
    const etag = await session.store.parallelism.withPart({ partBytes, most }, send);
    checkPart(session, part, { md5, etag });
  }
  session.recordStored(part.data);
}

/** The store's answer: the part's ETag. */
async function uploadPart(
  session: UploadSession,
  part: Part,
  md5: Buffer,
  client: S3Client,
): Promise<string | undefined> {
  // Something else may have failed while this part waited.
  session.stopped.throwIfAborted();
  const { store, key, uploadId } = session;
  const which = { Bucket: store.container, Key: key, UploadId: uploadId ?? "", PartNumber: part.number };
  const { ETag } = await client.send(
    new UploadPartCommand({ ...which, Body: part.data, ContentMD5: md5.toString("base64") }),
  );
  return ETag;
}

/** @param md5 - of the part; `etag` is the store's answer. @throws ARCHIVE_DAMAGED */
function checkPart(
  { key }: UploadSession,
  { number: part }: Part,
  { md5, etag }: { readonly md5: Buffer; readonly etag: string | undefined },
): void {
  const [expected, found] = [md5.toString("hex"), unquoted(etag)];
  if (found === expected) return;
  throw new BackupError("ARCHIVE_DAMAGED", `the store has not kept part ${String(part)} of '${key}' as it was sent`, {
    hint: "nothing was stored; if it happens again, do not trust the store",
    context: { key, part, expected, found },
  });
}

async function complete(session: UploadSession, client: S3Client): Promise<void> {
  const { store, key } = session;
  const { uploadId, parts } = session.commit();
  const { ETag } = await client.send(
    new CompleteMultipartUploadCommand({
      Bucket: store.container,
      Key: key,
      UploadId: uploadId,
      MultipartUpload: { Parts: [...parts] },
      // The way to create an object only where there is none that every Swift has.
      IfNoneMatch: "*",
    }),
  );
  session.recordCommitted(unquoted(ETag));
}
