// Programs as streams: their output, their end, and their failures.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFile, readlink } from "node:fs/promises";
import { pid as ownPid } from "node:process";
import { Readable } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BackupError } from "../../../src/errors.ts";
import { readFrom } from "../../../src/stream/child-output.ts";
import { describeExit } from "../../../src/stream/exit.ts";
import { openSink, runToEnd, startHeldProcess, writeTo, type Command } from "../../../src/stream/process.ts";

const never = new AbortController().signal;

/** Shell scripts stand for programs of every behaviour. */
function shell(script: string): Command {
  return program("sh", "-c", script);
}

function program(name: string, ...args: readonly string[]): Command {
  return {
    program: name,
    args,
    failure: (exit) => new BackupError("SEND_FAILED", `${name} ${describeExit(exit)}: ${exit.stderr}`),
  };
}

/** A zombie is gone: the process that inherited it may take its time to reap it. */
function isGone(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return true;
  }
}

async function waitUntilGone(pid: number): Promise<void> {
  for (let waited = 0; !isGone(pid); waited += 20) {
    assert.ok(waited < 20_000, `process ${pid} lives`);
    await sleep(20);
  }
}

/** Reads a stream until it ends or fails: whether "end" was emitted, and the error. */
async function outcome(stream: Readable): Promise<{ bytes: number; ended: boolean; error: unknown }> {
  let bytes = 0;
  let ended = false;
  stream.on("data", (chunk: Buffer) => void (bytes += chunk.length)).on("end", () => void (ended = true));
  const error = await new Promise((resolve) => stream.on("error", resolve).on("close", () => resolve(null)));
  return { bytes, ended, error };
}

test("output is passed on completely and ends after exit status 0", async () => {
  const { bytes, ended, error } = await outcome(readFrom(program("head", "-c", "50000000", "/dev/zero"), never));
  assert.deepEqual({ bytes, ended, error }, { bytes: 50_000_000, ended: true, error: null });
});

test("exit status 1 after some output is an error with the reason, and not an end", async () => {
  const { ended, error } = await outcome(readFrom(shell("echo data; echo first >&2; echo last >&2; exit 1"), never));
  assert.equal(ended, false);
  assert.match(String(error), /sh exited with status 1: first\nlast$/);
});

test("a kill by a signal is an error that names it, and not an end", async () => {
  const { ended, error } = await outcome(readFrom(shell("echo data; kill -9 $$"), never));
  assert.equal(ended, false);
  assert.match(String(error), /was killed by SIGKILL/);
});

test("the end waits for the exit, not for the end of the output", async () => {
  const { ended, error } = await outcome(readFrom(shell("echo data; exec >&-; sleep 0.3; exit 3"), never));
  assert.equal(ended, false);
  assert.match(String(error), /status 3/);
});

test("the end of a flood of stderr is kept, and the program is not held up", async () => {
  const { error } = await outcome(readFrom(shell("yes noise | head -n 200000 >&2; echo end of it >&2; exit 1"), never));
  assert.ok(String(error).length < 10_000);
  assert.match(String(error), /end of it$/);
});

test("a missing program is named, with the package that has it", async () => {
  const { error } = await outcome(readFrom(program("no-such-program"), never));
  assert.ok(error instanceof BackupError);
  assert.deepEqual([error.code, error.message], ["CONFIG", "the program no-such-program is not installed"]);
  assert.equal(error.hint, "install the package no-such-program");
  await assert.rejects(writeTo(program("no-such-program"), Readable.from(["x"]), never), { code: "CONFIG" });
  await assert.rejects(startHeldProcess(program("no-such-program"), never), { code: "CONFIG" });
});

test("children speak English and know no secret", async () => {
  process.env["AWS_SECRET_ACCESS_KEY"] = "secret";
  const environment = await runToEnd(program("env"), never);
  delete process.env["AWS_SECRET_ACCESS_KEY"];
  assert.match(environment, /^LC_ALL=C$/m);
  assert.doesNotMatch(environment, /secret/);
});

