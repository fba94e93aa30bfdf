// Checks whether a sync could succeed, by trying everything that it needs, in the order in which it needs it. When a
// check fails, those that build on it are skipped, so that one cause gives one failure.

import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { BackupError, toBackupError } from "../errors.ts";
import { isClockOff } from "../plan/clock.ts";
import { isFull, MAKE_ROOM, type Quota } from "../plan/quota.ts";
import type { EncodingOptions } from "../plan/encoding.ts";
import { judgeArchives, judgeChains, planFor, type KeepingOf } from "./doctor-archives.ts";
import { judgeSnapshots, surveyPath, type Surveyed } from "./doctor-path.ts";
import { readArchives } from "./inventory.ts";
import type { DoctorEdges, Machine, Reached } from "./ports.ts";
import { judgeEncryption } from "./encryption.ts";
import type { Origin } from "./origins.ts";
import { tryEncoding } from "./encode.ts";
import { formatSize, look, ok, skip, type Check, type Assessment } from "./check.ts";
import type { Container, OpenUpload } from "./store-ports.ts";
import { checkProgram, describeBtrfs, describeProgram } from "./versions.ts";

/** The options that a sync would get. */
export interface DoctorRequest extends EncodingOptions {
  readonly path: string;
  /** True when the snapshots that were received there are meant. */
  readonly received: boolean;
  /** True when a subvolume without snapshots is no failure. */
  readonly allowsEmpty: boolean;
  /** The keep rules that a sync of a source would follow. */
  readonly keepingOf: KeepingOf;
}

const ofPath = ["archives", "chains", "encryption"];

const inContainer = ["rights", "limits", "quota", ...ofPath, "uploads"];

const afterAccess = ["endpoint", "clock", "container", ...inContainer];

/** Every check as its outcome becomes known. @throws ABORTED */
export async function* diagnose(
  wanted: DoctorRequest,
  edges: DoctorEdges,
  signal: AbortSignal,
): AsyncGenerator<Check, void> {
  const { machine, program } = edges;
  yield (await look("program", async () => program, describeProgram)).check;
  const surveyed = yield* diagnoseMachine(wanted, machine, signal);
  const access = await look(
    "credentials",
    () => edges.findAccess(),
    ({ source }) => ok(source),
  );
  yield access.check;
  const { found } = access;
  if (found === null) return yield* skip(afterAccess, "credentials");
  const greeting = await look(
    "endpoint",
    () => edges.greet(),
    ({ swift }) => judgeEndpoint(found, swift),
  );
  yield greeting.check;
  if (greeting.found === null) return yield* skip(afterAccess.slice(1), "endpoint");
  const { aheadMs } = greeting.found;
  yield (await look("clock", async () => aheadMs, judgeClock)).check;
  const container = await look(
    "container",
    () => edges.openContainer(),
    ({ name }) => ok(name),
  );
  yield container.check;
  if (container.found === null) return yield* skip(inContainer, "container");
  yield* diagnoseContainer(container.found, { ...edges, ...wanted, surveyed }, signal);
}

async function* diagnoseMachine(
  { path, received, allowsEmpty, ...wishes }: DoctorRequest,
  machine: Machine,
  signal: AbortSignal,
): AsyncGenerator<Check, Surveyed | null> {
  yield (await look("privileges", () => machine.mayAdministrate(), judgePrivileges)).check;
  yield (await look("btrfs", () => machine.versions(signal), describeBtrfs)).check;
  yield await checkProgram("age", { purpose: "encryption", wanted: wishes.recipients !== null }, signal);
  yield await checkProgram("zstd", { purpose: "compression", wanted: wishes.zstdLevel !== null }, signal);
  if (wishes.recipients !== null || wishes.zstdLevel !== null) {
    yield (
      await look(
        "encoding",
        () => tryEncoding(wishes, signal),
        () => ok("an empty stream can be encoded"),
      )
    ).check;
  }
  const survey = await look(
    "path",
    () => surveyPath({ path, received }, machine, signal),
    ({ message }) => ok(message),
  );
  yield survey.check;
  const { found } = survey;
  if (found === null) yield* skip(["snapshots"], "path");
  else
    yield (
      await look(
        "snapshots",
        () => judgeSnapshots(found, allowsEmpty),
        (assessment) => assessment,
      )
    ).check;
  return found;
}

interface ContainerEdges extends DoctorEdges, DoctorRequest {
  /** Null when the machine gave no answer. */
  readonly surveyed: Surveyed | null;
}

async function* diagnoseContainer(
  container: Container,
  edges: ContainerEdges,
  signal: AbortSignal,
): AsyncGenerator<Check, void> {
  const rights = await look(
    "rights",
    () => tryRights(container, signal),
    (all) => ok(all.join(", ")),
  );
  yield rights.check;
  const { partsPerUpload, minPartBytes, maxPartBytes } = container.limits;
  const largest = formatSize(partsPerUpload * maxPartBytes);
  const limits = `objects of up to ${largest}: ${partsPerUpload} parts of ${formatSize(minPartBytes)} to ${formatSize(maxPartBytes)}`;
  yield (await look("limits", async () => limits, ok)).check;
  yield (await look("quota", () => edges.quotas(), judgeQuotas)).check;
  if (rights.found === null) return yield* skip([...ofPath, "uploads"], "rights");
  if (edges.surveyed === null) yield* skip(ofPath, "path");
  else yield* diagnoseArchives(edges.surveyed, container, edges, signal);
  yield await checkUploads(container, signal);
}

