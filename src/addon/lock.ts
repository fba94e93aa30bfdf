// Locks on files, which the kernel releases when the process is gone.

import { loadOnce } from "./load.ts";

interface LockAddon {
  lockFile(path: string): number | null;
}

const addon = (): LockAddon => loadOnce() as LockAddon;

/**
 * The descriptor of a locked file, which is created if it is missing. No other process can lock it until the descriptor
 * is closed or this process is gone. Null when another process holds the lock. Programs that are started do not inherit
 * it. @throws Error with errno's name as `code`; CONFIG
 */
export function lockFile(path: string): number | null {
  return addon().lockFile(path);
}
