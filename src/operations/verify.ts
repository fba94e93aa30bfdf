// Finds out whether what is in the container can be restored: from metadata and first bytes, by reading archives to their
// end, and by comparing them with what is still on this machine. A check that did not run is told, not passed over.

import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BackupError, toBackupError } from "../errors.ts";
import { parseKey } from "../plan/key.ts";
import type { Archive } from "../plan/model.ts";
import {
  checkArchives,
  checkIdentity,
  checkOthers,
  damaged,
  hasChecksum,
  notReadable,

  type Damage,
  type Examined,
} from "../plan/verify.ts";
import { checkedStream, lineageOf } from "../stream/check.ts";
import { observe } from "../stream/observe.ts";
import { openBody, refuseIncomplete } from "./body.ts";
import type { StoredObject } from "./edges.ts";
import { examineObject, forEachConcurrently, peekArchive, toLineage } from "./inventory.ts";
import { isDecodable, openStream, subjectOf, type Reading } from "./reading.ts";

/** Requests in flight while archives are looked at. */
const EXAMINERS = 16;

/** Archives read at once: checksums take the processor, and one connection does not always fill the line. */
const READERS = 2;

/** What is in the container, and what is wrong with it at first sight. */
export interface Survey {
  readonly archives: readonly Archive[];
  /** Keys of archives whose checksum cannot be recomputed: only what their streams hold themselves tells of damage. */
  readonly withoutChecksum: ReadonlySet<string>;
  readonly findings: readonly Damage[];
}

/** Looks at every object, without reading it. */
export async function survey(reading: Reading, signal: AbortSignal): Promise<Survey> {
  const objects = await reading.container.list("", signal);
  const examined: Examined[] = [];
  const findings: Damage[] = [];
  const named = objects.filter(({ key }) => parseKey(key) !== null);
  await forEachConcurrently(named, EXAMINERS, async (object) => {
    const found = await examineStored(object, reading, signal);
    if (found !== null) examined.push(found);
  });
  const archives = examined.map(({ archive }) => archive);
  await forEachConcurrently(archives, EXAMINERS, async (archive) => {
    const finding = await checkHead(archive, { archives, reading }, signal);
    if (finding !== null) findings.push(finding);
  });
  const keys = new Set<string>(archives.map(({ key }) => key));
  const uploads = await reading.container.openUploads("", signal);
  const others = checkOthers({ keys: objects.map(({ key }) => key), uploads: uploads.map(({ key }) => key) }, keys);
  const withoutChecksum = new Set<string>(examined.filter((each) => !hasChecksum(each)).map(({ archive }) => archive.key));
  return { archives, withoutChecksum, findings: inOrder([...checkArchives(examined), ...findings, ...others]) };
}

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

/** What reading throws about an archive, as a finding; whatever else it throws is thrown on. */
export function toDamage(error: unknown, archive: Archive, archives: readonly Archive[]): Damage {
  const failure = toBackupError(error);
  switch (failure.code) {
    case "ARCHIVE_DAMAGED":
      return damaged("ARCHIVE_DAMAGED", archive, failure.message, archives);
    case "ARCHIVE_MISSING":
      return damaged("CHAIN_BROKEN", archive, `${subjectOf(archive)} is listed, but cannot be read`, archives);
    default:
      throw failure;
  }
}

/** Bytes for nobody. */
export function openDrain(): Writable {
  return new Writable({
    write(_chunk, _encoding, done): void {
      done();
    },
  });
}

async function examineStored(object: StoredObject, reading: Reading, signal: AbortSignal): Promise<Examined | null> {
  const details = await reading.container.head(object.key, signal);
  // Deleted since it was listed.
  if (details === null) return null;
  const archive = await examineObject(details, reading.container, signal, reading.identities);
  return archive === null ? null : { archive, etag: details.etag, listedBytes: object.bytes };
}

/** Looks for volumes, and compares what metadata says with the first bytes of the stream. */
async function checkHead(
  archive: Archive,
  { archives, reading }: Pick<VerifyContext, "archives" | "reading">,
  signal: AbortSignal,
): Promise<Damage | null> {
  if (archive.bytes === 0 || archive.lineage === null) return null;
  try {
    await refuseIncomplete(archive, reading.container, signal);
    if (!isDecodable(archive, reading.identities)) return null;
    const found = await peekArchive(archive, reading, signal);
    if (found !== null) return checkIdentity(archive, found, archives);
    return damaged("ARCHIVE_DAMAGED", archive, `${subjectOf(archive)} does not begin like a send stream`, archives);
  } catch (error) {
    return toDamage(error, archive, archives);
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
  await pipeline(checked, openDrain(), { signal });
  return finding;
}

/** What cannot be decoded here can still be compared with its checksum. */
async function readStored(archive: Archive, context: VerifyContext, signal: AbortSignal): Promise<Damage | null> {
  try {
    const body = await openBody(archive, context.reading.container, signal);
    observe(body, (piece) => context.onBytes(piece.length));
    await pipeline(body, openDrain(), { signal });
    return archive.lineage === null ? null : notReadable(archive);
  } catch (error) {
    return toDamage(error, archive, context.archives);
  }
}

function sinceLast(onBytes: (bytes: number) => void): (total: number) => void {
  let before = 0;
  return (total) => {
    onBytes(total - before);
    before = total;
  };
}

/** The worst first, then by key: found in whatever order answers came. */
export function inOrder(findings: readonly Damage[]): Damage[] {
  const rank = ({ severity, subject, code }: Damage): string => `${severity} ${subject} ${code}`;
  return findings.toSorted((a, b) => (rank(a) < rank(b) ? -1 : 1));
}

