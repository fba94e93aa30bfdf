// Requests about one object or one listing. Each obeys its signal, and throws a BackupError.

import {
  DeleteObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
} from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import { unquoted } from "./etag.ts";
import type { Store } from "./context.ts";
import type { ObjectDetails, StoredObject } from "../operations/store-ports.ts";
import { isMissing, isMuteRefusal } from "./error-facts.ts";

/** Every object under a prefix, in the store's order: that of UTF-8 bytes. @throws CONTAINER_MISSING, STORE_UNAVAILABLE */
export async function listObjects(store: Store, prefix: string, signal: AbortSignal): Promise<readonly StoredObject[]> {
  const objects: StoredObject[] = [];
  let token: string | undefined;
  do {
    const page = await listPage(store, prefix, token, signal);
    for (const entry of page.Contents ?? []) objects.push(parseListed(entry));
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return objects;
}

/** How often a HEAD may be refused without a reason while listings are not. */
const MUTE_REFUSALS = 3;

/** Whether a listing names an object; listings lag behind, both ways. @throws as {@link listObjects} */
export async function isListed(store: Store, key: string, signal: AbortSignal): Promise<boolean> {
  return (await findListed(store, key, signal)) !== null;
}

async function findListed(store: Store, key: string, signal: AbortSignal): Promise<StoredObject | null> {
  // Among all keys that begin with this one, it is the first.
  const command = new ListObjectsV2Command({ Bucket: store.container, Prefix: key, MaxKeys: 1, EncodingType: "url" });
  try {
    const page = await store.client.send(command, { abortSignal: signal });
    return page.Contents?.map(parseListed).find((entry) => entry.key === key) ?? null;
  } catch (error) {
    throw store.translate(error, signal);
  }
}

/**
 * Whether an object is one that `swift upload --segment-size` makes of segments by their common prefix. Its ETag looks
 * like the MD5 of its content and is another. A listing shows it: in a listing, such an object is empty.
 */
export async function isDynamicLarge(
  store: Store,
  { key, bytes, etag }: StoredObject,
  signal: AbortSignal,
): Promise<boolean> {
  if (bytes === 0 || !/^[0-9a-f]{32}$/.test(etag)) return false;
  const listed = await findListed(store, key, signal);
  return listed?.bytes === 0;
}

/** Null when there is no such object. @throws ACCESS_DENIED, STORE_UNAVAILABLE */
export async function headObject(store: Store, key: string, signal: AbortSignal): Promise<ObjectDetails | null> {
  for (let refusals = 1; ; refusals += 1) {
    try {
      return await askHead(store, key, signal);
    } catch (error) {
      if (isMissing(error)) return null;
      if (!isMuteRefusal(error) || refusals > MUTE_REFUSALS) throw store.translate(error, signal, key);
      await askForReason(store, signal);
    }
  }
}

async function askHead(store: Store, key: string, signal: AbortSignal): Promise<ObjectDetails> {
  const command = new HeadObjectCommand({ Bucket: store.container, Key: key });
  const found = await store.client.send(command, { abortSignal: signal });
  return {
    key,
    bytes: found.ContentLength ?? 0,
    modified: found.LastModified ?? new Date(0),
    etag: unquoted(found.ETag),
    metadata: found.Metadata ?? {},
  };
}

/**
 * A refused listing gives the reason, which no HEAD can, and is retried when the failure may pass. @throws
 * ACCESS_DENIED, STORE_UNAVAILABLE
 */
async function askForReason(store: Store, signal: AbortSignal): Promise<void> {
  try {
    await store.client.send(new ListObjectsV2Command({ Bucket: store.container, MaxKeys: 1, EncodingType: "url" }), {
      abortSignal: signal,
    });
  } catch (error) {
    throw store.translate(error, signal);
  }
}

/** Succeeds too when there is no such object. @throws ACCESS_DENIED, STORE_UNAVAILABLE */
export async function deleteObject(store: Store, key: string, signal: AbortSignal): Promise<void> {
  try {
    await store.client.send(new DeleteObjectCommand({ Bucket: store.container, Key: key }), { abortSignal: signal });
  } catch (error) {
    throw store.translate(error, signal, key);
  }
}

async function listPage(
  store: Store,
  prefix: string,
  token: string | undefined,
  signal: AbortSignal,
): Promise<ListObjectsV2CommandOutput> {
  const command = new ListObjectsV2Command({
    Bucket: store.container,
    Prefix: prefix,
    ContinuationToken: token,
    // One key with a control character would make every other kind of listing fail with 500 (measured on 2.30).
    EncodingType: "url",
  });
  try {
    return await store.client.send(command, { abortSignal: signal });
  } catch (error) {
    throw store.translate(error, signal);
  }
}

interface ListedObject {
  readonly Key?: string | undefined;
  readonly Size?: number | undefined;
  readonly LastModified?: Date | undefined;
  readonly ETag?: string | undefined;
}

function parseListed({ Key, Size, LastModified, ETag }: ListedObject): StoredObject {
  if (Key === undefined || Size === undefined || LastModified === undefined) {
    throw new BackupError("INTERNAL", "a listing of the store is incomplete");
  }
  return { key: decodeURIComponent(Key), bytes: Size, modified: LastModified, etag: unquoted(ETag) };
}
