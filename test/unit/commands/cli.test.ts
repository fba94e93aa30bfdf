// The program before it has anything to do: help, versions, what is not understood, and what starting costs.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { describeCommand } from "../../../src/commands/usage.ts";
import { nearest } from "../../../src/config/suggest.ts";
import { registry } from "../../../src/commands/registry.ts";
import { summaryOf, topicNames } from "../../../src/commands/summaries.ts";
import { topics } from "../../../src/commands/topics.ts";
import { sendsPasswordsOpenly } from "../../../src/config/store.ts";
import { exitMeanings } from "../../../src/errors.ts";
import { readKeystoneLogin } from "../../../src/config/openstack.ts";
import { cli, MAIN, type Ran } from "../../support/cli.ts";
import { openGolden } from "../../support/golden.ts";

const README = readFileSync(new URL("../../../../README.md", import.meta.url), "utf8");

test("an unexpected error ends it with 1", async () => {
  const teapot = createServer((_, response) =>
    response.writeHead(418).end("<Error><Code>ShortAndStout</Code></Error>"),
  );
  await once(teapot.listen(0, "127.0.0.1"), "listening");
  try {
    const endpoint = `http://127.0.0.1:${(teapot.address() as AddressInfo).port}`;
    const env = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" };
    const { code, stderr } = await cli(["list", "--container-name", "backup", "--endpoint", endpoint], { env });
    assert.equal(code, 1, stderr);
    assert.match(stderr, /ShortAndStout/);
  } finally {
    teapot.close();
  }
});

test("what is typed is shown without a character that a terminal obeys", async () => {
  const evil = "a\u001b[2J\u009bb";
  for (const words of [
    ["completion", evil],
    [evil],
    ["sync", `--${evil}`],
    ["list", "--container-name", "x", "--config", evil],
  ]) {
    const { code, stdout, stderr } = await cli(words);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /a\\x1b\[2J\\x9bb/);
    assert.doesNotMatch(stderr, /[\u001b\u009b]/);
  }
});

