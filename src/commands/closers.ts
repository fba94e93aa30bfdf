import { toBackupError } from "../errors.ts";

/** What has to be undone when a command ends, the last first. */
export interface Closers {
  add(close: () => unknown): void;
  /** Undoes everything, whatever fails: that is told, and changes nothing of how the command ended. */
  closeAll(warn: (sentence: string) => void): Promise<void>;
}

export function openClosers(): Closers {
  const closers: (() => unknown)[] = [];
  return {
    add: (close) => void closers.push(close),
    closeAll: async (warn) => {
      for (const close of closers.splice(0).reverse()) {
        try {
          await close();
        } catch (error) {
          const { message, hint } = toBackupError(error);
          warn(`not everything could be cleaned up: ${message}${hint === null ? "" : `: ${hint}`}`);
        }
      }
    },
  };
}
