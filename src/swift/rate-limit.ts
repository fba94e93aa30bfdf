// Limits how fast bytes leave. Bodies go to the socket in slices. If Node got an entire part at once, it would encrypt
// all of it into memory first (90 MiB more for parts of 16 MiB, measured), and nothing could slow it down in between.
// Between slices everything else has its turn: a fast line takes part after part without a pause.

import { Readable } from "node:stream";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { toError } from "../errors.ts";

const SLICE_BYTES = 1024 * 1024;

/** A slice is smaller than what is sent in this time, so that a slow line is used evenly and never falls silent. */
const SLICE_MS = 200;

/** Shares a rate between all bodies that are under way. */
export interface RateLimiter {
  readonly sliceBytes: number;
  /** Resolves when this many bytes may be sent. */
  pass(bytes: number): Promise<void>;
}

/** @param bytesPerSecond - null = as fast as it goes */
export function openRateLimiter(bytesPerSecond: number | null): RateLimiter {
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

/** The first slice of a body; the next ones grow as fast as they are taken. */
const FIRST_SLICE_BYTES = 64 * 1024;
const LEAST_SLICE_BYTES = 16 * 1024;
/** A slice that is taken faster than this could be larger; one that takes longer reports its progress too seldom. */
const FAST_MS = 50;
const SLOW_MS = 500;

/** The size of the next slice, after the time that one has taken. */
export function nextSliceBytes(bytes: number, elapsedMs: number): number {
  if (elapsedMs < FAST_MS) return Math.min(SLICE_BYTES, bytes * 2);
  return elapsedMs > SLOW_MS ? Math.max(LEAST_SLICE_BYTES, Math.floor(bytes / 2)) : bytes;
}

/** Called with the bytes of a body that the socket has taken; with 0 when a request begins, or begins again. */
export type OnSent = (body: Uint8Array, bytes: number) => void;

/** A body as a stream of its slices, each released when the rate limit allows. Nothing is copied. */
export function limitedBody(body: Uint8Array, pace: RateLimiter, onSent: OnSent): Readable {
  let at = 0;
  let bytes = FIRST_SLICE_BYTES;
  let since = performance.now();
  async function passSlice(stream: Readable): Promise<void> {
    // Called again only when the socket has accepted the previous slice.
    onSent(body, at);
    if (at > 0) bytes = nextSliceBytes(bytes, performance.now() - since);
    if (at > 0) await nextTurn();
    const slice = body.subarray(at, at + Math.min(bytes, pace.sliceBytes));
    await pace.pass(slice.length);
    since = performance.now();
    at += slice.length;
    stream.push(slice);
    if (at === body.length) stream.push(null);
  }
  return new Readable({
    // Nothing is prepared in advance: a requested slice has been sent.
    highWaterMark: 0,
    read() {
      passSlice(this).catch((error: unknown) => this.destroy(toError(error)));
    },
  });
}
