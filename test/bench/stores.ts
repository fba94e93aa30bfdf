// Where the bench sends to: a Swift as people have it, and a server that throws everything away, so that what is
// measured is the client.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSwift, type Swift } from "../support/swift.ts";
import { compileC } from "./measure.ts";

export interface Store {
  readonly name: string;
  /** `http://127.0.0.1:port` of the S3 API. */
  readonly endpoint: string;
  /** The variables of the clients: S3 keys and, if there is one, the login to the native API. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether it speaks Swift's own API. */
  readonly isSwift: boolean;
  createContainer(name: string): Promise<void>;
  /** The size of all archives in a container, without the objects beside them. */
  storedBytes(container: string): Promise<number>;
  /** Frees what is stored, where anything is. */
  empty(): Promise<void>;
  close(): Promise<void>;
}

/** The end of the path of what stands beside an archive. */
const PROOF = encodeURIComponent("/proof");

/** @param directory - keeps the program */
export async function openSink(directory: string): Promise<Store> {
  const child = spawn(await compileC("sink", directory, "-lm", "-lpthread"), { stdio: ["pipe", "pipe", "inherit"] });
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  const endpoint = `http://127.0.0.1:${port.toString().trim()}`;
  return {
    name: "a server that discards everything",
    endpoint,
    environment: { AWS_ACCESS_KEY_ID: "any", AWS_SECRET_ACCESS_KEY: "any" },
    isSwift: false,
    createContainer: () => Promise.resolve(),
    async storedBytes(container) {
      const answer = await fetch(`${endpoint}/${container}?list-type=2`);
      return Number(answer.headers.get("x-container-bytes-used"));
    },
    empty: () => Promise.resolve(),
    async close() {
      const gone = once(child, "exit");
      child.stdin.end();
      await gone;
    },
  };
}

export async function openRealSwift(): Promise<Store> {
  const swift = await openSwift();
  const { endpoint, environment, native, createContainer } = swift;
  return {
    name: "a real Swift",
    endpoint,
    environment: { ...environment, OS_STORAGE_URL: native.storageUrl, OS_AUTH_TOKEN: native.token },
    isSwift: true,
    createContainer,
    async storedBytes(container) {
      const archives = (await objectPaths(swift, container)).filter((path) => !path.endsWith(PROOF));
      const heads = archives.map(async (path) => native.request("HEAD", path));
      return (await Promise.all(heads)).reduce((sum, { headers }) => sum + Number(headers.get("content-length")), 0);
    },
    async empty() {
      for (const container of await namesIn(swift, "")) {
        for (const path of await objectPaths(swift, container)) await native.request("DELETE", path);
      }
    },
    close: swift.close,
  };
}

async function objectPaths(swift: Swift, container: string): Promise<readonly string[]> {
  const path = `/${encodeURIComponent(container)}`;
  return (await namesIn(swift, path)).map((name) => `${path}/${encodeURIComponent(name)}`);
}

/** The containers of the account, or the objects of a container; of fewer than 10,000, which are one page. */
async function namesIn({ native }: Swift, path: string): Promise<readonly string[]> {
  const answer = await native.request("GET", `${path}?format=json`);
  const entries = (await answer.json()) as readonly { readonly name: string }[];
  return entries.map(({ name }) => name);
}
