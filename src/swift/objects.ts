// The requests that are one question and one answer. Each obeys its signal and throws what the error means.

import {
  DeleteObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
} from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import type { ObjectDetails, StoredObject } from "../operations/edges.ts";
import { isMissing } from "./errors.ts";
import { unquoted } from "./etag.ts";
import type { Store } from "./store.ts";

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

/** Null when there is no such object. @throws ACCESS_DENIED, STORE_UNAVAILABLE */
export async function headObject(store: Store, key: string, signal: AbortSignal): Promise<ObjectDetails | null> {
  try {
    const found = await store.client.send(new HeadObjectCommand({ Bucket: store.container, Key: key }), {
      abortSignal: signal,
    });
    return {
      key,
      bytes: found.ContentLength ?? 0,
      modified: found.LastModified ?? new Date(0),
      etag: unquoted(found.ETag),
      metadata: found.Metadata ?? {},
    };
  } catch (error) {
    if (isMissing(error)) return null;
    throw store.translate(error, signal, key);
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
}

function parseListed({ Key, Size, LastModified }: ListedObject): StoredObject {
  if (Key === undefined || Size === undefined || LastModified === undefined) {
    throw new BackupError("INTERNAL", "a listing of the store is incomplete");
  }
  return { key: decodeURIComponent(Key), bytes: Size, modified: LastModified };
}
