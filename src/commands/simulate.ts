// Shows what keep rules would cost over time, from the snapshots here or from a history.

import { setImmediate } from "node:timers/promises";
import { Command, Option } from "clipanion";
import { parseCount } from "../config/parse.ts";
import { abortedError, BackupError } from "../errors.ts";
import { keepsSomething, openCalendar, parseKeepText, type KeepRules } from "../plan/keep.ts";
import { pickMilestones, simulate, simulateLine, type SimulatedState } from "../plan/simulate.ts";
import { BaseCommand } from "./command.ts";
import { localTimeZone, readKeeping, readLimits, withKeepRules } from "./keep-options.ts";
import { textOption } from "./options.ts";
import type { Session } from "./session.ts";
import { printRules, printStates } from "./simulate-report.ts";
import { measureHistory, readHistory } from "./simulate-sizes.ts";
import { summaryOf } from "./summaries.ts";

const USUAL_DAYS = 365;
const MOST_DAYS = 3650;

/** So many simulated days pass before Ctrl-C is looked for. */
const DAYS_AT_ONCE = 20;

export class SimulateCommand extends withKeepRules(BaseCommand) {
  static override paths = [["simulate"]];
  static readonly exits = [0, 2, 15, 130];
  static override usage = Command.Usage({
    description: summaryOf("simulate"),
    details: `
      Runs the planners of sync and prune for each day of a year, or of N days, and shows what the container would hold:
      archives, bytes uploaded and stored, and the longest restore; last without keep rules, for comparison. It contacts no
      server and sends nothing.

      The sizes come from the snapshots of PATH: it estimates a few streams, and assumes that the subvolume goes on to
      change as it did. Or they come from a file: JSON Lines with \`otime\`, \`bytes\` (of the difference to the line before;
      first in full) and, if known, \`fullBytes\`; or what \`list PATH --json\` prints.
    `,
    examples: [
      ["What a year would cost", '$0 simulate /home --keep "30d 8w 24m *y"'],
      [
        "What the archives of the last years would have cost by rules",
        '$0 list /home --container-name backup --json | $0 simulate --history - --keep "30d 8w 24m *y"',
      ],
    ],
  });

  config = textOption("config");
  use = textOption("use");
  days = textOption("days");
  history = textOption("history");
  keepLocal = textOption("keepLocal");
  fullEvery = textOption("fullEvery");
  maxChain = textOption("maxChain");
  subvolume = Option.String({ name: "PATH", required: false });

  protected override async run(session: Session): Promise<number> {
    const days = this.days === undefined ? null : parseCount(this.days, "--days", MOST_DAYS);
    const { rules, pinned } = readKeeping(this);
    if (rules === null)
      throw new BackupError("USAGE", "no keep rules are given", { hint: 'give some, as in --keep "30d 8w 24m *y"' });
    if (pinned.length > 0) session.log.info(`--keep ${pinned.join(", ")} is left out: only rules are simulated`);
    const localRules = this.keepLocal === undefined ? null : readLocalRules(this.keepLocal);
    const limits = readLimits(this);
    const path = this.choosePath();
    const history =
      this.history === undefined
        ? await measureHistory(path, days ?? USUAL_DAYS, session)
        : await readHistory(this.history, { days, stdin: this.context.stdin }, session);
    const timeZone = localTimeZone();
    printRules({ rules, timeZone }, localRules, session);
    const request = { rules, localRules: localRules ?? rules, calendar: openCalendar(timeZone), limits };
    const states = await collect(simulate(history, request), session);
    printStates(pickMilestones(states), simulateLine(history), session);
    return 0;
  }

  /** @throws USAGE */
  private choosePath(): string {
    const { subvolume, history } = this;
    if (subvolume !== undefined && history !== undefined)
      throw new BackupError("USAGE", "PATH and --history are both given", { hint: "the sizes come from one of them" });
    const [path = "", ...others] = subvolume === undefined ? this.context.settings.paths : [subvolume];
    if (history === undefined && (path === "" || others.length > 0))
      throw new BackupError("USAGE", path === "" ? "no PATH given" : "the target has several paths", {
        hint: "use simulate PATH, with the subvolume whose snapshots show the sizes; or --history FILE",
      });
    return path;
  }
}

/** @throws USAGE */
function readLocalRules(text: string): KeepRules {
  const rules = parseKeepText(text, "--keep-local");
  if (keepsSomething(rules)) return rules;
  throw new BackupError("USAGE", "--keep-local keeps nothing", { hint: 'for example --keep-local "14d 6m"' });
}

async function collect(
  states: Generator<SimulatedState, void>,
  { progress, signal }: Pick<Session, "progress" | "signal">,
): Promise<readonly SimulatedState[]> {
  const all: SimulatedState[] = [];
  for (const state of states) {
    all.push(state);
    if (all.length % DAYS_AT_ONCE > 0) continue;
    progress.start(`simulating day ${all.length}`, null);
    await setImmediate();
    if (signal.aborted) throw abortedError(signal);
  }
  progress.stop();
  return all;
}
