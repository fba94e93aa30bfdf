// The keep rules of a command line or of the container, and the time zone and moment that they apply to.

import type { Command } from "clipanion";
import { parseCount } from "../config/parse.ts";
import { BackupError } from "../errors.ts";
import {
  assertKeeps,
  describeRules,
  NO_RULES,
  openCalendar,
  parseKeepCount,
  parseKeepLast,
  parseKeepText,
  parseKeepWithin,
  PERIODS,
  type KeepRules,
  type Period,
} from "../plan/keep.ts";
import type { ZonedRules } from "../plan/keep-object.ts";
import type { ChainLimits, Keeping } from "../plan/keeping.ts";
import type { Uuid } from "../plan/model.ts";
import { readKeepRules } from "../operations/keep-rules.ts";
import type { Container } from "../operations/store-ports.ts";
import { listOption, textOption } from "./options.ts";
import type { Context, Session } from "./session.ts";

/** The options as typed, or from the configuration file. */
export interface KeepFlags {
  readonly keep: readonly string[];
  readonly keepLast: string | undefined;
  readonly keepWithin: string | undefined;
  readonly keepHourly: string | undefined;
  readonly keepDaily: string | undefined;
  readonly keepWeekly: string | undefined;
  readonly keepMonthly: string | undefined;
  readonly keepYearly: string | undefined;
}

// TypeScript accepts a class that extends a class it does not know only with these parameters.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type CommandBase = abstract new (...parameters: any[]) => Command<Context>;

/** Adds the options of keep rules to a command. */
export function withKeepRules<Base extends CommandBase>(base: Base) {
  abstract class KeepRulesCommand extends base implements KeepFlags {
    keep = listOption("keep");
    keepLast = textOption("keepLast");
    keepWithin = textOption("keepWithin");
    keepHourly = textOption("keepHourly");
    keepDaily = textOption("keepDaily");
    keepWeekly = textOption("keepWeekly");
    keepMonthly = textOption("keepMonthly");
    keepYearly = textOption("keepYearly");
  }
  return KeepRulesCommand;
}

/** The options, parsed. */
export interface TypedKeeping {
  /** Null: no rule was given. */
  readonly rules: KeepRules | null;
  /** Snapshots that are kept whatever the rules say, as typed. */
  readonly pinned: readonly string[];
}

const RULES = /^\s*(\d+|\*|all)[hdwmy](\s+(\d+|\*|all)[hdwmy])*\s*$/;

/** Parses the options. @throws USAGE for rules that keep nothing, and for words that are no rules */
export function readKeeping(flags: KeepFlags): TypedKeeping {
  const texts = flags.keep.filter((text) => RULES.test(text));
  const [short = "", ...more] = texts;
  if (more.length > 0)
    throw new BackupError("USAGE", "--keep is given with rules more than once", { hint: 'use one, as in "30d 8w *y"' });
  const compact = parseKeepText(short, "--keep");
  const typed: Readonly<Record<Period, string | undefined>> = {
    hourly: flags.keepHourly,
    daily: flags.keepDaily,
    weekly: flags.keepWeekly,
    monthly: flags.keepMonthly,
    yearly: flags.keepYearly,
  };
  const counts = { ...compact.counts };
  for (const period of PERIODS) {
    const text = typed[period];
    if (text !== undefined) counts[period] = parseKeepCount(text, `--keep-${period}`);
  }
  const rules: KeepRules = {
    last: flags.keepLast === undefined ? NO_RULES.last : parseKeepLast(flags.keepLast, "--keep-last"),
    withinNs: flags.keepWithin === undefined ? null : parseKeepWithin(flags.keepWithin, "--keep-within"),
    counts,
  };
  const isGiven =
    texts.length > 0 ||
    flags.keepLast !== undefined ||
    flags.keepWithin !== undefined ||
    PERIODS.some((period) => typed[period] !== undefined);
  if (isGiven) assertKeeps(rules);
  return { rules: isGiven ? rules : null, pinned: flags.keep.filter((text) => !RULES.test(text)) };
}

/** The time zone of this machine, or of TZ. */
export function localTimeZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** Describes rules for people, with the time zone of the days that they count. */
export function describeZoned({ rules, timeZone }: ZonedRules): string {
  return `${describeRules(rules)} (days of ${timeZone})`;
}

/** The typed rules, else those that a prune has stored in the container; null where there are none. */
export async function findRules(
  { rules }: TypedKeeping,
  source: Uuid,
  container: Container,
  signal: AbortSignal,
): Promise<ZonedRules | null> {
  if (rules !== null) return { rules, timeZone: localTimeZone() };
  return await readKeepRules(source, container, signal);
}

/** As {@link findRules}; logs the rules and where they come from. */
export async function announceRules(
  typed: TypedKeeping,
  source: Uuid,
  container: Container,
  { log, signal }: Pick<Session, "log" | "signal">,
): Promise<ZonedRules | null> {
  const found = await findRules(typed, source, container, signal);
  const from = typed.rules === null ? " that prune left in the container" : "";
  if (found !== null) log.info(`keep rules${from}: ${describeZoned(found)}`);
  return found;
}

/** For commands that do nothing without rules. `name` is for people. @throws USAGE */
export async function requireRules(
  typed: TypedKeeping,
  { source, name }: { readonly source: Uuid; readonly name: string },
  container: Container,
  session: Pick<Session, "log" | "signal">,
): Promise<ZonedRules> {
  const found = await announceRules(typed, source, container, session);
  if (found !== null) return found;
  throw new BackupError("USAGE", `no keep rules are given, and the container has none for ${name}`, {
    hint: 'give some, as in --keep "30d 8w 24m *y"',
  });
}

/** The store's time, in nanoseconds since the epoch. */
export function nowOf(container: Pick<Container, "now">): bigint {
  return BigInt(Math.floor(container.now())) * 1_000_000n;
}

/** The limits of chains, as typed. */
export interface ChainFlags {
  readonly fullEvery: string | undefined;
  readonly maxChain: string | undefined;
}

/** The limits of chains, parsed. @throws USAGE */
export function readLimits({ fullEvery, maxChain }: ChainFlags): ChainLimits {
  return {
    maxChain: maxChain === undefined ? null : parseCount(maxChain, "--max-chain", 1_000_000),
    fullEveryNs: fullEvery === undefined ? null : parseKeepWithin(fullEvery, "--full-every"),
  };
}

/** The keep rules and chain limits of a sync; null when it has neither. @throws USAGE */
export function toKeeping(
  zoned: ZonedRules | null,
  pinned: readonly string[],
  { container, ...limits }: ChainFlags & { readonly container: Container },
): Keeping | null {
  const { fullEvery, maxChain } = limits;
  if (zoned === null && pinned.length === 0 && fullEvery === undefined && maxChain === undefined) return null;
  return keepingBy(zoned, pinned, { container, ...limits });
}

/** The same, where there is something to follow. @throws USAGE */
export function keepingBy(
  zoned: ZonedRules | null,
  pinned: readonly string[],
  { container, ...limits }: ChainFlags & { readonly container: Container },
): Keeping {
  return {
    rules: zoned?.rules ?? null,
    calendar: openCalendar(zoned?.timeZone ?? localTimeZone()),
    now: nowOf(container),
    ...readLimits(limits),
    pinned: new Set(pinned.map((text) => text.replace(/^\/+|\/+$/g, ""))),
  };
}
