// A connection to the store whose answers are read into memory of the reader: see direct-get.ts.

import { connect as connectTcp, isIP, type Socket, type TcpNetConnectOpts } from "node:net";
import { connect as connectTls, type ConnectionOptions, type SecureContext } from "node:tls";

export interface DirectOptions {
  readonly endpoint: URL;
  /** For https. */
  readonly secureContext?: SecureContext;
  readonly connectTimeoutMs: number;
  /** A connection on which no byte has come for this long is closed. */
  readonly stallMs: number;
}

/** The head of an answer, and the beginning of its body. */
const SCRATCH_BYTES = 64 * 1024;

const NOTHING = Buffer.alloc(0);

/** The beginning of an answer. */
export interface Head {
  readonly status: number;
  /** Names in lower case. Null when its body cannot be read here; then the connection is closed. */
  readonly headers: Readonly<Record<string, string>> | null;
}

/** A connection to the store, on which one request after the other is sent. */
export class Connection {
  onIdle = (): void => undefined;
  onGone = (): void => undefined;
  /** Called when all of a body was read. */
  onRead = (): void => undefined;
  /** Whether a byte of an answer to the current request has come. */
  hasAnswered = false;
  readonly #socket: Socket;
  readonly #stallMs: number;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  /** The beginning of an answer; once that was read, of its body. */
  #head: Buffer = NOTHING;
  #onHead: ((head: Head) => void) | null = null;
  #onFailure: ((error: Error) => void) | null = null;
  /** Bytes of the body that have not been read. */
  #left = 0;
  #memory: Buffer | null = null;
  #filled = 0;
  #onBytes: (filled: number) => void = () => undefined;
  #onFilled: ((bytes: number) => void) | null = null;
  #stopListening = (): void => undefined;

