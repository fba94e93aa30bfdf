// Swift's own API, as little of it as tests need to look at the store with other eyes than S3's.

import type { Keys } from "./swift.ts";

export interface NativeRequest {
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface NativeApi {
  /** `http://…/v1/AUTH_…` */
  readonly storageUrl: string;
  readonly token: string;
  /** Also for names that S3 cannot address. */
  putContainer(name: string): Promise<void>;
  /** The complete object, as `swift download` would give it. @throws when there is none */
  getObject(container: string, key: string): Promise<Buffer>;
  putObject(container: string, key: string, body: Uint8Array): Promise<void>;
  /** Any request below the account; the path is appended as it is. */
  request(method: string, path: string, init?: NativeRequest): Promise<Response>;
}

/** Asks tempauth for a token. @throws when the keys are refused */
export async function openNative(endpoint: string, keys: Keys): Promise<NativeApi> {
  const answer = await fetch(`${endpoint}/auth/v1.0`, {
    headers: { "x-storage-user": keys.accessKey, "x-storage-pass": keys.secretKey },
  });
  const storageUrl = answer.headers.get("x-storage-url");
  const token = answer.headers.get("x-auth-token");
  if (storageUrl === null || token === null) throw new Error(`no token for ${keys.accessKey}: ${answer.status}`);
  return nativeApi(storageUrl, token);
}

/** The API of one account, with a token for it. */
export function nativeApi(storageUrl: string, token: string): NativeApi {
  const request: NativeApi["request"] = async (method, path, init = {}) => {
    const headers = { ...init.headers, "x-auth-token": token };
    const ask = (): Promise<Response> => fetch(storageUrl + path, { method, headers, body: init.body ?? null });
    // The server may close an idle connection at the moment when it is used again.
    return ask().catch(ask);
  };
  const requestWell: NativeApi["request"] = async (method, path, init) => {
    const response = await request(method, path, init);
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  };
  return {
    storageUrl,
    token,
    request,
    async putContainer(name) {
      await requestWell("PUT", `/${encodeURIComponent(name)}`);
    },
    async getObject(container, key) {
      const response = await requestWell("GET", objectPath(container, key));
      return Buffer.from(await response.arrayBuffer());
    },
    async putObject(container, key, body) {
      await requestWell("PUT", objectPath(container, key), { body });
    },
  };
}

function objectPath(container: string, key: string): string {
  return `/${encodeURIComponent(container)}/${encodeURIComponent(key)}`;
}
