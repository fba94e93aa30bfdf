// Locks on files, which the kernel releases when the process is gone.

import { loadOnce } from "./load.ts";

interface LockAddon {
  lockFile(path: string): number | null;
}

const addon = (): LockAddon => loadOnce() as LockAddon;

/**
 * The descriptor of a file, made when it is missing, that no other process can lock until it is closed or this process
 * is gone; null when another one has. Programs that are started do not inherit it. @throws Error with errno's name as
 * `code`; CONFIG
 */
export function lockFile(path: string): number | null {
  return addon().lockFile(path);
}
