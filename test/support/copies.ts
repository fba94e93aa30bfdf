// Copies of a container, made with other tools: rclone, awscli and swiftclient, as Debian ships them. Each cuts large
// objects in its own way, and most lose metadata.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "./requirements.ts";
import { run } from "./loopback.ts";
import { accounts } from "./swift-config.ts";
import type { Swift } from "./swift.ts";

const MiB = 2 ** 20;

/** A container of a Swift. */
export interface Place {
  readonly swift: Swift;
  readonly container: string;
}

/** Copies everything, or less where noted, into an existing container. */
export type Copy = (from: Place, to: Place) => Promise<void>;

/** Why nothing can be copied here with awscli and swiftclient; false when it can. */
export function noCopyTools(): string | false {
  const missing = Object.entries({ aws: "awscli", swift: "python3-swiftclient", rclone: "rclone" }).find(
    ([program]) => findProgram(program) === null,
  );
  return missing === undefined ? false : `needs the program ${missing[0]} (package ${missing[1]})`;
}

/** Object by object, over the wire. */
export function rclone(...options: readonly string[]): Copy {
  return async (from, to) => {
    const remotes = Object.entries({ HERE: from, THERE: to }).flatMap(([name, { swift }]) => {
      const settings = {
        TYPE: "s3",
        PROVIDER: "Other",
        ACCESS_KEY_ID: swift.accessKey,
        SECRET_ACCESS_KEY: swift.secretKey,
        ENDPOINT: swift.endpoint,
        REGION: swift.region,
      };
      return Object.entries(settings).map(([setting, value]) => `RCLONE_CONFIG_${name}_${setting}=${value}`);
    });
    const words = ["copy", `HERE:${from.container}`, `THERE:${to.container}`, ...options];
    await run("env", "-i", "PATH=/usr/bin:/bin", ...remotes, "RCLONE_CONFIG=/dev/null", "rclone", ...words);
  };
}

/** Only archives, through a directory, which cannot hold KEY beside KEY/proof; without metadata. */
export const awsByDisk: Copy = byDisk((from, to) => [
  `aws s3 sync --only-show-errors --endpoint-url ${from.swift.endpoint} --exclude '*/*' s3://${from.container} .`,
  `aws s3 sync --only-show-errors --endpoint-url ${to.swift.endpoint} . s3://${to.container}`,
]);

/** The same in dynamic large objects: segments that a common prefix of their names holds together. */
export const swiftByDisk: Copy = byDisk((from, to) => [
  `swift -A ${authOf(from)} list ${from.container} | grep -v / | xargs -d '\\n' swift -A ${authOf(from)} download ${from.container}`,
  `swift -A ${authOf(to)} upload --segment-size ${4 * MiB} ${to.container} .`,
]);

/** Object by object, without metadata. In parts of 7 MiB. */
export const awsByPipe: Copy = byPipe((from, to) => [
  `aws s3 cp --only-show-errors --endpoint-url ${from.swift.endpoint} "s3://${from.container}/$1" -`,
  `aws s3 cp --only-show-errors --endpoint-url ${to.swift.endpoint} - "s3://${to.container}/$1"`,
]);

export const swiftByPipe: Copy = byPipe((from, to) => [
  `swift -A ${authOf(from)} download ${from.container} "$1" --output -`,
  `swift -A ${authOf(to)} upload --use-slo --segment-size ${4 * MiB} --object-name "$1" ${to.container} -`,
]);

/** From a pipe, swiftclient makes static large objects only. */
export const swiftByFile: Copy = byPipe((from, to) => [
  `swift -A ${authOf(from)} download ${from.container} "$1" --output body >&2; echo body`,
  `xargs -I {} swift -A ${authOf(to)} upload --segment-size ${4 * MiB} --object-name "$1" ${to.container} {}`,
]);

/** Within a Swift, where the bytes stay. */
export const swiftWithin: Copy = async (from, to) => {
  const keys = await keysOf(from);
  await inDirectory([`swift -A ${authOf(from)} copy -d /${to.container} ${from.container} "$@"`], keys);
};

/** Within a Swift, in one request each: by parts it cannot, of objects in parts (awscli 2.9 with Swift 2.30). */
export const awsWithin: Copy = async (from, to) => {
  const sync = `aws s3 sync --only-show-errors --endpoint-url ${from.swift.endpoint}`;
  await inDirectory([`${sync} s3://${from.container} s3://${to.container}`], [], "1GB");
};

/** Every key in a container, in order. */
export async function keysOf({ swift, container }: Place): Promise<readonly string[]> {
  const listing = await swift.native.request("GET", `/${encodeURIComponent(container)}`);
  return (await listing.text()).split("\n").filter((key) => key !== "");
}

// --- shell

type Commands = (from: Place, to: Place) => readonly string[];

function byDisk(commands: Commands): Copy {
  return async (from, to) => await inDirectory(commands(from, to), []);
}

function byPipe(commands: Commands): Copy {
  return async (from, to) => {
    for (const key of await keysOf(from)) await inDirectory([commands(from, to).join(" | ")], [key]);
  };
}

function authOf({ swift }: Place): string {
  return `${swift.endpoint}/auth/v1.0`;
}

/** Runs commands, one after the other, in an empty directory. */
async function inDirectory(commands: readonly string[], args: readonly string[], threshold = "6MB"): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "copy-"));
  const config = `${directory}.conf`;
  try {
    await writeFile(config, `[default]\ns3 =\n multipart_threshold = ${threshold}\n multipart_chunksize = 7MB\n`);
    const environment = {
      PATH: "/usr/bin:/bin",
      HOME: directory,
      AWS_ACCESS_KEY_ID: accounts.tester.accessKey,
      AWS_SECRET_ACCESS_KEY: accounts.tester.secretKey,
      AWS_DEFAULT_REGION: "us-east-1",
      AWS_CONFIG_FILE: config,
      ST_USER: accounts.tester.accessKey,
      ST_KEY: accounts.tester.secretKey,
    };
    const script = ["set -eo pipefail", `cd ${directory}`, ...commands].join("\n");
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    await run("env", "-i", ...variables, "bash", "-c", script, "copy", ...args);
  } finally {
    await Promise.all([rm(directory, { recursive: true }), rm(config, { force: true })]);
  }
}
