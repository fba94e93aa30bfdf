// MD5 digests of several messages at once.

import { loadOnce } from "./load.ts";

interface Md5Addon {
  md5s(buffers: readonly Uint8Array[]): Promise<Buffer[]>;
}

const addon = (): Md5Addon => loadOnce() as Md5Addon;

/**
 * The MD5 of each of the buffers, in their order; their memory may be shared. One call on the thread pool that hashes up
 * to four of them side by side, for hardly more CPU time than one of them takes. Until it resolves, nobody may change or
 * transfer their memory. @throws CONFIG; TypeError
 */
export async function md5s(buffers: readonly Uint8Array[]): Promise<Buffer[]> {
  return addon().md5s(buffers);
}
