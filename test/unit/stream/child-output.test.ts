// The output of programs, read into memory of the reader; process.test.ts reads it as a stream.

import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { outputOf, readFrom, type DirectReadable } from "../../../src/stream/child-output.ts";
import { describeExit } from "../../../src/stream/exit.ts";
import type { Command } from "../../../src/stream/process.ts";
import { observe } from "../../../src/stream/tap.ts";

const never = new AbortController().signal;

function shell(script: string, begins?: string): Command {
  const failure: Command["failure"] = (exit) => new BackupError("STEP_FAILED", `sh ${describeExit(exit)}`);
  return { program: "sh", args: ["-c", script], failure, ...(begins === undefined ? {} : { begins }) };
}

const numbers = Array.from({ length: 200_000 }, (_, at) => `${at + 1}\n`).join("");

/** All that comes, in reads of so many bytes. */
async function readAll(output: DirectReadable, bytes: number): Promise<string> {
  const memory = Buffer.alloc(bytes);
  let text = "";
  for (let filled = 0; (filled = await output.readInto(memory)) > 0;) text += memory.toString("latin1", 0, filled);
  return text;
}

/** It may be closed before anybody asks. */
async function untilClosed(output: DirectReadable): Promise<void> {
  while (!output.closed) await once(output, "close").catch(() => undefined);
}

test("a stream passes on what came before its program fails", async () => {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    let text = "";
    const output = readFrom(shell("printf 'first words'; exit 1"), never);
    output.on("data", (chunk: Buffer) => void (text += chunk.toString())).on("error", () => undefined);
    await new Promise((resolve) => output.once("close", resolve));
    assert.equal(text, "first words");
    assert.match(String(output.errored), /exited with status 1/);
    const pieces = readFrom(shell("printf 'first words'; exit 1"), never)[Symbol.asyncIterator]();
    assert.equal(String((await pieces.next()).value), "first words");
    await assert.rejects(pieces.next(), /exited with status 1/);
  }
});

test("a stream passes on what came before a failure, even when the pipe delivers it later", async () => {
  let deliver = (): void => undefined;
  let fail = (): void => undefined;
  const success = new Promise<never>((_resolve, reject) => (fail = () => reject(new Error("it failed"))));
  const asked = new EventEmitter();
  const fill = (memory: Buffer): Promise<number> =>
    new Promise((resolve) => {
      if (memory.length === 0) return resolve(0);
      deliver = () => resolve(memory.write("first words"));
      asked.emit("asked");
    });
  const nothing = { done: new Promise<never>(() => undefined), received: () => 0, isAsked: () => true };
  const reader = { ...nothing, fill, cancel: () => undefined };
  let text = "";
  const output = outputOf({ reader, success, stop: () => Promise.resolve() }, never);
  output.on("data", (chunk: Buffer) => void (text += chunk.toString()));
  await once(asked, "asked");
  fail();
  await sleep(300);
  deliver();
  await untilClosed(output);
  assert.equal(text, "first words");
  assert.match(String(output.errored), /it failed/);
});

test("an output that fails before it is read does not end this process, and its reader gets the error", async () => {
  const output = readFrom(shell("exit 3"), never);
  await new Promise((resolve) => output.once("close", resolve));
  await assert.rejects(output.toArray(), /exited with status 3/);
});