  constructor(options: DirectOptions) {
    this.#stallMs = options.stallMs;
    const socket = connect(options, {
      buffer: () => this.#target(),
      callback: (size, buffer) => this.#receive(buffer, size),
    });
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setTimeout(options.connectTimeoutMs);
    socket.once("connect", () => this.#watch(true));
    socket.on("timeout", () => socket.destroy(Object.assign(new Error("no byte came"), { name: "TimeoutError" })));
    let failure: Error | null = null;
    socket.on("error", (error) => void (failure = error));
    socket.once("close", () => {
      this.#stopListening();
      this.onGone();
      const lost = Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
      this.#onFailure?.(failure ?? lost);
      this.#onFilled?.(this.#filled);
      this.#onFilled = null;
    });
  }

  async ask(request: string, signals: readonly AbortSignal[]): Promise<Head> {
    const socket = this.#socket;
    const end = (): void => void socket.destroy(aborted());
    for (const signal of signals) signal.addEventListener("abort", end, { once: true });
    this.#stopListening = () => signals.forEach((signal) => signal.removeEventListener("abort", end));
    this.hasAnswered = false;
    socket.ref();
    if (!socket.connecting) this.#watch(true);
    socket.write(request, "latin1");
    try {
      return await new Promise((resolve, reject) => {
        if (socket.destroyed) reject(aborted());
        this.#onHead = resolve;
        this.#onFailure = reject;
      });
    } finally {
      this.#onHead = null;
      this.#onFailure = null;
    }
  }

  readInto(memory: Buffer, onBytes: (filled: number) => void): Promise<number> {
    const wanted = Math.min(memory.length, this.#left);
    const begun = this.#head.copy(memory, 0, 0, wanted);
    this.#head = this.#head.subarray(begun);
    this.#left -= begun;
    if (begun === wanted || this.#socket.destroyed) {
      // It paused when the head came, and the next answer would never be read.
      if (this.#rest()) this.#socket.resume();
      return Promise.resolve(begun);
    }
    this.#onBytes = onBytes;
    this.#memory = memory.subarray(0, wanted);
    this.#filled = begun;
    this.#watch(true);
    return new Promise((resolve) => {
      this.#onFilled = resolve;
      this.#socket.resume();
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Where the next bytes go. */
  #target(): Buffer {
    return this.#memory?.subarray(this.#filled) ?? this.#scratch;
  }

  /** False: nothing more is wanted for now. */
  #receive(buffer: Buffer | Uint8Array, size: number): boolean {
    if (this.#onHead !== null) return this.#receiveHead(this.#scratch.subarray(0, size));
    const memory = this.#memory;
    if (memory === null || size > memory.length - this.#filled) {
      // Bytes that nobody has asked for: nothing on this connection can be believed.
      this.#socket.destroy();
      return false;
    }
    // The first bytes after a pause come where there was room for them before it.
    if (buffer === this.#scratch) this.#scratch.copy(memory, this.#filled, 0, size);
    this.#filled += size;
    this.#left -= size;
    if (this.#filled < memory.length) {
      this.#onBytes(this.#filled);
      return true;
    }
    this.#memory = null;
    const filled = this.#onFilled;
    this.#onFilled = null;
    const isOver = this.#rest();
    filled?.(memory.length);
    return isOver;
  }

  #receiveHead(bytes: Buffer): boolean {
    this.hasAnswered = true;
    this.#head = Buffer.concat([this.#head, bytes]);
    const end = this.#head.indexOf("\r\n\r\n");
    if (end < 0 && this.#head.length < SCRATCH_BYTES) return true;
    const { status, headers } = parseHead(this.#head.toString("latin1", 0, Math.max(0, end)));
    const length = Number(headers?.["content-length"]);
    this.#head = this.#head.subarray(end + 4);
    const isPlain = length > 0 && this.#head.length <= length;
    this.#left = isPlain ? length : 0;
    const onHead = this.#onHead;
    if (isPlain) this.#watch(false);
    else this.#socket.destroy();
    onHead?.({ status, headers: isPlain ? headers : null });
    return false;
  }

  /** After the last byte of a body the connection is free; true then. */
  #rest(): boolean {
    this.#watch(false);
    if (this.#left > 0) return false;
    this.#stopListening();
    this.#head = NOTHING;
    this.onRead();
    if (this.#socket.destroyed) return true;
    this.#socket.unref();
    this.onIdle();
    return true;
  }

  /** While bytes are expected, their absence counts. */
  #watch(isWaiting: boolean): void {
    this.#socket.setTimeout(isWaiting ? this.#stallMs : 0);
  }
}

function connect({ endpoint, secureContext }: DirectOptions, onread: NonNullable<TcpNetConnectOpts["onread"]>): Socket {
  const isSecure = endpoint.protocol === "https:";
  const host = endpoint.hostname.replace(/^\[|\]$/g, "");
  const port = Number(endpoint.port === "" ? (isSecure ? 443 : 80) : endpoint.port);
  if (!isSecure) return connectTcp({ host, port, onread });
  const named = isIP(host) === 0 ? { servername: host } : {};
  // The types lack `onread`, which tls.connect takes since Node 12.
  const options: ConnectionOptions & { readonly onread: typeof onread } = { host, port, onread, ...named };
  return connectTls({ ...options, ...(secureContext === undefined ? {} : { secureContext }) });
}

/** Has headers only for an answer with a part of an object, as it is and with its length. */
function parseHead(text: string): Head {
  const [first = "", ...lines] = text.split("\r\n");
  const status = Number(/^HTTP\/1\.1 (\d{3})( |$)/.exec(first)?.[1] ?? 0);
  return { status, headers: status === 206 ? parseHeaders(lines) : null };
}

function parseHeaders(lines: readonly string[]): Readonly<Record<string, string>> | null {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    const known = name?.toLowerCase();
    if (known === undefined || value === undefined || (known in headers && known === "content-length")) return null;
    headers[known] = known in headers ? `${headers[known] ?? ""}, ${value}` : value;
  }
  const isPlain = !("transfer-encoding" in headers) && (headers["content-encoding"] ?? "identity") === "identity";
  return isPlain && /^\d{1,15}$/.test(headers["content-length"] ?? "") ? headers : null;
}

/** The error of a request that was aborted, as the SDK has it. */
export function aborted(): Error {
  return Object.assign(new Error("Request aborted"), { name: "AbortError" });
}
