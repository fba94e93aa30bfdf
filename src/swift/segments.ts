// Swift keeps objects that were stored in parts in a container of its own. A user who may read the container and not
// that one gets, for every archive, the answer for an archive that has lost its parts (BrokenMPU). If
// the user can list the account, or read another such object, the archive has lost its parts.

import { GetObjectCommand, ListBucketsCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import type { Store } from "./context.ts";
import { isBroken, isRefusal } from "./error-facts.ts";

/** How many other archives to try before concluding that none can be read. */
const TRIED = 4;

/** Explains why the store cannot put an object together. @throws STORE_UNAVAILABLE, ABORTED */
export async function explainBroken(
  error: unknown,
  store: Store,
  key: string,
  signal: AbortSignal,
): Promise<BackupError> {
  if (store.segments.areReadable || (await areReadable(store, key, signal))) {
    store.segments.areReadable = true;
    return store.translate(error, signal, key);
  }
  const { container } = store;
  return new BackupError(
    "ACCESS_DENIED",
    `these credentials have no right to read '${container}+segments', where the bytes of '${key}' are`,
    {
      hint: `have the user added to the read ACL of the container '${container}+segments', as to that of '${container}'`,
      context: { container, key },
      cause: store.translate(error, signal, key),
    },
  );
}

async function areReadable(store: Store, key: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await mayReadAccount(store, signal)) || (await canReadAnother(store, key, signal));
  } catch (error) {
    throw store.translate(error, signal, key);
  }
}

/** A user who may list the account's containers may read all of them: no ACL of a container gives that right. */
async function mayReadAccount(store: Store, signal: AbortSignal): Promise<boolean> {
  try {
    await store.client.send(new ListBucketsCommand({}), { abortSignal: signal });
    return true;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

/** Whether the store returns a byte of some other object that was stored in parts. */
async function canReadAnother({ client, container }: Store, key: string, signal: AbortSignal): Promise<boolean> {
  const list = new ListObjectsV2Command({ Bucket: container, MaxKeys: 1000, EncodingType: "url" });
  const { Contents = [] } = await client.send(list, { abortSignal: signal });
  const inParts = Contents.filter(({ ETag = "" }) => ETag.includes("-")).map(({ Key = "" }) => decodeURIComponent(Key));
  for (const other of inParts.filter((each) => each !== key).slice(0, TRIED)) {
    try {
      const get = new GetObjectCommand({ Bucket: container, Key: other, Range: "bytes=0-0" });
      const { Body } = await client.send(get, { abortSignal: signal });
      await Body?.transformToByteArray();
      return true;
    } catch (error) {
      if (!isBroken(error) && !isRefusal(error)) throw error;
    }
  }
  return false;
}
