// Large answers that are read straight into memory, from servers that answer in every way.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer as createTlsServer } from "node:tls";
import { readProxies } from "../../../src/config/proxies.ts";
import { readRange } from "../../../src/swift/block.ts";
import { openClients } from "../../../src/swift/client.ts";
import type { Store } from "../../../src/swift/context.ts";
import { openNetwork } from "../../../src/swift/http.ts";
import { makeCertificate } from "../../support/tls.ts";

/** The least that is read directly. */
const LARGE = 2 * 2 ** 20;
const body = randomBytes(3 * LARGE + 7);
const signal = new AbortController().signal;

interface Asked {
  readonly start: number;
  readonly end: number;
  readonly socket: Socket;
  /** The number of the connection, and of the request on any of them, from 1. */
  readonly connection: number;
  readonly request: number;
}

type Answer = (asked: Asked) => unknown;

function head({ start, end }: Asked, changes: Readonly<Record<string, string | null>> = {}): string {
  const headers: Readonly<Record<string, string | null>> = {
    "Content-Length": String(end - start),
    "Content-Range": `bytes ${start}-${end - 1}/${body.length}`,
    ETag: '"e"',
    ...changes,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) => (value === null ? [] : [`${name}: ${value}`]));
  return ["HTTP/1.1 206 Partial Content", ...lines, "", ""].join("\r\n");
}

/** Answers as a store does. */
const answerPlainly: Answer = (asked) => {
  asked.socket.write(head(asked));
  asked.socket.write(body.subarray(asked.start, asked.end));
};

interface Rig {
  read(start: number, end: number, stop?: AbortSignal): Promise<Buffer>;
  /** Which connection each request came on. */
  readonly connections: readonly number[];
}

async function withServer(
  answer: Answer,
  use: (rig: Rig) => Promise<void>,
  { isSecure = false, stallMs = 60_000 }: { readonly isSecure?: boolean; readonly stallMs?: number } = {},
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "direct-get-"));
  const connections: number[] = [];
  const sockets: Socket[] = [];
  const serve = (socket: Socket): void => {
    const connection = sockets.push(socket);
    let text = "";
    socket.on("error", () => undefined).on("data", (data) => {
      text += data.toString("latin1");
      const [, first, last] = /range: bytes=(\d+)-(\d+)\r\n[^]*\r\n\r\n$/.exec(text) ?? [];
      if (first === undefined) return;
      text = "";
      const request = connections.push(connection);
      answer({ start: Number(first), end: Math.min(Number(last) + 1, body.length), socket, connection, request });
    }); // prettier-ignore
  };
  const { certificate, key } = isSecure ? await makeCertificate(directory) : { certificate: "", key: "" };
  const server = isSecure
    ? createTlsServer({ cert: await readFile(certificate), key: await readFile(key) }, serve)
    : createTcpServer(serve);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { client, close } = openClients({
    endpoint: new URL(`${isSecure ? "https" : "http"}://127.0.0.1:${(server.address() as AddressInfo).port}`),
    region: "r",
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
    retryForMs: 20_000, stallMs, userAgent: "test/1", log: undefined, uploadBytesPerSecond: null,
    ...(isSecure ? { network: await openNetwork([certificate], readProxies({})) } : {}),
  }); // prettier-ignore
  const translate = (error: unknown): unknown => error;
  const segments = { areReadable: false };
  // As much of a store as a read asks.
  const store = { client, container: "c", retryForMs: 20_000, segments, translate } as unknown as Store;
  try {
    await use({
      async read(start, end, stop = signal) {
        const memory = Buffer.alloc(end - start);
        const range = { key: "k", etag: null, start, end };
        return memory.subarray(0, await readRange(store, range, { memory }, stop));
      },
      connections,
    });
  } finally {
    close();
    for (const socket of sockets) socket.destroy();
    server.close();
    await rm(directory, { recursive: true });
  }
}

