// Finds the contents of a container and the damage that shows at first sight: by names, metadata and first bytes.
// Listings lag behind, and keep naming objects that the store has lost, so a HEAD asks whether each object exists.

import { toBackupError } from "../errors.ts";
import { isSilent } from "../plan/chain.ts";
import { hasChecksum, hasOtherParts, isDynamicLarge } from "../plan/checksum.ts";
import { parseArchive, parseKey } from "../plan/key.ts";
import { archiveKeyOf } from "../plan/manifest.ts";
import type { Archive, Key } from "../plan/model.ts";
import {
  checkArchives,
  checkIdentity,
  checkMissing,
  checkOthers,
  type Examined,
  type MissingArchive,
} from "../plan/verify.ts";
import { assertComplete } from "./archive-body.ts";
import { readProof } from "./proof.ts";
import { isDecodable, subjectOf, type Reading } from "./read-archive.ts";
import { listFinished } from "./replace-archive.ts";
import { inOrder, toDamage } from "./verify.ts";
import type { Container, ObjectDetails, StoredObject } from "./store-ports.ts";
import { damaged, notOpened, warn, type Damage } from "../plan/damage.ts";
import { examineObject, peekArchive } from "./recognition.ts";
import { forEachConcurrently } from "./concurrency.ts";

/** Requests in flight while archives are examined. */
const EXAMINERS = 16;

/** The contents of the container, and the damage that shows at first sight. */
export interface Survey {
  readonly archives: readonly Archive[];
  /** Keys of archives whose checksum cannot be recomputed: only their streams themselves can show damage. */
  readonly withoutChecksum: ReadonlySet<string>;
  /** Keys of archives that were copied with other tools: their ETags are those of other uploads, and their contents decide. */
  readonly copied: ReadonlySet<string>;
  readonly findings: readonly Damage[];
}

/**
 * Examines every object, without reading it.
 * @param expected - keys that are asked for whether or not the listing names them
 */
export async function survey(reading: Reading, expected: readonly Key[], signal: AbortSignal): Promise<Survey> {
  const { container } = reading;
  const objects = await listFinished("", reading, signal);
  const { examined, missing } = await examineNamed(objects, { reading, expected }, signal);
  const archives = examined.map(({ archive }) => archive);
  const findings: Damage[] = [];
  const copied = new Set<string>(examined.filter(({ isCopied }) => isCopied).map(({ archive }) => archive.key));
  await forEachConcurrently(examined, EXAMINERS, async (each) => {
    const finding = await checkHead(each, { archives, reading, copied }, signal);
    if (finding !== null) findings.push(finding);
  });
  const { keys: uploads, finding } = await listUploads(container, signal);
  if (finding !== null) findings.push(finding);
  const named = new Set<string>([...archives, ...missing].map(({ key }) => key));
  const others = checkOthers({ keys: objects.map(({ key }) => key), uploads }, named);
  const withoutChecksum = new Set<string>(
    examined.filter((each) => !hasChecksum(each) && each.sentBytes === undefined).map(({ archive }) => archive.key),
  );
  const all = [...checkArchives(examined), ...checkMissing(missing, archives), ...findings, ...others];
  return { archives, withoutChecksum, copied, findings: inOrder(withoutDoubts(all)) };
}

interface ExaminedObject extends Examined {
  readonly isCopied: boolean;
}

interface Named {
  readonly examined: readonly ExaminedObject[];
  readonly missing: readonly MissingArchive[];
}

/** Requests every archive that the listing, one of its volumes or a local snapshot names. */
async function examineNamed(
  objects: readonly StoredObject[],
  { reading, expected }: { readonly reading: Reading; readonly expected: readonly Key[] },
  signal: AbortSignal,
): Promise<Named> {
  const listed = new Map(objects.map((object) => [object.key, object]));
  const owners = objects.map(({ key }) => archiveKeyOf(key) ?? key);
  const keys = [...new Set([...owners, ...expected])].filter((key) => parseKey(key) !== null);
  const examined: ExaminedObject[] = [];
  const absent: string[] = [];
  await forEachConcurrently(keys, EXAMINERS, async (key) => {
    const details = await reading.container.head(key, signal);
    if (details !== null)
      examined.push(
        ...(await examineStored(details, { reading, listedBytes: listed.get(key)?.bytes ?? null }, signal)),
      );
    else if (listed.has(key)) absent.push(key);
  });
  return { examined, missing: await findMissing(absent, reading.container, signal) };
}

