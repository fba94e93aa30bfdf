// The promises of the documents to those who do without this program, or have programs of their own: the commands of the
// restore by hand, run by a shell with the tools they name, and the fields of each result in JSON.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli } from "../support/cli.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { changeTree, compareTrees, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;
const FORMAT = readFileSync(new URL("../../../src/plan/FORMAT.md", import.meta.url), "utf8");
const REFERENCE = readFileSync(new URL("../../../src/commands/README.md", import.meta.url), "utf8");

/** The commands in a section, as one script. */
function commandsOf(heading: string): string {
  const section = FORMAT.split(/^## /m).find((each) => each.startsWith(heading)) ?? "";
  const blocks = [...section.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, block = ""]) => block);
  assert.ok(blocks.length > 0, `no commands under ${heading}`);
  return blocks.join("");
}

/** Puts the values of a test in the place of the documented ones. */
function fill(script: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values).reduce((text, [name, value]) => {
    const assignment = new RegExp(`^${name}=\\S+`, "m");
    assert.match(text, assignment);
    return text.replace(assignment, `${name}='${value}'`);
  }, script);
}

/** The names that the reference gives to the fields of a command's result. */
function documentedFields(command: string): Set<string> {
  const row = REFERENCE.split("\n").find((line) => line.startsWith(`| \`${command}\` `)) ?? "";
  const [, , text = ""] = row.split("|");
  const [, other] = /as `(\w+)` has them/.exec(text) ?? [];
  const names = [...text.matchAll(/`(\w+)`/g)].map(([, name = ""]) => name);
  return new Set([...names, ...(other === undefined ? [] : documentedFields(other))]);
}

/** The names of all fields in a result of one document or of a document a line. */
function fieldsOf(stdout: string): Set<string> {
  const names = new Set<string>();
  const take = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(take);
    else if (typeof value === "object" && value !== null)
      for (const [name, inner] of Object.entries(value)) {
        names.add(name);
        take(inner);
      }
  };
  for (const line of stdout.trim().split("\n")) take(JSON.parse(line));
  return names;
}

describe("the documented restore without this tool", { skip: noBtrfsOrSwift() }, () => {
  // As snapper names them: each stream wants the same name, and 10 comes before 2 in a listing.
  const numbers = [2, 10];
  let swift: Swift;
  let disk: Loopback;
  let home: string;
  let identity: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 512 * MiB })]);
    home = join(disk.mountPoint, "@home");
    await btrfs("subvolume", "create", home);
    await btrfs("subvolume", "create", join(home, ".snapshots"));
    await makeTree(join(home, "data"), { seed: 1, files: 6, bytes: 6 * MiB });
    for (const number of numbers) {
      if (number > 2) await changeTree(join(home, "data"), number);
      await mkdir(join(home, `.snapshots/${number}`));
      await btrfs("subvolume", "snapshot", "-r", home, join(home, `.snapshots/${number}/snapshot`));
    }
    identity = join(disk.directory, "identity.txt");
    await run("age-keygen", "-o", identity);
  });
  after(() => Promise.all([swift.close(), disk.close()]));

  async function archive(container: string, ...args: string[]): Promise<void> {
    await swift.createContainer(container);
    const { code, stderr } = await cli(["sync", home, "--container-name", container, ...args], {
      env: swift.environment,
    });
    assert.equal(code, 0, stderr);
  }

  /** Runs the commands, and compares all that came with all that there is. */
  async function restoreByHand(container: string): Promise<void> {
    await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint: target, directory }) => {
      const subvolume = /^\tUUID:\s+(\S+)$/m.exec(await btrfs("subvolume", "show", home))?.[1] ?? "";
      const script = fill(commandsOf("Restore without this tool"), { container, target, subvolume, identity });
      const login = [`ST_AUTH=${swift.endpoint}/auth/v1.0`, `ST_USER=${swift.accessKey}`, `ST_KEY=${swift.secretKey}`];
      await run("env", "-C", directory, ...login, "sh", "-eu", "-c", script);
      const keys = (await readFile(join(directory, "archives"), "utf8")).trim().split("\n");
      assert.deepEqual(
        keys.map((key) => /\\x2f(\d+)\\x2f/.exec(key)?.[1]),
        numbers.map(String),
      );
      for (const number of numbers) {
        const path = `.snapshots/${number}/snapshot`;
        assert.deepEqual((await compareTrees(join(home, path), join(target, "@home", path))).differences, []);
      }
    });
  }

  test("brings back what is stored as it is", async () => {
    await archive("plain");
    await restoreByHand("plain");
  });

  test("is not needed by programs: the reference names each field of every result in JSON", async () => {
    await swift.createContainer("fields");
    const store = ["--container-name", "fields", "--json"];
    const target = await mkdtemp(join(disk.mountPoint, "target-"));
    const lines: readonly (readonly [command: string, ...args: string[]])[] = [
      ["sync", home, "-n"],
      ["sync", home, "--dry-run"],
      ["sync", home, "--limit-upload", "100Mi"],
      ["sync", home],
      ["list", home],
      ["ls", "--latest", "--recursive"],
      ["find", "*"],
      ["verify", "-n"],
      ["verify", home, "--read-data", "--against-local"],
      ["restore", "latest", "-n"],
      ["restore", "latest", "--target", target],
      ["doctor", home],
      ["config show", home],
      ["pin", "@home/.snapshots/2/snapshot"],
      ["unpin", "@home/.snapshots/2/snapshot"],
      ["prune", home, "--keep-last", "1", "-n"],
    ];
    for (const [command, ...args] of lines) {
      const { code, stdout, stderr } = await cli([...command.split(" "), ...args, ...store], {
        env: swift.environment,
      });
      assert.equal(code, 0, stderr);
      const documented = documentedFields(command);
      const missing = [...fieldsOf(stdout)].filter((name) => name !== "type" && !documented.has(name));
      assert.deepEqual(missing, [], `${command} ${args.join(" ")}`);
    }
  });

  test("brings back what is compressed, encrypted and in volumes", async () => {
    const recipient = (await run("age-keygen", "-y", identity)).trim();
    await archive("sealed", "--age-recipient", recipient, "--compress", "zstd", "--volume-size", "5Mi");
    assert.match(await swift.native.request("GET", "/sealed").then((answer) => answer.text()), /\/000002$/m);
    await restoreByHand("sealed");
  });
});
