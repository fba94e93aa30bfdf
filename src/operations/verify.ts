// Finds out by reading archives to their end whether they can be restored.

import { BackupError, toBackupError } from "../errors.ts";
import type { Archive } from "../plan/model.ts";
import { checkIdentity } from "../plan/verify.ts";
import { checkedStream } from "../stream/send-stream.ts";
import type { Pieces } from "../stream/pieces.ts";
import { isDecodable, openStored, openStream, subjectOf, type Reading } from "./read-archive.ts";
import { damaged, notOpened, notReadable, type Damage } from "../plan/damage.ts";
import { forEachConcurrently } from "./concurrency.ts";
import { lineageOf } from "../stream/stream-facts.ts";
import { toLineage } from "./recognition.ts";

/** Archives read at once: checksums take the processor, and one connection does not always fill the line. */
const READERS = 2;

/** An archive and all archives, among which are those that build on it. */
export interface VerifyContext {
  readonly archives: readonly Archive[];
  readonly reading: Reading;
  /** Called with the stored bytes that were read since the last call. */
  readonly onBytes: (bytes: number) => void;
}

/** Reads archives to their end: stored checksum, decoding, every command, the end, and whose stream it is. */
export async function readArchivesThrough(
  chosen: readonly Archive[],
  context: VerifyContext,
  signal: AbortSignal,
): Promise<Damage[]> {
  const findings: Damage[] = [];
  await forEachConcurrently(chosen, READERS, async (archive) => {
    const finding = await readThrough(archive, context, signal);
    if (finding !== null) findings.push(finding);
  });
  return inOrder(findings);
}

/** Turns an error about an archive into a finding; rethrows any other error. */
export function toDamage(error: unknown, archive: Archive, archives: readonly Archive[]): Damage {
  const failure = toBackupError(error);
  switch (failure.code) {
    case "ARCHIVE_DAMAGED":
      return damaged("ARCHIVE_DAMAGED", archive, failure.message, archives);
    case "ARCHIVE_MISSING":
      return damaged(
        "ARCHIVE_DAMAGED",
        archive,
        `${subjectOf(archive)} or a part of it is missing: the store does not return it`,
        archives,
      );
    default:
      throw failure;
  }
}

/** Reads pieces to their end. */
async function drain(pieces: Pieces): Promise<void> {
  const all = pieces[Symbol.asyncIterator]();
  try {
    while ((await all.next()).done !== true);
  } finally {
    pieces.destroy();
  }
}

async function readThrough(archive: Archive, context: VerifyContext, signal: AbortSignal): Promise<Damage | null> {
  try {
    if (isDecodable(archive, context.reading.identities)) return await readDecoded(archive, context, signal);
  } catch (error) {
    if (!(error instanceof BackupError && error.code === "IDENTITY_REFUSED")) {
      return toDamage(error, archive, context.archives);
    }
  }
  return await readStored(archive, context, signal);
}

async function readDecoded(archive: Archive, context: VerifyContext, signal: AbortSignal): Promise<Damage | null> {
  const { reading, archives } = context;
  let finding: Damage | null = null;
  const stream = await openStream(reading, archive, sinceLast(context.onBytes), signal);
  const checked = checkedStream(stream, {
    code: "ARCHIVE_DAMAGED",
    subject: subjectOf(archive),
    onSummary: (summary) => {
      const found = toLineage(lineageOf(summary));
      finding = found === null ? null : checkIdentity(archive, found, archives);
    },
  });
  await drain(checked);
  return finding;
}

/** An archive that cannot be decoded here can still be compared with its checksum. */
async function readStored(archive: Archive, context: VerifyContext, signal: AbortSignal): Promise<Damage | null> {
  try {
    await drain(openStored(context.reading, archive, sinceLast(context.onBytes), signal));
    return context.reading.identities.length === 0 ? notReadable(archive) : notOpened(archive);
  } catch (error) {
    return toDamage(error, archive, context.archives);
  }
}

/** Turns a growing total into the bytes since the last call. */
export function sinceLast(onBytes: (bytes: number) => void): (total: number) => void {
  let before = 0;
  return (total) => {
    onBytes(total - before);
    before = total;
  };
}

/** The worst first, then by key, independent of the order of the answers. */
export function inOrder(findings: readonly Damage[]): Damage[] {
  const rank = ({ severity, subject, code }: Damage): string => `${severity} ${subject} ${code}`;
  return findings.toSorted((a, b) => (rank(a) < rank(b) ? -1 : 1));
}