/** An archive that was deleted since it was listed is not missing, and is no longer listed. */
async function findMissing(
  absent: readonly string[],
  container: Container,
  signal: AbortSignal,
): Promise<MissingArchive[]> {
  const missing: MissingArchive[] = [];
  await forEachConcurrently(absent, EXAMINERS, async (text) => {
    const name = parseKey(text);
    const listed = await container.list(text, signal);
    if (name !== null && listed.some(({ key }) => key === text)) missing.push(name);
  });
  return missing;
}

interface StoredContext {
  readonly reading: Reading;
  readonly listedBytes: number | null;
}

async function examineStored(
  details: ObjectDetails,
  { reading, listedBytes }: StoredContext,
  signal: AbortSignal,
): Promise<ExaminedObject[]> {
  const { etag } = details;
  const { container, identities } = reading;
  try {
    const archive = await examineObject(details, container, signal, identities);
    if (archive === null) return [];
    const found = { archive, etag, listedBytes };
    const isDynamic = isDynamicLarge(found);
    // An object in one piece needs no proof.
    const needsProof = archive.volumes === null && (isDynamic || etag.includes("-"));
    const proof = needsProof ? await readProof(details, container, signal) : null;
    const sent = proof === null ? {} : { sentBytes: proof.bytes };
    const isCopied = proof === null ? isDynamic || hasOtherParts(found) : !container.isSentAs(etag, proof);
    return [{ ...found, isCopied, ...sent }];
  } catch (error) {
    const { code, message } = toBackupError(error);
    const archive = parseArchive(details);
    if (archive === null || (code !== "ARCHIVE_DAMAGED" && code !== "ARCHIVE_MISSING")) throw error;
    return [
      { archive, etag, listedBytes, isCopied: false, failure: `${subjectOf(archive)} cannot be read: ${message}` },
    ];
  }
}

interface HeadContext {
  readonly archives: readonly Archive[];
  readonly reading: Reading;
  /** Archives whose volumes were copied are added to it. */
  readonly copied: Set<string>;
}

/** Looks for volumes, and compares the metadata with the first bytes of the stream. */
async function checkHead(
  { archive, failure }: Examined,
  { archives, reading, copied }: HeadContext,
  signal: AbortSignal,
): Promise<Damage | null> {
  const isUnknown = archive.lineage === null && !isSilent(archive);
  if (archive.bytes === 0 || failure !== undefined || isUnknown) return null;
  try {
    if (await assertComplete(archive, reading.container, signal)) copied.add(archive.key);
    if (!isDecodable(archive, reading.identities)) return null;
    const { lineage, isRefused } = await peekArchive(archive, reading, signal);
    if (lineage !== null) return checkIdentity(archive, lineage, archives);
    if (isRefused) return notOpened(archive);
    return damaged("ARCHIVE_DAMAGED", archive, `${subjectOf(archive)} does not begin like a send stream`, archives);
  } catch (error) {
    return toDamage(error, archive, archives);
  }
}

/** Keys of open uploads. They are in a container that not every reader of archives may list. */
async function listUploads(
  container: Container,
  signal: AbortSignal,
): Promise<{ readonly keys: readonly string[]; readonly finding: Damage | null }> {
  try {
    return { keys: (await container.openUploads("", signal)).map(({ key }) => key), finding: null };
  } catch (error) {
    const { code, message } = toBackupError(error);
    if (code !== "ACCESS_DENIED") throw error;
    const remedy = `no harm if you only read; otherwise you need the right to read the container ${container.name}+segments`;
    return {
      keys: [],
      finding: warn("NOT_CHECKED", container.name, `leftovers of interrupted uploads were not checked: ${message}`, {
        remedy,
      }),
    };
  }
}

/** Drops the doubt about an archive that was not read if there is a worse finding about it. */
function withoutDoubts(findings: readonly Damage[]): Damage[] {
  const worse = new Set(findings.filter(({ severity }) => severity === "error").map(({ subject }) => subject));
  return findings.filter(({ code, subject }) => code !== "NOT_READABLE" || !worse.has(subject));
}