describe("an output that is read directly", () => {
  for (const bytes of [1, 4096, 65_537, 4_000_000]) {
    test(`is all there, ${bytes} bytes at a time, and ends once`, async () => {
      const last = bytes === 1 ? 100 : 200_000;
      const output = readFrom(shell(`seq ${last}`), never);
      assert.equal(await readAll(output, bytes), numbers.slice(0, numbers.indexOf(`\n${last + 1}\n`) + 1 || undefined));
      assert.equal(await output.readInto(Buffer.alloc(10)), 0);
      if (!output.closed) await once(output, "close");
      assert.ok(output.readableEnded);
    });
  }

  test("fills the memory, however slowly it comes", async () => {
    const output = readFrom(shell("for part in 1 2 3 4; do head -c 100000 /dev/zero; sleep 0.1; done"), never);
    assert.equal(await output.readInto(Buffer.alloc(300_000)), 300_000);
    assert.equal(await output.readInto(Buffer.alloc(300_000)), 100_000);
    assert.equal(await output.readInto(Buffer.alloc(1)), 0);
  });

  test("answers several requests in their order", async () => {
    const output = readFrom(shell("seq 200000"), never);
    const memory = Buffer.alloc(2_000_000);
    const reads = Array.from({ length: 20 }, (_, at) =>
      output.readInto(memory.subarray(at * 100_000, (at + 1) * 100_000)),
    );
    const filled = await Promise.all(reads);
    assert.deepEqual(
      filled,
      Array.from({ length: 20 }, (_, at) => Math.max(0, Math.min(100_000, numbers.length - at * 100_000))),
    );
    assert.equal(memory.toString("latin1", 0, numbers.length), numbers);
  });

  test("shows all of it to its listeners", async () => {
    const output = readFrom(shell("seq 200000"), never);
    let shown = "";
    observe(output, (piece) => void (shown += piece.toString("latin1")));
    assert.equal(await readAll(output, 100_000), shown);
    assert.equal(shown, numbers);
  });

  test("fails instead of ending when the program does", async () => {
    const output = readFrom(shell("seq 200000; exit 3"), never);
    await assert.rejects(readAll(output, 100_000), /sh exited with status 3/);
    await assert.rejects(output.readInto(Buffer.alloc(10)), /sh exited with status 3/);
    assert.equal(output.readableEnded, false);
  });

  test("fails when it does not begin as it should, before any of it is passed on", async () => {
    for (const script of ["seq 200000", "printf 1", "true"]) {
      const output = readFrom(shell(script, "1\n3"), never);
      await assert.rejects(readAll(output, 100_000), /what does not begin like the output of sh/);
    }
    const slow = readFrom(shell("printf 1; sleep 0.2; printf 2; sleep 0.2; printf 3", "12"), never);
    assert.equal(await readAll(slow, 100), "123");
  });

  test("fails for its beginning at once, whatever the program does then", { timeout: 60_000 }, async () => {
    const output = readFrom(shell("printf xyz; exec sleep 100", "1\n3"), never);
    await assert.rejects(readAll(output, 100_000), /what does not begin like the output of sh/);
    await untilClosed(output);
  });

  test("fails with the program and not with its beginning when both are wrong", async () => {
    for (const script of ["exit 3", "printf 1; exit 3"]) {
      await assert.rejects(readAll(readFrom(shell(script, "1\n3"), never), 100), /exited with status 3/);
    }
  });

  test("is not read as a stream as well", async () => {
    const output = readFrom(shell("seq 200000"), never);
    await output.readInto(Buffer.alloc(10));
    output.resume();
    await untilClosed(output);
    assert.match(String(output.errored), /read directly and then as a stream/);
    const stream = readFrom(shell("seq 200000"), never).on("error", () => undefined);
    await once(stream, "readable");
    await assert.rejects(stream.readInto(Buffer.alloc(10)), /read as a stream and then directly/);
    stream.destroy();
  });

  test("writes into no memory after it was destroyed", async () => {
    const output = readFrom(shell("while :; do sleep 0.01; echo data; done"), never);
    const memory = Buffer.alloc(1_000_000);
    const reading = output.readInto(memory);
    await sleep(100);
    output.destroy(new Error("enough"));
    await assert.rejects(reading, /enough/);
    memory.fill(0);
    await sleep(100);
    assert.ok(memory.every((byte) => byte === 0));
  });

  test("ends with an abort, which it reports", async () => {
    const controller = new AbortController();
    const output = readFrom(shell("sleep 100"), controller.signal);
    const reading = output.readInto(Buffer.alloc(10));
    controller.abort();
    await assert.rejects(reading, { code: "ABORTED" });
  });

  test("is an error, and not an end, when a process left behind holds it", { timeout: 60_000 }, async () => {
    const output = readFrom(shell("setsid sleep 100 & echo $!"), never);
    const memory = Buffer.alloc(100);
    await assert.rejects(output.readInto(memory), /left a process behind/);
    process.kill(Number(memory.toString("latin1").replace(/\0.*$/s, "")));
  });
});