test("a child leads a process group and session of its own", async () => {
  const output = await runToEnd(shell("exec cut -d' ' -f1,5,6 /proc/self/stat"), never);
  const [pid, group, session] = output.trim().split(" ");
  assert.equal(group, pid);
  assert.equal(session, pid);
  const own = (await readFile(`/proc/${ownPid}/stat`, "utf8")).replace(/^.*\) /, "").split(" ");
  assert.notEqual(group, own[2]);
});

test("a slow reader holds the child back, and little is buffered", async () => {
  const output = readFrom(shell("while :; do head -c 1000000 /dev/zero; done"), never);
  output.once("readable", () => undefined);
  try {
    while (output.readableLength < 1_000_000) await sleep(10);
    await sleep(300);
    assert.ok(output.readableLength < 1_300_000, String(output.readableLength));
  } finally {
    output.destroy();
  }
});

test("destroying the output ends the child, and closes when it is gone", async () => {
  const output = readFrom(shell("echo $$; exec sleep 100"), never);
  const pid = Number(String((await output[Symbol.asyncIterator]().next()).value));
  output.destroy();
  await new Promise((resolve) => output.once("close", resolve));
  assert.ok(isGone(pid));
});

test("a child that ignores SIGTERM is killed", { timeout: 60_000 }, async () => {
  const output = readFrom(shell("trap '' TERM; echo $$; while :; do sleep 1; done"), never);
  const pid = Number(String((await output[Symbol.asyncIterator]().next()).value));
  output.destroy();
  await new Promise((resolve) => output.once("close", resolve));
  assert.ok(isGone(pid));
});

test("what a child started ends with it", { timeout: 60_000 }, async () => {
  const output = readFrom(shell("(trap '' TERM; while :; do sleep 1; done) & echo $!; wait"), never);
  const pid = Number(String((await output[Symbol.asyncIterator]().next()).value));
  output.destroy();
  await new Promise((resolve) => output.once("close", resolve));
  await waitUntilGone(pid);
});

test("a process left behind by a failed child does not delay the error", { timeout: 60_000 }, async () => {
  const { error } = await outcome(readFrom(shell("sleep 100 & echo $! >&2; exit 1"), never));
  await waitUntilGone(Number(/(\d+)$/.exec(String(error))?.[1]));
});

test("a process left behind that holds the output is an error, not an end", { timeout: 60_000 }, async () => {
  const output = readFrom(shell("setsid sleep 100 & echo $!"), never);
  output.once("data", (chunk: Buffer) => output.once("close", () => process.kill(Number(chunk.toString()))));
  const { ended, error } = await outcome(output);
  assert.equal(ended, false);
  assert.match(String(error), /left a process behind/);
});

test("an abort ends the child and is reported", async () => {
  const controller = new AbortController();
  const output = readFrom(shell("echo $$; exec sleep 100"), controller.signal);
  const pid = Number(String((await output[Symbol.asyncIterator]().next()).value));
  const ended = outcome(output);
  controller.abort();
  const { error } = await ended;
  assert.ok(error instanceof BackupError && error.code === "ABORTED", String(error));
  await waitUntilGone(pid);
  await assert.rejects(runToEnd(shell("sleep 100"), controller.signal), { code: "ABORTED" });
});

test("a hundred children leave neither a listener on the signal nor a timer", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on("warning", note);
  const controller = new AbortController();
  for (let child = 0; child < 100; child++) await runToEnd(program("true"), controller.signal);
  await runToEnd(shell("exec >&- 2>&-; sleep 0.1"), controller.signal);
  await sleep(10);
  process.off("warning", note);
  assert.deepEqual(warnings, []);
  assert.deepEqual(
    process.getActiveResourcesInfo().filter((resource) => resource === "Timeout"),
    [],
  );
});

/** Ends with status 0 only when it has read exactly so many bytes. */
const takes = (bytes: number): Command => shell(`test "$(wc -c)" = ${bytes}`);

