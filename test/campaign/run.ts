// `npm run campaign`: rounds in which something goes wrong, by chance, and what must hold after each of them.
//
//   npm run campaign -- [--seed N]... [--rounds N] [--kind WORDS]     as root; one seed, 45 rounds
//   npm run campaign -- --seed 7 --round 31                           that round again, with those that led to it
//
// A seed is a row of worlds; in each world every kind of fault comes once, in an order of its own. Ends with a table, and
// with 1 when a promise was broken or a fault that was planned did not hit.

import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { roomForStorage } from "../support/swift.ts";
import { chanceOf } from "./chance.ts";
import { markerLeft, storeDamaged } from "./damage.ts";
import {
  badAnswers,
  badConnection,
  childKilled,
  serverFrozen,
  serverKilled,
  toolKilled,
  wrongClock,
  type FaultKind,
} from "./faults.ts";
import { checkEnd, checkNoLeftovers, checkRestored, look, Violation } from "./invariants.ts";
import { restoreDisturbed, restoreKilled } from "./restores.ts";
import { calm, checkAll, cleanSync, clearTarget, restoreNewest, type Round } from "./round.ts";
import { noSpace, snapshotsChanged, twoMachines, twoRuns } from "./situations.ts";
import { closeWorld, openGround, openWorld, startRestore, startVerify, type Ground, type World } from "./world.ts";

const KINDS: readonly FaultKind[] = [
  toolKilled,
  childKilled,
  serverKilled,
  serverFrozen,
  badAnswers,
  badConnection,
  wrongClock,
  twoRuns,
  twoMachines,
  snapshotsChanged,
  noSpace,
  storeDamaged,
  markerLeft,
  restoreKilled,
  restoreDisturbed,
];

/** Each kind comes once in a world. */
const ROUNDS_PER_WORLD = KINDS.length;

interface CampaignOptions {
  readonly seeds: readonly number[];
  readonly rounds: number;
  /** Only this round counts, and those that lead to it in its world. */
  readonly only: number | null;
  /** Only kinds with this in their name. */
  readonly kind: string | null;
  readonly verbose: boolean;
}

interface Tally {
  passed: number;
  violated: number;
  /** Planned faults that did not hit and were planned again. */
  replanned: number;
  seconds: number;
}

interface Campaign {
  readonly options: CampaignOptions;
  readonly ground: Ground;
  readonly tally: Map<string, Tally>;
  readonly violations: string[];
  /** By Ctrl-C: after the round that is being played. */
  stopped: boolean;
}

function readArguments(words: readonly string[]): CampaignOptions {
  const { values } = parseArgs({
    args: [...words],
    options: {
      seed: { type: "string", multiple: true, default: ["1"] },
      rounds: { type: "string", default: `${3 * ROUNDS_PER_WORLD}` },
      round: { type: "string" },
      kind: { type: "string" },
      verbose: { type: "boolean", short: "v", default: false },
    },
  });
  const only = values.round === undefined ? null : Number(values.round);
  const rounds = only === null ? Number(values.rounds) : only;
  return { seeds: values.seed.flatMap(seedsOf), rounds, only, kind: values.kind ?? null, verbose: values.verbose };
}

