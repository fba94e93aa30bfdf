// Opens a range of an object: the answer to one request for some of its bytes.

import { Readable } from "node:stream";
import { GetObjectCommand } from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import { unquoted } from "./etag.ts";
import { explainBroken } from "./segments.ts";
import { withTimeout } from "./timeout.ts";
import type { Store } from "./context.ts";
import { isBroken } from "./error-facts.ts";

/** Some bytes of an object, from `start` to before `end`; fewer when it is shorter. */
export interface ByteRange {
  readonly key: string;
  /** Null: the object that is stored at the first request. */
  readonly etag: string | null;
  readonly start: number;
  readonly end: number;
  /** Where the parts of the object end; absent or null when unknown. */
  readonly partBytes?: number | null;
}

/** Bytes of an object as they arrive, with its ETag and its total size. */
export interface OpenedBody {
  readonly body: Readable;
  readonly etag: string | null;
  readonly bytes: number;
}

/** How long the store may fail to return a range of several parts, before the first of them is asked for alone. */
const TOGETHER_MS = 5_000;

/**
 * Opens a range, or its first part alone where the store cannot return all of it. When the second of two parts is
 * missing, Swift (2.30) answers 500 to every request for the end of the first and what follows, forever; for the second
 * alone, it says what is wrong. @throws ARCHIVE_MISSING, ARCHIVE_DAMAGED, STORE_UNAVAILABLE, ABORTED
 */
export async function openRange(store: Store, range: ByteRange, signal: AbortSignal): Promise<OpenedBody> {
  const { start, end, partBytes = null } = range;
  const partEnd = partBytes === null ? end : start - (start % partBytes) + partBytes;
  if (partEnd >= end) return await openBody(store, range, signal);
  const waited = { tooLong: false };
  try {
    const opened = await withTimeout(Math.min(TOGETHER_MS, store.retryForMs / 2), signal, async (patience) => {
      patience.addEventListener("abort", () => (waited.tooLong = true));
      return await openBody(store, range, patience);
    });
    endWith(signal, opened.body);
    return opened;
  } catch (error) {
    if (!waited.tooLong || signal.aborted) throw error;
    return await openBody(store, { ...range, end: partEnd }, signal);
  }
}

/** Ends a body with the signal: that of its request ends nothing any more once the answer is there. */
function endWith(signal: AbortSignal, body: Readable): void {
  const end = (): void => void body.destroy();
  signal.addEventListener("abort", end, { once: true });
  body.once("close", () => signal.removeEventListener("abort", end));
  if (signal.aborted) end();
}

async function openBody(store: Store, { key, etag, start, end }: ByteRange, signal: AbortSignal): Promise<OpenedBody> {
  const asked = { Bucket: store.container, Key: key, Range: `bytes=${String(start)}-${String(end - 1)}` };
  const condition = etag === null ? {} : { IfMatch: `"${etag}"` };
  try {
    const response = await store.client.send(new GetObjectCommand({ ...asked, ...condition }), { abortSignal: signal });
    const [, first, bytes] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.ContentRange ?? "") ?? [];
    if (!(response.Body instanceof Readable)) throw new BackupError("INTERNAL", "an answer of the store is no stream");
    if (Number(first) !== start) {
      response.Body.destroy();
      throw unranged(store, key);
    }
    const found = response.ETag === undefined ? null : unquoted(response.ETag);
    if (found?.includes("-") === true) store.segments.areReadable = true;
    return { body: response.Body, etag: etag ?? found, bytes: Number(bytes) };
  } catch (error) {
    throw isBroken(error) ? await explainBroken(error, store, key, signal) : store.translate(error, signal, key);
  }
}

function unranged(store: Store, key: string): BackupError {
  return new BackupError("STORE_UNAVAILABLE", "the store does not answer requests for a part of an object", {
    context: { key, container: store.container },
  });
}