test("version shows the output of programs without a character that a terminal obeys", async () => {
  const directory = mkdtempSync(join(tmpdir(), "version-"));
  try {
    writeFileSync(join(directory, "btrfs"), "#!/bin/sh\nprintf 'btrfs-progs v6\\033[2J\\n'\n", { mode: 0o755 });
    const { stdout } = await cli(["version"], { env: { PATH: `${directory}:/usr/bin:/bin` } });
    assert.match(stdout, /btrfs-progs 6\\x1b\[2J\n/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("--force-decompress is refused where it would do harm, and where it would do nothing", async () => {
  const directory = mkdtempSync(join(tmpdir(), "version-"));
  const restore = async (version: string, ...words: string[]): Promise<Ran> => {
    writeFileSync(join(directory, "btrfs"), `#!/bin/sh\necho btrfs-progs v${version}\n`, { mode: 0o755 });
    const args = ["restore", "--container-name", "x", "--latest", "--force-decompress", ...words];
    return await cli(args, { env: { PATH: `${directory}:/usr/bin:/bin` } });
  };
  try {
    const old = await restore("6.1.3", "--target", directory);
    assert.equal(old.code, 2, old.stderr);
    assert.match(old.stderr, /--force-decompress needs btrfs-progs 6\.2 or newer, but here is 6\.1\.3: install/);
    // There it gets as far as the directory, which is not on btrfs.
    assert.equal((await restore("6.2", "--target", "/proc")).code, 15);
    const elsewhere = await restore("6.2", "--stdout");
    assert.equal(elsewhere.code, 2);
    assert.match(elsewhere.stderr, /--force-decompress is for --target: give it to `btrfs receive` there/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

describe("help", () => {
  const golden = openGolden("help");

  test("the overview and each command's help are as they were", async () => {
    const overview = await cli(["--help"]);
    assert.deepEqual([overview.code, overview.stderr], [0, ""]);
    golden.check("overview.txt", overview.stdout.replace(/^(\S+) \S+/, "$1 VERSION"));
    for (const { name } of registry) {
      const { code, stdout } = await cli([...name.split(" "), "--help"]);
      assert.equal(code, 0);
      golden.check(`${name.replace(" ", "-")}.txt`, stdout);
    }
    for (const name of topicNames) {
      const { code, stdout } = await cli(["help", name]);
      assert.equal(code, 0);
      golden.check(`topic-${name}.txt`, stdout);
    }
    golden.assertNoneStale();
  });

  for (const registered of registry) {
    test(`${registered.name}: an example first, the exit codes last, and every value has a name`, async () => {
      const help = describeCommand(await registered.load(), "program");
      const { stdout } = await cli([...registered.name.split(" "), "--help"]);
      assert.match(stdout, /^Example\n/);
      const last = help.exits.at(-1);
      assert.ok(stdout.endsWith(`${last?.code ?? ""}  ${last?.meaning ?? ""}\n`), stdout);
      assert.deepEqual(
        help.options.filter(({ value }) => value === "VALUE"),
        [],
        "name the value in config/options.ts",
      );
      assert.ok(
        stdout.split("\n").every((line) => line.length <= 80 || line.startsWith("    ")),
        stdout,
      );
      assert.equal(help.summary, summaryOf(registered.name));
    });
  }

  test("a topic of the help fits 80 columns, but for lines to type, and the manual has the same sections", async () => {
    const manual = (await cli(["completion", "man"])).stdout;
    for (const name of topicNames) {
      const { stdout } = await cli(["help", name]);
      const tooLong = stdout.split("\n").filter((line) => line.length > 80 && !line.startsWith("  "));
      assert.deepEqual(tooLong, [], name);
      for (const { title } of topics[name]) assert.ok(manual.includes(`\n.SH ${title.toUpperCase()}\n`), title);
    }
    for (const title of ["CONFIGURATION", "CREDENTIALS", "ENVIRONMENT", "FILES", "EXIT STATUS"])
      assert.ok(manual.includes(`\n.SH ${title}\n`), title);
  });

  test("help format has the script of the reference, word for word", async () => {
    const reference = readFileSync(new URL("../../../../src/plan/FORMAT.md", import.meta.url), "utf8");
    const script = /```sh\n([^]*?)```/.exec(reference)?.[1]?.trimEnd() ?? "";
    assert.match(script, /btrfs receive/);
    const { stdout } = await cli(["help", "format"]);
    assert.ok(stdout.replaceAll("\n  ", "\n").includes(script), stdout);
  });

  test("help config is the topic, help config show the command", async () => {
    assert.match((await cli(["help", "config"])).stdout, /^Configuration\n/);
    assert.equal((await cli(["help", "config", "show"])).stdout, (await cli(["config", "show", "--help"])).stdout);
  });

  test("-h after a path is the help of sync", async () => {
    assert.equal((await cli(["/home", "-h"])).stdout, (await cli(["sync", "--help"])).stdout);
  });

  test("help and a command is the help of that command; help alone is the overview", async () => {
    assert.equal((await cli(["help", "restore"])).stdout, (await cli(["restore", "--help"])).stdout);
    assert.equal((await cli(["help"])).stdout, (await cli(["--help"])).stdout);
  });

  test("nothing typed is a failure that shows what there is", async () => {
    const { code, stdout } = await cli([]);
    assert.equal(code, 2);
    assert.match(stdout, /Commands/);
  });

  test("the README lists the same exit codes", () => {
    for (const [code, meaning] of Object.entries(exitMeanings).filter(([code]) => code !== "130")) {
      assert.ok(README.includes(`| ${code} | ${meaning} |`), `${code}: ${meaning}`);
    }
  });
});

describe("an invalid command line", () => {
  for (const [line, sentence] of [
    ["sync /home --continer-name x", /unknown option --continer-name; did you mean --container-name: .* sync --help/],
    ["/home --no-estimat", /did you mean --no-estimate/],
    ["sync /home --frobnicate", /unknown option --frobnicate: /],
    ["verfy --container-name x", /verfy is neither a command nor a path: did you mean verify\?/],
    ["list a b c", /too many arguments: list a b c: .* list --help/],
    ["sync /home --compress", /error: --compress needs a value: /],
    ["sync /home --compress --json", /error: --compress needs a value: /],
    ["sync --container-name --json /home", /error: --container-name needs a value: /],
    ["list --identity --container-name x", /error: --identity needs a value: /],
    ["list --log-format", /error: --log-format needs a value: /],
    ["install-units --directory", /error: --directory needs a value: /],
    ["list --json=yes", /error: --json takes no value: /],
    ["sync /home --verbose=3", /error: --verbose takes no value: /],
    ["list -x", /error: unknown option -x: /],
    ["list --container-name x a b", /error: too many arguments: list a b: /],
    ["verify a b", /error: too many arguments: verify a b: /],
    ["completion bash zsh", /error: too many arguments: completion bash zsh: /],
    ["completion", /error: completion needs one more argument: .* completion --help/],
    ["doctor", /error: doctor needs one more argument: .* doctor --help/],
    ["config", /error: unknown command config: did you mean config show\?$/m],
    ["config list", /error: unknown command config list: did you mean config show\?$/m],
    ["help nonsense", /error: nonsense is neither a command nor a path: the commands are sync/],
    ["check", /check is neither a command nor a path: `verify` checks archives/],
    ["snapshots --container-name x", /nor a path: `list` shows archives/],
    ["prune", /no PATH given: use prune PATH/],
    ["forget home-1", /`prune` deletes archives, by keep rules/],
    ["snapshots", /`list` shows archives/],
    ["backup", /`sync` archives snapshots/],
    ["nonsense-word", /neither a command nor a path: the commands are sync, list, /],
  ] as const) {
    test(line, async () => {
      const { code, stdout, stderr } = await cli(line.split(" "));
      assert.deepEqual([code, stdout, stderr.split("\n").length], [2, "", 2], stderr);
      assert.match(stderr, sentence);
    });
  }

  test("only similar words are suggested", () => {
    const known = ["--memory", "--json", "--yes"];
    const words = ["--memroy", "--jso", "--jason", "--frobnicate", "--x", "--memoryy"];
    assert.deepEqual(
      words.map((word) => nearest(word, known)),
      ["--memory", "--json", "--json", null, null, "--memory"],
    );
  });
});

describe("completion", () => {
  test("in bash completes commands, options and nothing else", async () => {
    const { code, stdout } = await cli(["completion", "bash"]);
    assert.equal(code, 0);
    const complete = (...words: string[]): string => {
      const script = `${stdout}\nCOMP_WORDS=("${MAIN}" "$@"); COMP_CWORD=$#; _btrfs_snapshots_to_swift 2>/dev/null; echo "\${COMPREPLY[@]}"`;
      return execFileSync("bash", ["-c", script, "bash", ...words], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }).trim();
    };
    assert.equal(complete("res"), "restore");
    assert.equal(complete("sync", "--mem"), "--memory");
    assert.equal(complete("sync", "--no-est"), "--no-estimate");
    assert.equal(complete("sync", "--memory", "-"), "");
    assert.equal(complete("config", ""), "show");
    assert.equal(complete("completion", "z"), "zsh");
    assert.equal(complete("help", "verif"), "verify");
    assert.equal(complete("help", "cred"), "credentials");
    assert.equal(complete("hel"), "help");
    assert.equal(complete("sync", "--log-format", "j"), "json");
    assert.equal(complete("sync", "--compress", ""), "zstd");
  });
  test("in bash completes the targets of the configuration file, the one that was named too", async () => {
    const directory = mkdtempSync(join(tmpdir(), "completion-test-"));
    try {
      const file = join(directory, "config.yaml");
      writeFileSync(file, "targets:\n  home: { container: a }\n  hosts: { container: b }\n  srv: { container: c }\n");
      const { stdout } = await cli(["completion", "bash"]);
      const words = ["sync", "--config", file, "--use", "ho"];
      const script = `${stdout}\nCOMP_WORDS=("${MAIN}" "$@"); COMP_CWORD=$#; _btrfs_snapshots_to_swift; echo "\${COMPREPLY[@]}"`;
      assert.equal(execFileSync("bash", ["-c", script, "bash", ...words], { encoding: "utf8" }).trim(), "home hosts");
      assert.deepEqual((await cli(["completion", "targets", "--config", file])).stdout, "home\nhosts\nsrv\n");
      const missing = await cli(["completion", "targets", "--config", join(directory, "none")]);
      assert.deepEqual([missing.code, missing.stdout], [2, ""]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
  test("in every shell both names of the program are completed", async () => {
    const names = "btrfs-snapshots-to-swift btrfs-snapshot-to-swift";
    const script = async (shell: string): Promise<string> => (await cli(["completion", shell])).stdout;
    const bash = `${await script("bash")}\nfor name in ${names}; do complete -p $name; done`;
    const specs = execFileSync("bash", ["-c", bash], { encoding: "utf8" }).trim().split("\n");
    assert.deepEqual(specs, names.split(" ").map((name) => `complete -F _btrfs_snapshots_to_swift ${name}`)); // prettier-ignore
    assert.match(await script("zsh"), new RegExp(`^#compdef ${names}\n`));
    const fish = await script("fish");
    assert.match(fish, /^complete -c btrfs-snapshot-to-swift -w btrfs-snapshots-to-swift$/m);
    assert.match(fish, / -l use -x -a '\(btrfs-snapshots-to-swift completion targets 2>\/dev\/null\)' /);
    assert.match(fish, /^complete -c \S+ -f -n '__fish_seen_subcommand_from config' -a 'show'$/m);
    assert.match(fish, / -l log-format -x -a 'text json' /);
    assert.match(fish, /^complete -c \S+ -f -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish man'$/m);
  });
  test("the package has the completions as files, and zsh's answers the first time already", () => {
    const list = JSON.parse(
      execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { encoding: "utf8" }),
    ) as [{ files: { path: string }[] }];
    const files = list[0].files.map(({ path }) => path).filter((path) => path.startsWith("dist/completions/"));
    const name = "btrfs-snapshots-to-swift";
    assert.deepEqual(files.sort(), [`_${name}`, name, `${name}.fish`].map((file) => `dist/completions/${file}`).sort());
    assert.match(
      readFileSync(new URL(`../../../completions/_${name}`, import.meta.url), "utf8"),
      /_bash_complete -F _btrfs_snapshots_to_swift\n$/,
    );
  });
  test("the manual lists every command and option", async () => {
    const { stdout } = await cli(["completion", "man"]);
    for (const word of [".SH RESTORE", "\\-\\-wait\\-lock DURATION", ".B 75"]) assert.ok(stdout.includes(word), word);
  });
  test("the manual groups the options of a command as its help does, and has all of its examples", async () => {
    const { stdout } = await cli(["completion", "man"]);
    const sync = stdout.slice(stdout.indexOf(".SH SYNC"), stdout.indexOf(".SH LIST"));
    const places = ["Options:", "Container and credentials:", "Output and log:"].map((line) =>
      sync.indexOf(`\n${line}\n`),
    );
    assert.ok(
      places.every((place, index) => place > (places[index - 1] ?? 0)),
      places.join(),
    );
    assert.match(sync, /\nSeveral subvolumes, each with its own plan:\n\.EX\n/);
  });
});

describe("starting", () => {
  test("--version names the program alone; version names all that it uses, and why something is missing", async () => {
    const { code, stdout } = await cli(["--version"]);
    assert.equal(code, 0);
    assert.match(stdout, /^btrfs-snapshots-to-swift \d+\.\d+\.\d+\S*\n$/);
    const directory = mkdtempSync(join(tmpdir(), "version-"));
    try {
      const fakes = { btrfs: "btrfs-progs v6.2\n+EXPERIMENTAL", age: "v1.2.1" };
      for (const [name, text] of Object.entries(fakes))
        writeFileSync(join(directory, name), `#!/bin/sh\necho '${text}'\n`, { mode: 0o755 });
      writeFileSync(join(directory, "zstd"), "#!/bin/sh\nexit 3\n", { mode: 0o755 });
      const env = { PATH: directory };
      const all = await cli(["version"], { env });
      assert.equal(all.code, 0, all.stderr);
      const [first, ...others] = all.stdout.trim().split("\n");
      assert.equal(`${first ?? ""}\n`, stdout);
      assert.match(
        others.join("\n"),
        /^Linux \d\S+\nbtrfs-progs 6\.2\nlibbtrfsutil \d[\d.]+\nage 1\.2\.1\nzstd missing: zstd --version .*3.*\nNode \d[\d.]+\nAWS SDK 3\.\d[\d.]+$/,
      );
      const json = JSON.parse((await cli(["version", "--json"], { env })).stdout) as Record<string, string | null>;
      const names = ["program", "kernel", "btrfsProgs", "libbtrfsutil", "age", "zstd", "node", "sdk"];
      assert.deepEqual(Object.keys(json), names);
      assert.deepEqual([json["btrfsProgs"], json["zstd"]], ["6.2", null]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("nothing is loaded that is not needed", () => {
    const heavy =
      /clipanion|pino|aws-sdk|smithy|\/yaml\/|operations\/|swift\/|commands\/(sync|list|restore|verify|doctor)\./;
    for (const args of [["--help"], ["--version"]])
      assert.deepEqual(
        loadedBy(args).filter((url) => heavy.test(url)),
        [],
      );
    assert.deepEqual(
      loadedBy(["--version"]).filter((url) => /addon\/|stream\/|commands\/version\.|child_process/.test(url)),
      [],
    );
    const forSync = loadedBy(["sync", "/", "--memory", "nonsense"]);
    assert.ok(forSync.some((url) => url.includes("commands/sync")));
    assert.deepEqual(
      forSync.filter((url) => /aws-sdk|smithy|\/yaml\/|btrfs\/|commands\/(list|restore|verify|doctor)\./.test(url)),
      [],
    );
  });
});

/** URLs of the modules that a command line loads. */
function loadedBy(args: readonly string[]): readonly string[] {
  const directory = mkdtempSync(join(tmpdir(), "loaded-"));
  const list = join(directory, "list");
  const hooks = `import { appendFileSync } from "node:fs";
    export async function load(url, context, next) { appendFileSync(${JSON.stringify(list)}, url + "\\n"); return next(url, context); }`;
  const inline = (source: string): string => `data:text/javascript,${encodeURIComponent(source)}`;
  const register = `import { register } from "node:module"; register(${JSON.stringify(inline(hooks))});`;
  try {
    execFileSync(process.execPath, ["--import", inline(register), MAIN, ...args], { stdio: "ignore" });
  } catch {
    // Command lines that fail load modules as well.
  }
  try {
    return readFileSync(list, "utf8").trim().split("\n");
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("a secret age key that is given as a recipient is refused, and never printed", async () => {
  const key = `AGE-SECRET-KEY-1${"Q".repeat(58)}`;
  const directory = mkdtempSync(join(tmpdir(), "secret-"));
  try {
    const config = join(directory, "config.yaml");
    writeFileSync(config, `targets: {a: {container: c, recipients: [${key}]}}`);
    const lines = [
      ["sync", "/", "--container-name", "c", "--json", "-vv", "--age-recipient", key],
      ["config", "show", `--age-recipient=${key}`],
      ["config", "show", "--config", config],
      ["doctor", "/", "--config", config, "--json"],
      ["list", key],
    ];
    for (const line of lines) {
      const { code, stdout, stderr } = await cli(line);
      assert.equal(code, 2, line.join(" "));
      assert.match(stderr, /a secret age key is given where a recipient or a file is expected/);
      assert.equal((stdout + stderr).includes("QQQQ"), false, stdout + stderr);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a name with a newline does not make a second line of an error", async () => {
  for (const args of [
    ["restore", "a\nerror: all archives are lost", "--container-name", "c", "--endpoint", "http://127.0.0.1:9"],
    ["sync", "/nowhere/a\nerror: all archives are lost", "--container-name", "c", "--endpoint", "http://127.0.0.1:9"],
    ["list", "--nonsense\nerror: all archives are lost"],
    ["list", "--config", "/nowhere/a\nerror: all archives are lost"],
  ]) {
    const { code, stderr } = await cli(args, { env: { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" } });
    assert.notEqual(code, 0);
    assert.doesNotMatch(stderr, /^error: all archives are lost/m, args.join(" "));
  }
});

test("there is a warning about an env file that others can read, and about a password that crosses the network unencrypted", async () => {
  const directory = mkdtempSync(join(tmpdir(), "open-"));
  try {
    const file = join(directory, "env");
    writeFileSync(file, "OS_AUTH_URL=http://keystone.invalid/v3\nOS_USERNAME=u\nOS_PASSWORD=p\nOS_PROJECT_NAME=p\n", {
      mode: 0o644,
    });
    const { stderr } = await cli(["list", "--container-name", "c", "--env-file", file]);
    assert.match(stderr, /can be read by others besides its owner: chmod 600/);
    assert.match(stderr, /OS_AUTH_URL begins with http:\/\//);
    assert.equal(sendsPasswordsOpenly(loginAt("https://keystone.example.org")), false);
    assert.equal(sendsPasswordsOpenly(loginAt("http://127.0.0.1:5000")), false);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

function loginAt(authUrl: string) {
  return readKeystoneLogin({ OS_AUTH_URL: authUrl, OS_USERNAME: "u", OS_PASSWORD: "p" });
}

test("a result that cannot be written is reported by the exit code, without a stack", () => {
  const { status, stderr } = spawnSync(
    "sh",
    ["-c", 'exec "$@" > /dev/full', "sh", process.execPath, MAIN, "--version"],
    { encoding: "utf8" },
  );
  assert.equal(stderr, "error: the result was not written to stdout: the disk is full\n");
  assert.equal(status, 3);
});
