// The versions of everything that a run depends on, and their checks.

import { readVersionText } from "../stream/program-version.ts";
import { look, ok, type Assessment, type Check } from "./check.ts";
import type { DoctorEdges, Machine } from "./ports.ts";

/** The number in what a program prints for --version; without one, all of that. @throws CONFIG when it is not installed */
export async function programVersion(program: string, signal: AbortSignal): Promise<string> {
  const text = await readVersionText(program, signal);
  return /\d+(\.\d+)+/.exec(text)?.[0] ?? text.trim();
}

/** The assessment of what the kernel and btrfs-progs are. */
export function describeBtrfs(versions: Awaited<ReturnType<Machine["versions"]>>): Assessment {
  const { kernel, btrfsProgs, libbtrfsutil } = versions;
  return ok(`Linux ${kernel}, btrfs-progs ${btrfsProgs}, libbtrfsutil ${libbtrfsutil}`, versions);
}

/** The assessment of this program itself. */
export function describeProgram({ name, version, node, sdk }: DoctorEdges["program"]): Assessment {
  return ok(`${name} ${version}, Node ${node}, AWS SDK ${sdk}`, { program: version, node, sdk });
}

interface Need {
  readonly purpose: string;
  /** False: it is not needed for now. */
  readonly wanted: boolean;
}

/** Checks for a program; one that is not needed for now may be missing. */
export async function checkProgram(
  program: "age" | "zstd",
  { purpose, wanted }: Need,
  signal: AbortSignal,
): Promise<Check> {
  const { check } = await look(
    program,
    () => programVersion(program, signal),
    (version) => ok(version, { [program]: version }),
  );
  if (check.status === "ok" || wanted) return check;
  return { ...check, status: "warning", message: `${check.message}; ${purpose} needs it`, error: null };
}
