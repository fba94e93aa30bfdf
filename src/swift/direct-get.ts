// Large answers, read straight into memory of the reader: no stream of Node, no parser and no copy between the socket and
// the memory, which is three quarters of what a download costs. Only the plainest answer is read here: 206 with a length.
// Any other is dropped, and the request is sent again in the ordinary way.

import { Readable } from "node:stream";
import { buildQueryString, HttpResponse, type HttpRequest } from "@smithy/core/protocols";
import type { NodeHttpHandler } from "@smithy/node-http-handler";
import { aborted, Connection, type DirectOptions } from "./direct-connection.ts";

/** Shorter answers are not worth it. Nor are those that are often refused: looks at what stands beside an archive. */
const LEAST_BYTES = 2 * 1024 * 1024;

/**
 * The body of an answer. It is read by {@link readInto} alone, although its type makes it a stream: the SDK asks for that.
 */
export class DirectBody extends Readable {
  /** Null when all was read: then the connection is another body's. */
  #connection: Connection | null;

  constructor(connection: Connection) {
    super();
    this.#connection = connection;
    connection.onRead = () => {
      this.#connection = null;
      this.destroy();
    };
  }

  /**
   * The number of bytes filled: all, unless the body ends before, or the connection is lost. One call at a time.
   * @param onBytes - called with the bytes that are there
   */
  readInto(memory: Buffer, onBytes: (filled: number) => void): Promise<number> {
    return this.#connection?.readInto(memory, onBytes) ?? Promise.resolve(0);
  }

  override _read(): void {
    // Its bytes are not for the stream.
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#connection?.close();
    done(error);
  }
}

/** Lets a handler read large ranges directly; `signal` ends all connections. */
export function withDirectGets(handler: NodeHttpHandler, options: DirectOptions, signal: AbortSignal): NodeHttpHandler {
  const handle = handler.handle.bind(handler);
  const gets = openDirectGets(options, signal);
  handler.handle = async (request, handlerOptions) => {
    const stop = handlerOptions?.abortSignal as AbortSignal | undefined;
    const answer = isLargeGet(request) ? await gets(request, stop) : null;
    return answer === null ? await handle(request, handlerOptions) : { response: answer };
  };
  return handler;
}

function isLargeGet({ method, headers }: HttpRequest): boolean {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers["range"] ?? "") ?? [];
  return method === "GET" && Number(last) - Number(first) + 1 >= LEAST_BYTES;
}

type Gets = (request: HttpRequest, stop: AbortSignal | undefined) => Promise<HttpResponse | null>;

function openDirectGets(options: DirectOptions, signal: AbortSignal): Gets {
  const idle = new Set<Connection>();
  signal.addEventListener("abort", () => idle.forEach((connection) => connection.close()), { once: true });
  let isOfUse = true;
  return async (request, stop) => {
    if (!isOfUse) return null;
    const signals = stop === undefined ? [signal] : [signal, stop];
    for (;;) {
      if (signals.some(({ aborted: isAborted }) => isAborted)) throw aborted();
      const kept = [...idle].at(-1);
      const connection = kept ?? new Connection(options);
      idle.delete(connection);
      connection.onIdle = () => void idle.add(connection);
      connection.onGone = () => void idle.delete(connection);
      try {
        const { status, headers } = await connection.ask(serialise(request), signals);
        if (headers !== null)
          return new HttpResponse({ statusCode: status, headers, body: new DirectBody(connection) });
        // The store answers in another way, and will do so again: then nothing is asked for twice any more.
        isOfUse = status !== 200 && status !== 206;
        return null;
      } catch (error) {
        // The store may close a connection that was idle in the moment in which it is used again.
        if (kept === undefined || connection.hasAnswered) throw error;
      }
    }
  };
}

function serialise({ path, query, headers, method }: HttpRequest): string {
  const asked = buildQueryString(query);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path}${asked === "" ? "" : `?${asked}`} HTTP/1.1\r\n${lines.join("")}\r\n`;
}