/** `7`, or `1-5`. */
function seedsOf(text: string): readonly number[] {
  const [first = NaN, last = first] = text.split("-").map(Number);
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) throw new Error(`no seed: ${text}`);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(words: readonly string[]): Promise<void> {
  const options = readArguments(words);
  const lacking = noBtrfsOrSwift();
  if (lacking !== false) throw new Error(`the campaign ${lacking}`);
  const directory = await mkdtemp(join(await roomForStorage(), "campaign-"));
  // Images, mounts and machines lie there too.
  process.env["TMPDIR"] = directory;
  try {
    await play(options, await openGround(directory, say));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function play(options: CampaignOptions, ground: Ground): Promise<void> {
  const campaign: Campaign = { options, ground, tally: new Map(), violations: [], stopped: false };
  const started = performance.now();
  const stop = (): void => {
    if (!campaign.stopped) say("ends after this round");
    campaign.stopped = true;
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, stop);
  try {
    for (const seed of options.seeds) await playSeed(campaign, seed);
  } finally {
    await ground.close();
  }
  report(campaign, (performance.now() - started) / 1000);
  if (campaign.violations.length > 0 || campaign.stopped) process.exitCode = 1;
}

async function playSeed(campaign: Campaign, seed: number): Promise<void> {
  const { rounds, only } = campaign.options;
  const firstWorld = only === null ? 0 : Math.floor((only - 1) / ROUNDS_PER_WORLD);
  for (let number = firstWorld; number * ROUNDS_PER_WORLD < rounds && !campaign.stopped; number += 1)
    await playWorld(campaign, seed, number);
}

/** Rounds are numbered from 1, through all worlds of a seed. After a violation, the next round begins in an intact world. */
async function playWorld(campaign: Campaign, seed: number, number: number): Promise<void> {
  const { options } = campaign;
  const kinds = chanceOf("kinds", seed, number).shuffled(KINDS);
  const first = number * ROUNDS_PER_WORLD + 1;
  const last = Math.min(first + ROUNDS_PER_WORLD - 1, options.rounds);
  const plans = kinds.map((kind, index) => ({ seed, round: first + index, kind }));
  const wantedPlans = plans.filter(
    ({ round, kind }) => round <= last && (options.kind === null || kind.name.includes(options.kind)),
  );
  for (let begun = 0, world = 1; begun < wantedPlans.length && !campaign.stopped; world += 1) {
    begun += await playRounds(campaign, `${seed}-${number}-${world}`, wantedPlans.slice(begun));
  }
}

/** Plays rounds in a world of their own until one breaks a promise; gives how many were played. */
async function playRounds(campaign: Campaign, name: string, plans: readonly Plan[]): Promise<number> {
  const world = await openWorld(campaign.ground, name, chanceOf("world", name));
  try {
    for (const [index, plan] of plans.entries()) {
      if (campaign.stopped) return plans.length;
      if (!(await playRound(campaign, world, { ...plan, isLast: index === plans.length - 1 }))) return index + 1;
    }
    return plans.length;
  } finally {
    await calm(world).catch(() => undefined);
    await closeWorld(world).catch((error: unknown) => say(`closing world ${world.name}: ${String(error)}`));
  }
}

interface Plan {
  readonly seed: number;
  readonly round: number;
  readonly kind: FaultKind;
}

interface RoundPlan extends Plan {
  readonly isLast: boolean;
}

async function playRound(
  campaign: Campaign,
  world: World,
  { seed, round: number, kind, isLast }: RoundPlan,
): Promise<boolean> {
  const tally = tallyOf(campaign, kind);
  const started = performance.now();
  const round: Round = { world, chance: chanceOf("round", seed, number), misses: 0 };
  world.story.length = 0;
  try {
    await kind.play(round);
    await finishRound(round);
    if (isLast) await finishWorld(round);
    tally.passed += 1;
    note("ok");
    return true;
  } catch (error) {
    tally.violated += 1;
    const why =
      error instanceof Violation || !(error instanceof Error) ? String(error) : (error.stack ?? String(error));
    campaign.violations.push(
      `seed ${seed} round ${number} (${kind.name}): ${why}\n    again: npm run campaign -- --seed ${seed} --round ${number}`,
    );
    note(`VIOLATION: ${why}`);
    for (const each of world.story) say(each.replace(/^/gm, "    "));
    return false;
  } finally {
    tally.replanned += round.misses;
    tally.seconds += (performance.now() - started) / 1000;
  }

  function note(outcome: string): void {
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const again = round.misses === 0 ? "" : ` (planned ${round.misses + 1} times)`;
    say(`seed ${seed} round ${number} ${kind.name}${again} ${seconds} s: ${outcome}`);
    if (campaign.options.verbose && outcome === "ok") for (const each of world.story) say(each.replace(/^/gm, "    "));
  }
}

/** The fault is over: a clean run archives all, nothing that was good is gone, and what is restored is equal. */
async function finishRound(round: Round): Promise<void> {
  const { world, chance } = round;
  await calm(world);
  await checkAll(round);
  await cleanSync(round, "after the fault");
  await checkAll(round);
  if (chance.maybe(0.35)) {
    if (chance.maybe(0.2)) await clearTarget(world);
    await restoreNewest(round, "after the fault");
  }
}

/** Two states of one snapshot: `btrfs receive` cannot distinguish them, so one filesystem cannot hold both chains. */
const [RECEIVE_FAILED, ANOTHER_STATE] = [15, "but was received in another state"];

/** verify reports that all archives are good, and all of them restore equal. */
async function finishWorld(round: Round): Promise<void> {
  const { world } = round;
  checkEnd(await startVerify(world, ["--read-data"]).ended, "verify at the end of a world", [0]);
  await sleep(1100);
  const verified = await startVerify(world, ["--remove-leftovers", "--leftover-age", "1s"]).ended;
  checkEnd(verified, "verify --remove-leftovers at the end of a world", [0]);
  await checkNoLeftovers(world);
  await clearTarget(world);
  const parents = new Set([...world.intact.values()].map(({ sendParent }) => sendParent));
  const sealed = new Set<string>();
  for (const { key, identity } of world.intact.values()) {
    if (parents.has(identity)) continue;
    let ran = await startRestore(world, key).ended;
    if (ran.code === RECEIVE_FAILED && ran.stderr.includes(ANOTHER_STATE)) {
      for (const each of await restoredIdentities(world)) sealed.add(each);
      await clearTarget(world);
      ran = await startRestore(world, key).ended;
    }
    checkEnd(ran, `restore of ${key} at the end of a world`, [0]);
  }
  for (const each of await restoredIdentities(world)) sealed.add(each);
  const stored = await look(world);
  for (const { key, identity } of world.intact.values()) {
    if (stored.archives.has(key) && !sealed.has(identity))
      throw new Violation(`${key} was not restored with what builds on it`);
  }
}

async function restoredIdentities(world: World): Promise<readonly string[]> {
  return (await checkRestored(world)).map(({ receivedUuid, stransid }) => `${receivedUuid ?? ""}/${stransid}`);
}

function tallyOf({ tally }: Campaign, { name }: FaultKind): Tally {
  const known = tally.get(name) ?? { passed: 0, violated: 0, replanned: 0, seconds: 0 };
  tally.set(name, known);
  return known;
}

function report({ tally, violations, options }: Campaign, seconds: number): void {
  const rows = [...tally].map(([name, { passed, violated, replanned, seconds: each }]) => {
    const mean = each / Math.max(1, passed + violated);
    return [name, `${passed}`, `${violated}`, `${replanned}`, mean.toFixed(1)];
  });
  const total = [...tally.values()].reduce(
    (sum, each) => ({
      passed: sum.passed + each.passed,
      violated: sum.violated + each.violated,
      replanned: sum.replanned + each.replanned,
    }),
    { passed: 0, violated: 0, replanned: 0 },
  );
  const table = [
    ["kind of fault", "passed", "violations", "planned anew", "s/round"],
    ...rows.toSorted(),
    [
      "all",
      `${total.passed}`,
      `${total.violated}`,
      `${total.replanned}`,
      (seconds / Math.max(1, total.passed + total.violated)).toFixed(1),
    ],
  ];
  say("");
  for (const [name = "", ...cells] of table) say(name.padEnd(30) + cells.map((cell) => cell.padStart(14)).join(""));
  say("");
  for (const violation of violations) say(violation);
  say(
    `seeds ${options.seeds.join(" ")}: ${total.passed + total.violated} rounds in ${seconds.toFixed(0)} s, ${violations.length} violations`,
  );
}

await main(process.argv.slice(2));
