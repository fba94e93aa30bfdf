// swift/: the edge to the network. It knows a container and its objects: names, bytes, ETags and metadata; which requests
// are retried, and what a refusal of the store means. No other room imports @aws-sdk. It does not know snapshots, chains,
// plans, send streams, or the content of an object.
//
// Here: the real implementation of the container's port, composed of the requests in the other files.

import { setMaxListeners } from "node:events";
import { openClients, type Credentials } from "./client.ts";
import type { Log } from "./retry-strategy.ts";
import { isClockOff } from "../plan/clock.ts";
import { PARTS_HASHED_TOGETHER } from "../plan/layout.ts";
import { makeContact, type Contact } from "./connect.ts";
import { peekObject, readObject } from "./download.ts";
import { describeClockSkew, translate } from "./errors.ts";
import { bodyMatches, digestsEtags } from "./etag.ts";
import type { Network } from "./http.ts";
import { removeUpload } from "./leftovers.ts";
import { openPartHasher } from "./part-hasher.ts";
import { openReadMemory } from "./read-memory.ts";
import { readFeatures } from "./server-info.ts";
import { deleteObject, headObject, listObjects } from "./objects.ts";
import { openParallelism } from "./upload/parallelism.ts";
import { openBufferPool } from "./upload/part-buffers.ts";
import { findOpenParts, listUploads } from "./upload/open-uploads.ts";
import type { Store } from "./context.ts";
import { putObject } from "./upload/upload.ts";
import type { Container } from "../operations/store-ports.ts";

export interface ContainerOptions {
  readonly containerName: string;
  /** URL of the S3 API. */
  readonly endpoint: string;
  /** Null: the region that the store reports. */
  readonly region: string | null;
  /** The first attempt, when no region is configured. */
  readonly likelyRegion?: string | null;
  /** Null: the SDK looks for them in its files and profiles. */
  readonly credentials: Credentials | null;
  /** In those files; null or absent: the one in force there. */
  readonly profile?: string | null;
  /** Absent: no proxy, and only Node's own certificate authorities are trusted. */
  readonly network?: Network;
  /** Advice for when the store refuses the keys. */
  readonly refusalHint?: string | undefined;
  /** `name/version` */
  readonly userAgent: string;
  /** How long a failed request is retried. */
  readonly retryForMs: number;
  /** How long the very first one is; by default seconds. */
  readonly contactForMs?: number | undefined;
  /** Limit for all uploads together; absent or null = no limit. */
  readonly uploadBytesPerSecond?: number | null;
  /** The most connections on which one object is read at once. */
  readonly connections: number;
  /** The time without a byte after which a connection is closed; by default one minute. */
  readonly stallMs?: number;
  /** How long a part that was read waits for others to be hashed with; by default two seconds. */
  readonly readWaitMs?: number;
}

const STALL_MS = 60_000;

/** Nobody waits for the MD5 of a part that was read before the end. */
const READ_WAIT_MS = 2_000;

/**
 * The container, after a check that it can be used.
 * @throws CONFIG, CONTAINER_MISSING, ACCESS_DENIED, STORE_UNAVAILABLE, ABORTED
 */
export async function openContainer(
  options: ContainerOptions,
  log: Log | undefined,
  signal: AbortSignal,
): Promise<Container> {
  // Each request in flight listens to it; Node treats more than ten listeners as a leak, and warns on stderr.
  setMaxListeners(0, signal);
  const { containerName: container, retryForMs, stallMs = STALL_MS, refusalHint } = options;
  const { uploadBytesPerSecond = null } = options;
  const settings = { ...options, stallMs, uploadBytesPerSecond, log };
  const contact = await makeContact(settings, signal);
  const { endpoint } = contact;
  warnOfClock(contact, log);
  const { limits, conditionalPut } = await readFeatures(endpoint, options.network, signal);
  const { client, bind, close } = openClients({ ...settings, ...contact, keysHaveWorked: true });
  const proxy = options.network?.describeProxy(endpoint) ?? null;
  const translateHere: Store["translate"] = (error, requestSignal, key) =>
    translate(error, { endpoint, container, key, refusalHint, proxy, keysHaveWorked: true, signal: requestSignal });
  const memories = openBufferPool();
  const parallelism = openParallelism(() => performance.now(), log);
  const now = (): number => Date.now() + client.config.systemClockOffset;
  const creation = { byPut: conditionalPut };
  const of = { client, bind, container, limits, retryForMs, memories, parallelism, log, ...readingOn(options) };
  const segments = { areReadable: false };
  const store: Store = { ...of, creation, segments, now, translate: translateHere };
  return {
    name: container,
    limits,
    list: async (prefix, requestSignal) => listObjects(store, prefix, requestSignal),
    head: async (key, requestSignal) => headObject(store, key, requestSignal),
    peek: async (key, length, requestSignal) => peekObject(store, { key, start: 0, length }, requestSignal),
    get: (object, partBytes, requestSignal) => readObject(store, object, partBytes, requestSignal),
    put: async (key, body, putOptions, requestSignal) =>
      putObject(store, { key, body, options: putOptions }, requestSignal),
    findOpenParts: async (key, requestSignal) => findOpenParts(store, key, requestSignal),
    uploadRate: () => slowest(uploadBytesPerSecond, parallelism.rate()),
    isSentAs: (etag, digests) => digestsEtags(digests).includes(etag),
    matches: async (object, partBytes, body) => bodyMatches(object, partBytes, body),
    delete: async (key, requestSignal) => deleteObject(store, key, requestSignal),
    openUploads: async (prefix, requestSignal) => listUploads(store, prefix, requestSignal),
    removeUpload: async (upload, olderThanMs, requestSignal) => removeUpload(store, upload, olderThanMs, requestSignal),
    now,
    close,
  };
}

/**
 * Shared by all reads. Beside a block on each connection, there is memory for one that is hashed: so no more of them than
 * there are connections may wait for each other.
 */
function readingOn({
  connections,
  readWaitMs = READ_WAIT_MS,
}: ContainerOptions): Pick<Store, "connections" | "readMemory" | "partHasher"> {
  const partHasher = openPartHasher(Math.min(PARTS_HASHED_TOGETHER, connections), readWaitMs);
  return { connections, readMemory: openReadMemory(connections + 1), partHasher };
}

function slowest(limit: number | null, measured: number | null): number | null {
  return limit === null || measured === null ? (limit ?? measured) : Math.min(limit, measured);
}

/** Requests carry the store's time, so the store still accepts them; other dates that are made here do not. */
function warnOfClock({ clockOffsetMs }: Contact, log: Log | undefined): void {
  if (!isClockOff(clockOffsetMs)) return;
  const clock = `this machine's clock is ${describeClockSkew(-clockOffsetMs)}`;
  log?.warn({ clockOffsetMs }, `${clock}: set it right, by NTP for example`);
}
