// Damage of a send stream, as an error of the program.

import { BackupError, toError } from "../errors.ts";

/** The error code for a damaged stream: one that `btrfs send` just made, or one that an archive holds. */
export type DamageCode = "SEND_FAILED" | "ARCHIVE_DAMAGED";

/** How the error names a damaged stream. */
export interface DamageSubject {
  /** By default SEND_FAILED. */
  readonly code?: DamageCode | undefined;
  /** The subject of the error; by default "the send stream". */
  readonly subject?: string | undefined;
}

export function rethrowDamage(check: () => void): void {
  const damage = damageOf(check);
  if (damage !== null) throw damage;
}

export function damageOf(check: () => void, options: DamageSubject = {}): BackupError | null {
  try {
    check();
    return null;
  } catch (cause) {
    return toDamage(cause, options);
  }
}

export function toDamage(
  cause: unknown,
  { code = "SEND_FAILED", subject = "the send stream" }: DamageSubject = {},
): BackupError {
  return new BackupError(code, `${subject} is damaged: ${toError(cause).message}`, { cause });
}

/** @throws as damage any failure that is not a program's */
export function throwDamage(failure: unknown): never {
  throw failure instanceof BackupError ? failure : toDamage(failure);
}
