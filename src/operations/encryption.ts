// Checks whether a run keeps the encryption that the archives of a subvolume have. A forgotten recipient must not make
// data readable for everybody that was secret before.

import { BackupError } from "../errors.ts";
import { encryptionChange, isEncrypted, type EncryptionIntent } from "../plan/encoding.ts";
import { keyPrefix, parseKey } from "../plan/key.ts";
import type { Inventory } from "../plan/inventory.ts";
import type { Archive, Uuid } from "../plan/model.ts";
import type { Origin } from "./origins.ts";
import { readArchive } from "./inventory.ts";
import type { Container } from "./store-ports.ts";

export const NOT_ENCRYPTED = "archives are not encrypted, and everybody who can read the container can read them";
export const NAME_RECIPIENT = "use --age-recipient RECIPIENT, or --no-encryption";

/** The source whose archives to check, and the intended encryption of new ones. */
export interface EncryptionQuestion {
  readonly intent: EncryptionIntent;
  readonly source: Uuid;
  /** Path of the subvolume, for people. */
  readonly path: string;
}

/**
 * A sentence on older archives that stay readable, where a run is the first to encrypt; null where nothing changes.
 * @throws CONFIG where the newest archives are encrypted, and new ones would not be
 */
export async function assertEncryptionKept(
  question: EncryptionQuestion,
  { inventory, container }: { readonly inventory: Inventory; readonly container: Container },
  signal: AbortSignal,
): Promise<string | null> {
  if (question.intent === "declined") return null;
  const isKnown = inventory.examined !== "snapshots";
  const newest = isKnown ? newestOf(inventory.archives) : await readNewest(question.source, container, signal);
  return assertKept(question, newest);
}

function newestOf(archives: readonly Archive[]): readonly Archive[] {
  const last = archives.reduce((latest, { stored }) => (stored !== null && stored > latest ? stored : latest), 0n);
  return archives.filter(({ stored }) => stored === last);
}

function assertKept(
  { intent, path }: Pick<EncryptionQuestion, "intent" | "path">,
  newest: readonly Archive[],
): string | null {
  switch (
    encryptionChange(
      intent,
      newest.map(({ encoding }) => encoding),
    )
  ) {
    case "none":
      return null;
    case "begun":
      return `the older archives of ${path} are not encrypted and stay readable for everybody who can read the container`;
    case "dropped":
      throw dropped(path);
  }
}

/**
 * The same for the doctor, which also reports when nothing changes. With several origins, it reports the most important
 * result.
 */
export async function judgeEncryption(
  { intent, origins }: { readonly intent: EncryptionIntent; readonly origins: readonly Origin[] },
  container: Container,
  signal: AbortSignal,
): Promise<EncryptionAssessment> {
  const assessments: EncryptionAssessment[] = [];
  for (const { name, local } of origins) {
    const question = { intent, source: local.source.uuid, path: name };
    assessments.push(describeEncryption(question, await readNewest(question.source, container, signal)));
  }
  const [first = describeEncryption({ intent, path: "" }, [])] = assessments;
  return assessments.find(({ status }) => status === "warning") ?? first;
}

interface EncryptionAssessment {
  readonly status: "ok" | "warning";
  readonly message: string;
  readonly fix?: string;
}

/** @throws CONFIG like {@link assertEncryptionKept} */
function describeEncryption(
  { intent, path }: Pick<EncryptionQuestion, "intent" | "path">,
  newest: readonly Archive[],
): EncryptionAssessment {
  const begun = assertKept({ intent, path }, newest);
  if (begun !== null) return { status: "warning", message: `new archives are encrypted; ${begun}` };
  if (intent === "undecided") return { status: "warning", message: NOT_ENCRYPTED, fix: NAME_RECIPIENT };
  const are = newest.some(({ encoding }) => isEncrypted(encoding)) ? "are" : "are not";
  const older = newest.length === 0 ? "there are none yet" : `the newest of ${path} ${are}`;
  return { status: "ok", message: `new archives are ${intent === "encrypt" ? "" : "not "}encrypted; ${older}` };
}

function dropped(path: string): BackupError {
  return new BackupError(
    "CONFIG",
    `the newest archives of ${path} are encrypted, and no recipient is given for new ones`,
    { hint: "use --age-recipient RECIPIENT to encrypt them too, or --no-encryption to store them readable" },
  );
}

/** The archive of a subvolume that was stored last, and those stored in the same moment; none where there are none. */
async function readNewest(source: Uuid, container: Container, signal: AbortSignal): Promise<Archive[]> {
  const objects = (await container.list(keyPrefix(source), signal)).filter(({ key }) => parseKey(key) !== null);
  const last = objects.reduce((latest, { modified }) => Math.max(latest, modified.getTime()), 0);
  const newest: Archive[] = [];
  for (const { key, modified } of objects) {
    const archive = modified.getTime() === last ? await readArchive(key, { container, identities: [] }, signal) : null;
    if (archive !== null) newest.push(archive);
  }
  return newest;
}