describe("a large answer", () => {
  for (const isSecure of [false, true]) {
    test(`is read as it is, on one connection, ${isSecure ? "with" : "without"} TLS`, async () => {
      await withServer(
        answerPlainly,
        async ({ read, connections }) => {
          for (const [start, end] of [[0, 2 * LARGE], [2 * LARGE, body.length], [7, LARGE + 8]] as const)
            assert.ok((await read(start, end)).equals(body.subarray(start, end))); // prettier-ignore
          assert.deepEqual(connections, [1, 1, 1]);
        },
        { isSecure },
      );
    });
  }

  test("that is shorter than was asked for comes with its head, and the connection is used again", async () => {
    await withServer(
      ({ socket, ...asked }) => {
        const whole = Buffer.concat([Buffer.from(head({ ...asked, socket })), body.subarray(asked.start, asked.end)]);
        socket.write(whole);
      },
      async ({ read, connections }) => {
        const start = body.length - 1000;
        for (let time = 0; time < 3; time += 1)
          assert.ok((await read(start, start + LARGE)).equals(body.subarray(start)));
        assert.deepEqual(connections, [1, 1, 1]);
      },
    );
  });

  test("is read whatever the pieces are in which it comes", async () => {
    await withServer(
      async (asked) => {
        asked.socket.setNoDelay(true);
        for (const byte of head(asked)) {
          asked.socket.write(byte);
          await sleep(1);
        }
        for (let at = asked.start; at < asked.end; at += 100_003) {
          asked.socket.write(body.subarray(at, Math.min(asked.end, at + 100_003)));
          await sleep(1);
        }
      },
      async ({ read }) => assert.ok((await read(0, body.length)).equals(body)),
    );
  });

  for (const [what, changes, requests] of [
    ["without a length", { "Content-Length": null, Connection: "close" }, 2],
    ["with a content encoding", { "Content-Encoding": "nothing" }, 2],
    ["with two lengths", { "content-length": "1" }, 2],
  ] as const) {
    test(`${what} is dropped, and asked for in the ordinary way from then on`, async () => {
      let plain = 0;
      await withServer(
        (asked) => {
          // Only the first request comes directly.
          if (asked.request === 1) return void asked.socket.end(head(asked, changes));
          plain += 1;
          answerPlainly(asked);
        },
        async ({ read, connections }) => {
          assert.ok((await read(0, LARGE)).equals(body.subarray(0, LARGE)));
          assert.equal(connections.length, requests);
          assert.ok((await read(LARGE, 2 * LARGE)).equals(body.subarray(LARGE, 2 * LARGE)));
          assert.equal(plain, 2);
        },
      );
    });
  }

  test("that is a refusal is asked for again, and its reason is reported", async () => {
    const refusal = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    await withServer(
      ({ socket }) =>
        void socket.write(
          `HTTP/1.1 403 Forbidden\r\nx-amz-request-id: t\r\nContent-Length: ${refusal.length}\r\n\r\n${refusal}`,
        ),
      async ({ read }) => {
        await assert.rejects(read(0, LARGE), { name: "AccessDenied" });
      },
    );
  });

  test("is continued on another connection after a cut", async () => {
    await withServer(
      (asked) => {
        if (asked.request > 3) {
          answerPlainly(asked);
          return;
        }
        asked.socket.write(head(asked));
        asked.socket.end(body.subarray(asked.start, asked.start + 500_000));
      },
      async ({ read, connections }) => {
        assert.ok((await read(0, body.length)).equals(body));
        assert.deepEqual(connections, [1, 2, 3, 4]);
      },
    );
  });

  test("is continued when no byte comes any more", async () => {
    await withServer(
      (asked) => {
        if (asked.request > 1) {
          answerPlainly(asked);
          return;
        }
        asked.socket.write(head(asked));
        asked.socket.write(body.subarray(asked.start, asked.start + 500_000));
      },
      async ({ read, connections }) => {
        assert.ok((await read(0, body.length)).equals(body));
        assert.deepEqual(connections, [1, 2]);
      },
      { stallMs: 300 },
    );
  });

  // Where the end of the idle one is not noticed, the request waits for a minute.
  test("is asked for on a new connection when the store has closed the idle one", { timeout: 40_000 }, async () => {
    await withServer(
      (asked) => {
        answerPlainly(asked);
        if (asked.request === 1) asked.socket.end();
      },
      async ({ read, connections }) => {
        await read(0, LARGE);
        assert.ok((await read(0, LARGE)).equals(body.subarray(0, LARGE)));
        assert.equal(connections.at(-1), 2);
      },
    );
  });

  test("with bytes that nobody has asked for ends its connection, and they are not believed", async () => {
    await withServer(
      (asked) => {
        answerPlainly(asked);
        asked.socket.write(head({ ...asked, start: 0, end: LARGE }));
        asked.socket.write(Buffer.alloc(LARGE));
      },
      async ({ read, connections }) => {
        for (let at = 0; at + LARGE <= body.length; at += LARGE) {
          assert.ok((await read(at, at + LARGE)).equals(body.subarray(at, at + LARGE)));
          await sleep(100);
        }
        assert.deepEqual(connections, [1, 2, 3]);
      },
    );
  });

  test("is no longer waited for after a stop", async () => {
    const stop = new AbortController();
    await withServer(
      ({ socket, ...asked }) => {
        socket.write(head({ ...asked, socket }));
        setTimeout(() => stop.abort(), 100);
      },
      async ({ read }) => {
        await assert.rejects(read(0, LARGE, stop.signal), { code: "ABORTED" });
      },
    );
  });
});
