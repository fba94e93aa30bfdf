// The facts that every request needs: the store, the container, and the time limits.

import type { S3Client } from "@aws-sdk/client-s3";
import type { BackupError } from "../errors.ts";
import type { Clients } from "./client.ts";
import type { Parallelism } from "./upload/parallelism.ts";
import type { BufferPool } from "./upload/part-buffers.ts";
import type { PartHasher } from "./part-hasher.ts";
import type { ReadMemory } from "./read-memory.ts";
import type { Log } from "./retry-strategy.ts";
import type { Container } from "../operations/store-ports.ts";

export interface Store extends Pick<Clients, "bind"> {
  readonly client: S3Client;
  readonly container: string;
  readonly limits: Container["limits"];
  readonly retryForMs: number;
  /** The most connections on which one object is read at once. */
  readonly connections: number;
  /** The memory of its uploads. */
  readonly memories: BufferPool;
  /** The memory of the objects that are read. */
  readonly readMemory: ReadMemory;
  /** Computes the MD5s of their parts. */
  readonly partHasher: PartHasher;
  readonly parallelism: Parallelism;
  /** How an object of one part is created only if there is none. */
  readonly creation: {
    /** By a PUT with `If-None-Match: *`; else by an upload of one part. Swift accepts such a PUT from 2.36 on. */
    byPut: boolean;
  };
  /** Objects that were stored in parts keep their bytes in a container of its own, with rights of its own. */
  readonly segments: {
    /** True once these credentials were seen to read there. */
    areReadable: boolean;
  };
  /** The store's time, in milliseconds since the epoch. */
  now(): number;
  readonly log: Log | undefined;
  /** Translates a failed request; `key` as far as it was about an object. */
  translate(error: unknown, signal: AbortSignal, key?: string): BackupError;
}
