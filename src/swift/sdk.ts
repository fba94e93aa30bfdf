// The version of the SDK, as npm names it. What the SDK reports itself can be another one: 3.1173.0 signs as 3.1172.0.

import { createRequire } from "node:module";

export function sdkVersion(): string {
  const { version } = createRequire(import.meta.url)("@aws-sdk/client-s3/package.json") as { version: string };
  return version;
}
