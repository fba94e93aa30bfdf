// Files that cannot be read or written: messages are words, never names of errno or internal paths.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { BackupError, describeReadError, describeWriteError } from "../../src/errors.ts";
import { replaceFile } from "../../src/state/own-directories.ts";
import { spool } from "../../src/stream/spool.ts";
import { cli } from "../support/cli.ts";

describe("a file that cannot be used", () => {
  let directory: string;
  const at = (name: string): string => join(directory, name);
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "files-test-"));
    await mkdir(at("directory"));
    await writeFile(at("file"), "text");
  });
  after(() => rm(directory, { recursive: true }));

  const keys = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b", AWS_ENDPOINT_URL_S3: "http://127.0.0.1:1" };
  const login = { OS_AUTH_URL: "http://127.0.0.1:1", OS_USERNAME: "u" };
  const list = ["list", "--container-name", "backup"];
  const cases: readonly [string, readonly string[], Record<string, string>, RegExp][] = [
    ["a missing configuration file", ["list", "--config", "NONE"], {}, /cannot read the configuration file NONE: it does not exist$/],
    ["a directory as configuration file", ["list", "--config", "DIR"], {}, /cannot read the configuration file DIR: it is a directory$/],
    ["a missing configuration file for units", ["install-units", "--config", "NONE", "--directory", "DIR"], {}, /the units were not written to DIR: cannot read .* NONE: it does not exist$/],
    ["a place for units that is a file", ["install-units", "--directory", "FILE"], {}, /the units were not written to FILE: it is not a directory$/],
    ["a missing file with a password", list, { ...login, OS_PASSWORD_FILE: "NONE" }, /cannot read the file of OS_PASSWORD_FILE, NONE: it does not exist$/],
    ["a directory as clouds.yaml", [...list, "--os-cloud", "c"], { OS_CLIENT_CONFIG_FILE: "DIR" }, /cannot read DIR: it is a directory$/],
    ["missing certificates", list, { ...keys, OS_CACERT: "NONE" }, /cannot read the certificates of NONE: it does not exist: /],
  ]; // prettier-ignore
  for (const [what, args, env, sentence] of cases) {
    test(`is described in words: ${what}`, async () => {
      const full = (word: string): string =>
        word.replace("NONE", at("none")).replace("DIR", at("directory")).replace("FILE", at("file"));
      const ran = await cli(args.map(full), {
        env: Object.fromEntries(Object.entries(env).map(([name, value]) => [name, full(value)])),
      });
      assert.equal(ran.code, 2, ran.stderr);
      assert.match(ran.stderr.trim().replaceAll(at("none"), "NONE").replaceAll(at("directory"), "DIR").replaceAll(at("file"), "FILE"), sentence); // prettier-ignore
      assert.doesNotMatch(ran.stderr, /\bE[A-Z]{4,}\b|\/proc\/self/);
    });
  }

  test("is described in words as a work directory", async () => {
    for (const [name, sentence] of [
      ["none", /^cannot write to the work directory \S+: there is no such directory$/],
      ["file", /^cannot write to the work directory \S+: it is not a directory$/],
    ] as const) {
      const error: unknown = await spool(Readable.from([]), at(name)).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof BackupError && error.code === "CONFIG");
      assert.match(error.message, sentence);
    }
  });

  test("is described in words when it is written", async () => {
    const failure = async (file: string): Promise<string> =>
      describeWriteError(
        await replaceFile(file, () => "text", { uid: userInfo().uid }).catch((error: unknown) => error),
      );
    assert.equal(await failure(at("directory")), "it is a directory");
    assert.equal(await failure(at("none/file")), "its directory does not exist");
    const errors = ["EACCES", "ENOSPC", "EROFS"].map((code) => Object.assign(new Error(code), { code }));
    for (const error of errors) assert.doesNotMatch(describeWriteError(error), /\bE[A-Z]{4,}\b/);
    for (const error of errors.slice(0, 1)) assert.doesNotMatch(describeReadError(error), /\bE[A-Z]{4,}\b/);
  });
});
