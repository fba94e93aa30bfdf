// The costs of a program: time, CPU and memory of the whole process and of those that it starts. Node reports that for no
// child, so a small program in C stands between.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { run } from "../support/loopback.ts";

/** The costs of one process of a pipeline. */
export interface Cost {
  /** CPU seconds of the process itself. */
  readonly cpu: number;
  /** CPU seconds of the processes that it started. */
  readonly childrenCpu: number;
  readonly peakBytes: number;
}

/** The costs of a shell line, by the names of its measured processes. */
export interface Measured {
  readonly seconds: number;
  readonly costs: Readonly<Record<string, Cost>>;
}

export interface Meter {
  /** A command as a word list, as a piece of a shell line by which its cost is measured under this name. */
  measured(name: string, words: readonly string[]): string;
  /** Runs a shell line. @throws when it fails, or a measured process of it does */
  run(line: string, env: Readonly<Record<string, string>>): Promise<Measured>;
}

/** Compiles `test/bench/NAME.c` into a directory; gives the program's path. */
export async function compileC(name: string, directory: string, ...libraries: readonly string[]): Promise<string> {
  const source = fileURLToPath(new URL(`../../../test/bench/${name}.c`, import.meta.url));
  const program = join(directory, name);
  await run("cc", "-O2", "-o", program, source, ...libraries);
  return program;
}

/** @param directory - keeps the program and what it writes */
export async function openMeter(directory: string): Promise<Meter> {
  const program = await compileC("measure", directory);
  const results = join(directory, "cost-");
  let names: string[] = [];
  return {
    measured(name, words) {
      names.push(name);
      return [program, results + name, ...words].map(quote).join(" ");
    },
    async run(line, env) {
      const expected = names;
      names = [];
      const { seconds, complaints } = await runLine(line, env);
      const costs: Record<string, Cost> = {};
      for (const name of expected) costs[name] = await readCost(results + name, `${name}: ${complaints}`);
      return { seconds, costs };
    },
  };
}

async function runLine(
  line: string,
  env: Readonly<Record<string, string>>,
): Promise<{ readonly seconds: number; readonly complaints: string }> {
  const start = performance.now();
  const child = spawn("sh", ["-ec", line], { env, stdio: ["ignore", "ignore", "pipe"] });
  const [complaints] = await Promise.all([text(child.stderr), once(child, "exit")]);
  const seconds = (performance.now() - start) / 1000;
  if (child.exitCode !== 0) throw new Error(`failed: ${line}\n${complaints.slice(-2000)}`);
  return { seconds, complaints };
}

async function readCost(file: string, name: string): Promise<Cost> {
  const [status, cpu = NaN, childrenCpu = NaN, kibibytes = NaN] = (await readFile(file, "utf8")).split(" ").map(Number);
  await rm(file);
  if (status !== 0) throw new Error(`${name} ended with status ${status}`);
  return { cpu, childrenCpu, peakBytes: kibibytes * 1024 };
}

/** A word of a shell line. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
