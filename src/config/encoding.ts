// Parses how streams should be encoded: recipients, compression, and whether plaintext is intended.

import { BackupError } from "../errors.ts";
import { readVariable, type Environment } from "./openstack.ts";
import { parseBoolean } from "./parse.ts";
import type { EncodingOptions } from "../plan/encoding.ts";

interface TypedFlags {
  readonly ageRecipients: readonly string[];
  readonly ageRecipientsFiles: readonly string[];
  readonly noEncryption: boolean;
  readonly requireEncryption: boolean;
  /** `zstd` or `zstd:LEVEL`; absent = not compressed. */
  readonly compress: string | undefined;
}

const REQUIRE_ENCRYPTION = "BTRFS_SNAPSHOTS_TO_SWIFT_REQUIRE_ENCRYPTION";

/** @throws USAGE for contradictions, and where encryption is required without a recipient */
export function readEncodingOptions(flags: TypedFlags, env: Environment): EncodingOptions {
  const { ageRecipients: names, ageRecipientsFiles: files, noEncryption } = flags;
  const encrypt = names.length + files.length > 0;
  const requiredBy = flags.requireEncryption ? "--require-encryption" : requiredByVariable(env);
  if (noEncryption && encrypt) {
    throw new BackupError("USAGE", "--no-encryption and recipients exclude each other", {
      hint: "leave one of them out",
    });
  }
  if (noEncryption && requiredBy !== null) {
    throw new BackupError("USAGE", `${requiredBy} forbids --no-encryption`, {
      hint: "name a recipient with --age-recipient",
    });
  }
  if (requiredBy !== null && !encrypt) {
    throw new BackupError("USAGE", `${requiredBy} requires encryption, and no recipient is named`, {
      hint: "use --age-recipient RECIPIENT, or --age-recipients-file FILE",
    });
  }
  const zstdLevel = flags.compress === undefined ? null : parseCompression(flags.compress, "--compress");
  const intent = encrypt ? "encrypt" : noEncryption ? "declined" : "undecided";
  return { recipients: encrypt ? { names, files } : null, zstdLevel, intent };
}

function requiredByVariable(env: Environment): string | null {
  const value = readVariable(env, REQUIRE_ENCRYPTION);
  return value !== undefined && parseBoolean(value, REQUIRE_ENCRYPTION) ? REQUIRE_ENCRYPTION : null;
}

/** The highest zstd level that needs no more memory than every reader of its output has. */
const MAX_ZSTD_LEVEL = 19;
const USUAL_ZSTD_LEVEL = 3;

/** The level of `zstd` or `zstd:LEVEL`. @throws USAGE */
export function parseCompression(text: string, flag: string): number {
  const match = /^zstd(?::(\d{1,2}))?$/.exec(text);
  const level = match?.[1] === undefined ? USUAL_ZSTD_LEVEL : Number(match[1]);
  if (match !== null && level >= 1 && level <= MAX_ZSTD_LEVEL) return level;
  throw new BackupError(
    "USAGE",
    `${flag} takes zstd or zstd:LEVEL with a level from 1 to ${MAX_ZSTD_LEVEL}, not "${text}"`,
  );
}
