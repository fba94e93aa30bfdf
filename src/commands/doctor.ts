// `doctor`: prints whether a sync could succeed, one line for each check.

import { Command, Option } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import { diagnose } from "../operations/doctor.ts";
import { printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import { EncodingCommand } from "./encoding.ts";
import { findRules, readKeeping, toKeeping, withKeepRules } from "./keep-options.ts";
import { summaryOf } from "./summaries.ts";
import { versionNames, type Check, type Versions } from "../operations/check.ts";
import type { KeepingOf } from "../operations/doctor-archives.ts";

export class DoctorCommand extends withKeepRules(EncodingCommand) {
  static override paths = [["doctor"]];
  static readonly exits = [0, 2, 3, 10, 13, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("doctor"),
    details: `
      Tries everything that \`sync PATH\` with the same options needs, and prints one line for each, with what to do
      if it fails. It writes, reads and deletes a small object in the container, and creates S3 keys with Keystone if the
      project has none. It changes nothing else. It waits for no other run and takes no lock.
    `,
    examples: [["Before the first sync of /home", "$0 doctor /home --container-name backup"]],
  });

  allowEmpty = switchOption("allowEmpty");
  received = switchOption("received");
  fullEvery = textOption("fullEvery");
  maxChain = textOption("maxChain");
  subvolume = Option.String({ name: "PATH" });

  protected override async run(session: Session): Promise<number> {
    const { output, screen, signal } = session;
    const encoding = this.encodingOptions();
    const keepingOf = this.readKeeping(session);
    const checks: Check[] = [];
    screen.status("looking…");
    for await (const check of diagnose(
      { path: this.subvolume, received: this.received, allowsEmpty: this.allowEmpty, ...encoding, keepingOf },
      await session.openDoctor(),
      signal,
    )) {
      checks.push(check);
      output.line(toLine(check));
    }
    screen.status(null);
    const failed = checks.find(({ error }) => error !== null);
    output.record({ ok: failed === undefined, versions: toVersions(checks), checks: checks.map(toRecord) });
    return failed?.error?.exitCode ?? 0;
  }

  /** @throws USAGE */
  private readKeeping(session: Session): KeepingOf {
    const { fullEvery, maxChain } = this;
    const keeping = readKeeping(this);
    return async (source, container) => {
      const rules = await findRules(keeping, source, container, session.signal);
      return toKeeping(rules, keeping.pinned, { fullEvery, maxChain, container });
    };
  }
}

function toLine({ name, status, message, fix }: Check): string {
  return `${status.padEnd(8)} ${name.padEnd(12)} ${printable(message)}${fix === null ? "" : `: ${printable(fix)}`}`;
}

function toVersions(checks: readonly Check[]): Record<string, string | null> {
  const found = checks.reduce<Partial<Versions>>((all, { versions }) => ({ ...all, ...versions }), {});
  return Object.fromEntries(versionNames.map((name) => [name, found[name] ?? null]));
}

function toRecord({ name, status, message, fix, error }: Check): Record<string, unknown> {
  return { name, status, message, fix, code: error?.code ?? null };
}
