// The configuration file: what it adds to a command line, who wins, and what is refused.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { parseTargets } from "../../../src/config/file.ts";
import { readSettings } from "../../../src/config/settings.ts";
import { cli, MAIN } from "../../support/cli.ts";

const TEXT = `
targets:
  home:
    container: backup
    endpoint: https://file.example.org
    env-file: /etc/file.env
    paths: [/home, /srv]
    recipients: [age1a, age1b]
    create-credentials: false
    ping-url: https://hc.example.org/hunter2
    limits: { memory: 1Gi, concurrency: 2 }
  other:
    container: elsewhere
`;

const known = [
  "--container-name",
  "--endpoint",
  "--env-file",
  "--age-recipient",
  "--create-credentials",
  "--ping-url",
  "--memory",
  "--concurrency",
];

describe("the configuration file", () => {
  let directory: string;
  let file: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "settings-"));
    file = join(directory, "config.yaml");
    writeFileSync(file, TEXT);
  });
  after(() => rmSync(directory, { recursive: true }));

  const words = (argv: string, env: Record<string, string> = {}): readonly string[] =>
    readSettings([...argv.split(" "), "--config", file], known, env).words;

  test("becomes words of the command line, those that the command has", () => {
    assert.deepEqual(words("sync --use home"), [
      "--container-name=backup",
      "--endpoint=https://file.example.org",
      "--env-file=/etc/file.env",
      "--no-create-credentials",
      "--age-recipient=age1a",
      "--age-recipient=age1b",
      "--ping-url=https://hc.example.org/hunter2",
      "--memory=1Gi",
      "--concurrency=2",
    ]);
    assert.deepEqual(readSettings(["list", "--use=other", "--config", file], ["--container-name"], {}).words, [
      "--container-name=elsewhere",
    ]);
    assert.deepEqual(readSettings(["sync", "--use=home", "--config", file], known, {}).paths, ["/home", "/srv"]);
  });

  test("loses against flags, and against the environment", () => {
    const flags = words(
      "sync --use home --container-name=x --memory 3Gi --create-credentials --no-encryption --os-cloud c",
    );
    assert.deepEqual(flags, [
      "--endpoint=https://file.example.org",
      "--ping-url=https://hc.example.org/hunter2",
      "--concurrency=2",
    ]);
    const env = words("sync --use home", { AWS_ENDPOINT_URL: "http://env", AWS_ACCESS_KEY_ID: "id" });
    assert.ok(!env.some((word) => word.startsWith("--endpoint") || word.startsWith("--env-file")), env.join(" "));
  });

  describe("with --container-name and no target", () => {
    const env = (): Record<string, string> => ({ XDG_CONFIG_HOME: directory });
    const lies = (text: string): void => {
      mkdirSync(join(directory, "btrfs-snapshots-to-swift"), { recursive: true });
      writeFileSync(join(directory, "btrfs-snapshots-to-swift/config.yaml"), text);
    };
    const argv = ["sync", "/home", "--container-name", "x"];

    test("its login is used, and nothing else of it", () => {
      lies(
        "targets: {a: {container: b, endpoint: 'https://e', env-file: /a.env, recipients: [r], metrics-file: /m, paths: [/srv]}}",
      );
      const { words, paths, skipped } = readSettings(argv, known, env());
      assert.deepEqual([words, paths, skipped], [["--endpoint=https://e", "--env-file=/a.env"], [], null]);
    });

    test("a login that is named leaves the file out", () => {
      for (const [flags, more] of [
        [["--env-file", "/x"], {}],
        [["--endpoint=http://x"], {}],
        [[], { OS_AUTH_URL: "https://k" }],
      ] as const) {
        const { words, skipped } = readSettings([...argv, ...flags], known, { ...env(), ...more });
        assert.deepEqual([words, skipped], [[], null]);
      }
    });

    test("targets that log in differently, and files that cannot be read, are reported as ignored", async () => {
      lies("targets: {a: {env-file: /a.env}, b: {env-file: /b.env}}");
      assert.match(
        readSettings(argv, known, env()).skipped ?? "",
        /config\.yaml is ignored because --container-name is given.*--use NAME/,
      );
      lies("targets: {a");
      assert.deepEqual(readSettings(argv, known, env()).words, []);
      const { stderr } = await cli(["list", "--container-name", "x"], { env: env() });
      assert.match(stderr, /is ignored because --container-name is given.*not valid YAML/);
      rmSync(join(directory, "btrfs-snapshots-to-swift"), { recursive: true });
    });

    test("warnings are plain lines off a terminal, and JSON on request", async () => {
      lies("targets: {a");
      const words = ["list", "--container-name", "x"];
      const plain = await cli(words, { env: env() });
      assert.match(plain.stderr, /^\/.*is ignored because --container-name is given: .*\nerror: no endpoint given: /);
      assert.doesNotMatch(plain.stderr, /^[{<]/m);
      const { stderr } = await cli([...words, "--log-format", "json"], { env: env() });
      const lines = stderr.trimEnd().split("\n");
      assert.deepEqual(
        lines.map((line) => (JSON.parse(line) as { level: string }).level),
        ["info", "error"],
      );
      rmSync(join(directory, "btrfs-snapshots-to-swift"), { recursive: true });
    });
  });

  test("paths in it are relative to its directory, and ~ is the home directory", () => {
    const text =
      "targets: {a: {env-file: a.env, identity: ['~/id', sub/id], work-dir: ~, metrics-file: ../m.prom, recipients: [~x], paths: [., ~/data, '~other']}}";
    const target = parseTargets(
      text.replace("work-dir: ~", "work-dir: '~'").replace("[~x]", "['~x']"),
      "/etc/b/config.yaml",
      "/home/me",
    ).get("a");
    assert.deepEqual(Object.fromEntries(target?.values ?? []), {
      "env-file": ["/etc/b/a.env"],
      identity: ["/home/me/id", "/etc/b/sub/id"],
      "work-dir": ["/home/me"],
      "metrics-file": ["/etc/m.prom"],
      recipients: ["~x"],
    });
    assert.deepEqual(target?.paths, ["/etc/b", "/home/me/data", "/etc/b/~other"]);
  });

  const refused: readonly (readonly [text: string, sentence: RegExp])[] = [
    [
      "targets: {a: {contaner: x}}",
      /unknown key contaner in target a of f; did you mean|unknown key contaner.*did you mean container/,
    ],
    ["targets: {a: {limits: {memroy: 1}}}", /limits.*did you mean memory/],
    ["target: {}", /unknown key target in f.*did you mean targets/],
    ["targets: {a: {paths: {x: 1}}}", /paths of target a of f must be a text or a list/],
    ["targets: {a: {create-credentials: often}}", /must be true or false/],
    ["targets: [a]", /must be keys with values/],
    ["targets: {a", /not valid YAML/],
  ];
  for (const [text, sentence] of refused) {
    test(`is refused: ${text}`, () => {
      assert.throws(
        () => parseTargets(text, "f", "/root"),
        (error) =>
          error instanceof BackupError &&
          error.exitCode === 2 &&
          sentence.test(`${error.message}: ${error.hint ?? ""}`),
      );
    });
  }

  test("several targets: one has to be named, and a misspelt one is answered with the nearest", () => {
    assert.throws(() => words("sync"), { code: "USAGE", hint: "use --use home or --use other" });
    assert.throws(() => words("sync --use hoem"), { code: "USAGE", hint: "did you mean home?" });
  });

  test("config show prints the settings in force and where each comes from, without secrets", async () => {
    const env = {
      AWS_SECRET_ACCESS_KEY: "hunter3",
      AWS_ACCESS_KEY_ID: "id",
      AWS_ENDPOINT_URL: "https://me:hunter4@env",
    };
    const { code, stdout, stderr } = await cli(
      ["config", "show", "--config", file, "--use", "home", "--memory", "2Gi"],
      { env },
    );
    assert.match(stderr, /^error: the endpoint is not a URL of the form https:\/\/host/);
    assert.equal(code, 2);
    assert.doesNotMatch(stdout + stderr, /hunter\d/);
    for (const line of [
      /container +backup +.*config.yaml/,
      /limits.memory +2Gi +flag/,
      /endpoint +https:\S*env +AWS_ENDPOINT_URL/,
      /paths +\/home \/srv/,
      /^target +home +.*config.yaml$/m,
      /^endpoint used +none$/m,
    ]) {
      assert.match(stdout, line);
    }
  });

  test("config show prints the credentials and the endpoint in use, without a password of either", async () => {
    const keystone = {
      OS_AUTH_URL: "https://keystone:5000/v3",
      OS_USERNAME: "me",
      OS_PASSWORD: "hunter5",
      OS_PROJECT_NAME: "p",
      OS_PROJECT_DOMAIN_NAME: "d",
      OS_USER_DOMAIN_NAME: "d",
    };
    const show = async (env: Record<string, string>, ...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await cli(["config", "show", ...args], { env });
      assert.equal(code, 0, stderr);
      assert.doesNotMatch(stdout, /hunter/);
      return stdout;
    };
    const login = await show(keystone);
    assert.match(login, /^credentials +a login at Keystone, https:\/\/keystone:5000\/v3$/m);
    assert.match(login, /^endpoint used +what Keystone's catalog says$/m);
    const profile = await show({ AWS_PROFILE: "nightly" }, "--endpoint", "https://swift.example.org");
    assert.match(profile, /^credentials +the AWS profile 'nightly'$/m);
    assert.match(profile, /^endpoint used +https:\/\/swift\.example\.org$/m);
    const keys = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "hunter6" };
    assert.match(await show(keys), /^credentials +S3 keys of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY$/m);
    const json: unknown = JSON.parse(await show({ AWS_PROFILE: "nightly" }, "--json"));
    assert.deepEqual(json, {
      target: null,
      settings: [{ key: "AWS_PROFILE", value: "nightly", from: "environment" }],
      paths: [],
      credentials: "the AWS profile 'nightly'",
      endpoint: "what the AWS files say",
    });
  });

  test("an unknown target has the priority of an error in the journal, and the word elsewhere", () => {
    const script = `export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr); exec "$@"`;
    const words = [process.execPath, MAIN, "sync", "--config", file, "--use", "nix"];
    const inJournal = spawnSync("sh", ["-c", script, "sh", ...words], { encoding: "utf8" });
    assert.match(inJournal.stderr, /^<3>there is no target nix in /);
    const elsewhere = spawnSync("sh", ["-c", 'exec "$@"', "sh", ...words], { encoding: "utf8" });
    assert.match(elsewhere.stderr, /^error: there is no target nix in /);
  });

  test("without one, --use is refused", async () => {
    const { code, stderr } = await cli(["sync", "--use", "home"], { env: { XDG_CONFIG_HOME: "/nowhere" } });
    assert.equal(code, 2);
    assert.match(stderr, /no configuration file/);
  });
});