async function* zeros(bytes: number): AsyncGenerator<Buffer> {
  for (let left = bytes; left > 0; left -= 65536) yield Buffer.alloc(Math.min(65536, left));
}

test("a program reads all of its input", async () => {
  await writeTo(takes(30_000_000), Readable.from(zeros(30_000_000)), never);
  await writeTo(takes(0), Readable.from([]), never);
});

test("a program that fails after it has read everything", async () => {
  await assert.rejects(writeTo(shell("cat >/dev/null; echo why >&2; exit 2"), Readable.from(zeros(1000)), never), {
    message: "sh exited with status 2: why",
  });
});

test("what a failed program started ends with it", async () => {
  const failing = shell("sleep 100 & echo $! >&2; exit 2");
  const error: unknown = await writeTo(failing, Readable.from([]), never).catch((reason: unknown) => reason);
  await waitUntilGone(Number(/(\d+)$/.exec(String(error))?.[1]));
});

test("a program that fails in the middle: its failure, and the source is destroyed", { timeout: 60_000 }, async () => {
  const source = Readable.from(zeros(1e12));
  await assert.rejects(writeTo(shell("head -c 100 >/dev/null; echo why >&2; exit 2"), source, never), {
    message: "sh exited with status 2: why",
  });
  assert.ok(source.destroyed);
});

test("a program that fails while the source has nothing to give", { timeout: 60_000 }, async () => {
  const source = new Readable({ read: () => undefined });
  const writing = writeTo(shell("echo why >&2; exit 2"), source, never);
  await assert.rejects(writing, { message: "sh exited with status 2: why" });
  assert.ok(source.destroyed);
});

test("a program that exits well without reading everything has not done its work", { timeout: 60_000 }, async () => {
  await assert.rejects(writeTo(shell("head -c 100 >/dev/null"), Readable.from(zeros(1e12)), never), {
    message: /did not read all/,
  });
});

test("a source that fails: its own error, after the program is gone", { timeout: 60_000 }, async () => {
  let pid = 0;
  async function* failing(): AsyncGenerator<Buffer> {
    yield* zeros(200_000);
    await sleep(300);
    throw new BackupError("ARCHIVE_DAMAGED", "the archive is damaged");
  }
  const taking: Command = shell("trap '' TERM; echo $$ >/proc/self/fd/2; cat >/dev/null; sleep 100");
  const children = `/proc/${ownPid}/task/${ownPid}/children`;
  const writing = writeTo(taking, Readable.from(failing()), never);
  for (const child of (await readFile(children, "utf8")).trim().split(" ")) pid = Number(child);
  await assert.rejects(writing, { code: "ARCHIVE_DAMAGED" });
  assert.ok(pid > 0 && isGone(pid));
});

test("an abort while the program does not read", { timeout: 60_000 }, async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 200);
  await assert.rejects(writeTo(shell("sleep 100"), Readable.from(zeros(1e12)), controller.signal), { code: "ABORTED" });
});

test("a held process lives until it is closed", async () => {
  const companion = await startHeldProcess(program("cat"), never);
  assert.match(await readlink(`/proc/${companion.pid}/exe`), /cat|coreutils/);
  await companion.close();
  await companion.close();
  assert.ok(isGone(companion.pid));
});

test("a held process that cannot start reports why", async () => {
  const failing = startHeldProcess(shell("echo why >&2; exit 1"), never);
  await assert.rejects(failing, { message: "sh exited with status 1: why" });
  await assert.rejects(startHeldProcess(shell("exit 0"), never), { message: "sh ended at once: " });
});

test("a sink accepts lines, and its death has no effect", async () => {
  const missing = openSink({ program: "no-such-program", args: [] });
  missing.write("lost\n");
  await missing.close();
  const dying = openSink({ program: "true", args: [] });
  await sleep(100);
  for (let line = 0; line < 1000; line++) dying.write("lost too\n");
  await dying.close();
});

test("a stream from one program into another", async () => {
  await writeTo(takes(1_000_000), readFrom(program("head", "-c", "1000000", "/dev/zero"), never), never);
});
