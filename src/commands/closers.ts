// The cleaning up at the end of a command.

import { toBackupError } from "../errors.ts";

/** The steps that undo what a command opened. They run when it ends, the last first. */
export interface Closers {
  add(close: () => unknown): void;
  /** Runs every step, even when one fails. A failure is a warning and does not change the exit code. */
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
