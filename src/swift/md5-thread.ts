// What the thread of parts.ts does: asked for the MD5 of so many bytes of one of the buffers it shares, it answers it.

import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import type { HashRequest } from "./parts.ts";

const buffers = workerData as readonly SharedArrayBuffer[];

parentPort?.on("message", ({ buffer, bytes }: HashRequest) => {
  const shared = buffers[buffer];
  if (shared === undefined) throw new RangeError(`there is no buffer ${String(buffer)}`);
  parentPort?.postMessage(createHash("md5").update(new Uint8Array(shared, 0, bytes)).digest());
});
