// A way to the store on which a test plans what goes wrong. What is planned and never happens fails the test.
// Requests pass unchanged, their Host header too, so that signatures stay right.

import { once } from "node:events";
import { createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** A fault of a request. */
export type Fault =
  /** The store does as it was asked, but the answer does not arrive. */
  | { readonly kind: "lose-answer" }
  /** The store's answer arrives so much later. */
  | { readonly kind: "delay"; readonly ms: number }
  /** The request reaches the store only after this. */
  | { readonly kind: "hold"; readonly until: Promise<unknown> }
  /** The last bit of the request's body is another when it reaches the store. */
  | { readonly kind: "garble" }
  /** The request does not reach the store; what comes back is not HTTP. */
  | { readonly kind: "noise" }
  /** The request does not reach the store; no answer ever, and after this time, if given, no connection. */
  | { readonly kind: "hang"; readonly ms?: number }
  /** The request does not reach the store; the answer looks like the store's, or like another server's. */
  | {
      readonly kind: "answer";
      readonly by?: "another";
      readonly status: number;
      readonly body?: string;
      readonly headers?: Record<string, string>;
    }
  /** So many bytes of the answer's body arrive, then the connection is cut. */
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** So many bytes of the answer's body arrive, then no more; after this time, if given, the connection is cut. */
  | { readonly kind: "stall"; readonly afterBytes: number; readonly ms?: number }
  /** Headers of the answer are others. */
  | { readonly kind: "lie"; readonly headers: Record<string, string> }
  /** A bit of the answer's body is another. */
  | { readonly kind: "flip"; readonly atByte: number };

export interface Plan {
  /** Tells the requests it is about: method and path with query. */
  readonly when: (method: string, path: string) => boolean;
  readonly fault: Fault;
  /** The first so many requests, one if absent; or all, at least one. */
  readonly times?: number | "ever";
  /** Runs when it happens. */
  readonly then?: () => void;
  /** Runs when the store has answered, before anything of that is passed on. */
  readonly answered?: () => void;
}

export interface FaultProxy {
  readonly endpoint: string;
  /** Every request that came: `METHOD path?query`. */
  readonly seen: readonly string[];
  /** How many requests are not answered to the end, and not given up either. */
  underway(): number;
  plan(plan: Plan): void;
  /** Ends all that is planned; gives what has not happened. */
  clear(): readonly Plan[];
  /** @throws when something that was planned has not happened */
  close(): Promise<void>;
}

export async function openFaultProxy(target: string): Promise<FaultProxy> {
  const pending: { plan: Plan; times: number; hits: number }[] = [];
  const seen: string[] = [];
  let underway = 0;
  const server = createServer((request, response) => {
    const [method = "", path = ""] = [request.method, request.url];
    seen.push(`${method} ${path}`);
    underway += 1;
    response.once("close", () => (underway -= 1));
    const next = pending.find(({ plan, times, hits }) => hits < times && plan.when(method, path));
    if (next !== undefined) next.hits += 1;
    handle(target, request, response, next?.plan ?? null).catch(() => response.destroy());
    next?.plan.then?.();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");

  const clear = (): readonly Plan[] => {
    const missed = pending.filter(({ times, hits }) => hits < (times === Infinity ? 1 : times));
    pending.length = 0;
    return missed.map(({ plan }) => plan);
  };

  return {
    endpoint: `http://127.0.0.1:${String(address.port)}`,
    seen,
    underway: () => underway,
    plan: (plan) => void pending.push({ plan, times: plan.times === "ever" ? Infinity : (plan.times ?? 1), hits: 0 }),
    clear,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      const missed = clear();
      if (missed.length > 0)
        throw new Error(`planned, but never happened: ${JSON.stringify(missed.map(({ fault }) => fault))}`);
    },
  };
}

async function handle(
  target: string,
  request: IncomingMessage,
  response: ServerResponse,
  plan: Plan | null,
): Promise<void> {
  const fault = plan?.fault ?? null;
  if (fault?.kind === "hang") {
    if (fault.ms !== undefined) setTimeout(() => response.destroy(), fault.ms);
    return;
  }
  if (fault?.kind === "noise") {
    await buffer(request);
    response.socket?.end("HTTQ/1.1 200 OK\r\n\r\n");
    return;
  }
  if (fault?.kind === "answer") {
    await buffer(request);
    const id = fault.by === "another" ? {} : { "x-amz-request-id": "planned" };
    response.writeHead(fault.status, { ...id, ...fault.headers }).end(fault.body);
    return;
  }
  if (fault?.kind === "hold") await fault.until;
  const onward = forward(new URL(request.url ?? "/", target), { method: request.method, headers: request.headers });
  if (fault?.kind === "garble") {
    const body = await buffer(request);
    body[body.length - 1] = (body.at(-1) ?? 0) ^ 1;
    onward.end(body);
  } else {
    request.pipe(onward);
    request.once("close", () => {
      if (!request.complete) onward.destroy();
    });
  }
  const [answer] = (await once(onward, "response")) as [IncomingMessage];
  plan?.answered?.();
  if (fault?.kind === "lose-answer") {
    await buffer(answer);
    response.destroy();
    return;
  }
  if (fault?.kind === "delay") await sleep(fault.ms);
  const lies = fault?.kind === "lie" ? fault.headers : {};
  response.writeHead(answer.statusCode ?? 500, { ...answer.headers, ...lies });
  await pipeline(answer, (chunks: AsyncIterable<Buffer>) => spoil(chunks, fault, response), response);
}

async function* spoil(
  chunks: AsyncIterable<Buffer>,
  fault: Fault | null,
  response: ServerResponse,
): AsyncGenerator<Buffer> {
  const end = fault?.kind === "cut" || fault?.kind === "stall" ? fault.afterBytes : Infinity;
  let bytes = 0;
  for await (const chunk of chunks) {
    const at = bytes;
    bytes += chunk.length;
    if (fault?.kind === "flip" && fault.atByte >= at && fault.atByte < bytes) {
      chunk[fault.atByte - at] = (chunk[fault.atByte - at] ?? 0) ^ 1;
    }
    yield chunk.subarray(0, end - at);
    if (bytes < end) continue;
    if (fault?.kind === "stall") await stallFor(fault.ms, response);
    // Let what was written arrive first.
    await sleep(50);
    throw new Error("cut, as planned");
  }
}

async function stallFor(ms: number | undefined, response: ServerResponse): Promise<void> {
  const gone = once(response, "close");
  await (ms === undefined ? gone : Promise.race([gone, sleep(ms)]));
}
