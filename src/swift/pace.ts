// How fast bytes leave. Bodies go to the socket in slices: given a whole part at once, Node would encrypt all of it into
// memory first (90 MiB more for parts of 16 MiB, measured), and nothing could be slowed down in between. Between slices
// everything else has its turn: a fast line takes part after part without a pause.

import { Readable } from "node:stream";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { toError } from "../errors.ts";

const SLICE_BYTES = 1024 * 1024;

/** Slices are smaller than what leaves in so long, so that a slow line is used evenly and never falls silent. */
const SLICE_MS = 200;

/** Shares a rate between all bodies that are under way. */
export interface Pace {
  readonly sliceBytes: number;
  /** Resolves when so many bytes may leave. */
  pass(bytes: number): Promise<void>;
}

/** @param bytesPerSecond - null = as fast as it goes */
export function openPace(bytesPerSecond: number | null): Pace {
  if (bytesPerSecond === null) return { sliceBytes: SLICE_BYTES, pass: async () => Promise.resolve() };
  let free = 0;
  return {
    sliceBytes: Math.max(1024, Math.min(SLICE_BYTES, Math.floor((bytesPerSecond * SLICE_MS) / 1000))),
    async pass(bytes) {
      const now = performance.now();
      const at = Math.max(now, free);
      free = at + (bytes / bytesPerSecond) * 1000;
      if (at > now) await sleep(at - now);
    },
  };
}

/** A body as a stream of its slices, each let go when the pace allows. Nothing is copied. */
export function pacedBody(body: Uint8Array, pace: Pace): Readable {
  let at = 0;
  async function passSlice(stream: Readable): Promise<void> {
    const slice = body.subarray(at, at + pace.sliceBytes);
    if (at > 0) await nextTurn();
    await pace.pass(slice.length);
    at += slice.length;
    stream.push(slice);
    if (at === body.length) stream.push(null);
  }
  return new Readable({
    highWaterMark: pace.sliceBytes,
    read() {
      passSlice(this).catch((error: unknown) => this.destroy(toError(error)));
    },
  });
}