async function* diagnoseArchives(
  surveyed: Surveyed,
  container: Container,
  { intent, keepingOf, openCatalogue }: Pick<ContainerEdges, "intent" | "keepingOf" | "openCatalogue">,
  signal: AbortSignal,
): AsyncGenerator<Check, void> {
  const view = { container, identities: [], catalogue: await openCatalogue() };
  const list = (): Promise<readonly Origin[]> => surveyed.origins(() => readArchives("", view, signal));
  const planned = await look(
    "archives",
    async () => planFor(await list(), { view, keepingOf }, signal),
    (plans) => judgeArchives(plans),
  );
  yield planned.check;
  const { found } = planned;
  if (found === null) yield* skip(["chains"], "archives");
  else yield (await look("chains", async () => found, judgeChains)).check;
  yield (
    await look(
      "encryption",
      async () => judgeEncryption({ intent, origins: await list() }, container, signal),
      (assessment) => assessment,
    )
  ).check;
}

/** No sync depends on their listing: where it fails, that is worth a warning. */
async function checkUploads(container: Container, signal: AbortSignal): Promise<Check> {
  const { check } = await look("uploads", () => container.openUploads("", signal), judgeUploads);
  if (check.error === null) return check;
  const message = `cannot be listed: ${check.message}; a sync works, but does not remove what interrupted runs left`;
  const fix = `see how many objects there are in ${container.name}+segments`;
  return { ...check, status: "warning", message, fix, error: null };
}

function judgePrivileges(mayAdministrate: boolean): Assessment {
  if (mayAdministrate) return ok("CAP_SYS_ADMIN");
  throw new BackupError("NO_PRIVILEGE", "CAP_SYS_ADMIN is missing", {
    hint: "run it as root; in a container, root alone is not enough",
  });
}

/** @param swift - the version that the store reports; null where it does not */
function judgeEndpoint({ endpoint, proxy, ignoresProxy }: Reached, swift: string | null): Assessment {
  const where = swift === null ? endpoint : `${endpoint}, Swift ${swift}`;
  if (proxy !== null) return ok(`${where}, through the proxy ${proxy}`, { swift });
  if (!ignoresProxy) return ok(where, { swift });
  const message = `${where}, without a proxy: HTTP_PROXY is not read, as curl does not read it either`;
  const fix = "set http_proxy, in small letters, if it is to be used";
  return { status: "warning", message, fix, versions: { swift } };
}

function judgeClock(aheadMs: number | null): Assessment {
  if (aheadMs === null) return { status: "warning", message: "the store does not report its time" };
  const message = `this machine is ${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs < 0 ? "behind" : "ahead of"} the store`;
  if (isClockOff(aheadMs)) return { status: "warning", message, fix: "set the clock, by NTP for example" };
  return ok(message);
}

/** Does everything that a sync does with one small object, and leaves nothing behind. */
async function tryRights(container: Container, signal: AbortSignal): Promise<string[]> {
  const key = `.btrfs-snapshots-to-swift-doctor-${randomUUID()}`;
  const body = Buffer.from("written by the doctor command, to see whether it can be\n");
  const options = { partBytes: container.limits.minPartBytes, concurrency: 1, partsInMemory: 2, metadata: {} };
  const attempts: readonly (readonly [right: string, attempt: () => Promise<unknown>])[] = [
    ["list", () => container.list(key, signal)],
    ["write", () => container.put(key, Readable.from([body]), options, signal)],
    ["read", () => container.peek(key, body.length, signal)],
    ["delete", () => container.delete(key, signal)],
  ];
  for (const [right, attempt] of attempts) {
    await attempt().catch(async (thrown: unknown) => {
      if (right !== "list") await container.delete(key, signal).catch(() => undefined);
      const { code, message, hint } = toBackupError(thrown);
      throw new BackupError(code, `${right} failed: ${message}`, { hint: hint ?? undefined });
    });
  }
  return attempts.map(([right]) => right);
}

function judgeQuotas(quotas: readonly Quota[] | null): Assessment {
  if (quotas === null || quotas.length === 0) return ok("not visible with these credentials");
  const message = quotas.map(describeQuota).join("; ");
  if (!quotas.some(isFull)) return ok(message);
  throw new BackupError("QUOTA_EXCEEDED", message, { hint: MAKE_ROOM });
}

function judgeUploads(uploads: readonly OpenUpload[]): Assessment {
  if (uploads.length === 0) return ok("no unfinished uploads");
  const oldest = new Date(Math.min(...uploads.map(({ initiated }) => initiated.getTime())));
  const day = oldest.toISOString().slice(0, 10);
  return ok(`${uploads.length} unfinished, the oldest from ${day}; a sync resumes its own, and removes old ones`);
}

function describeQuota({ of, name, usedBytes, quotaBytes, usedObjects, quotaObjects }: Quota): string {
  const limit = quotaBytes === null ? "no quota" : `quota ${formatSize(quotaBytes)}`;
  const objects = quotaObjects === null ? "" : `, ${usedObjects} of ${quotaObjects} objects`;
  return `${of}${name === null ? "" : ` ${name}`}: ${formatSize(usedBytes)} used, ${limit}${objects}`;
}
