// Checks whether the store accepts a name or metadata. This comes before anything is sent, because Swift answers most
// invalid names with 500, which also means "try again" (measured on 2.30).

import { BackupError } from "../errors.ts";

/** Keys of multipart uploads: Swift keeps each part under `<key>/<48 characters>/<number>`, at most 1024 bytes. */
const MAX_KEY_BYTES = 970;
const METADATA_NAME_BYTES = 128;
const METADATA_VALUE_BYTES = 256;
const METADATA_BYTES = 4096;

/**
 * Refuses only names that cannot be requested: which names a store accepts is its operator's choice
 * (`dns_compliant_bucket_names`).
 * @throws CONFIG for no name, for a slash, which no container has, and for what the SDK takes for an ARN
 */
export function checkContainerName(name: string): void {
  if (name !== "" && !name.includes("/") && !name.startsWith("arn:")) return;
  throw new BackupError("CONFIG", `'${name}' cannot be the name of a container`, { context: { container: name } });
}

/**
 * Characters that XML 1.0 cannot carry: an upload of such a key fails when it is begun, and stays, and spoils listings
 * of uploads.
 */
const NOT_IN_XML = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

/** @throws INTERNAL for a key that the store would refuse */
export function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes < 1 || bytes > MAX_KEY_BYTES) {
    throw new BackupError("INTERNAL", `a key of ${String(bytes)} bytes cannot be stored`, { context: { key } });
  }
  if (NOT_IN_XML.test(key))
    throw new BackupError("INTERNAL", "a key with control characters cannot be stored", { context: { key } });
}

/** @throws INTERNAL for metadata that the store would refuse or mangle */
export function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  let total = 0;
  for (const [name, value] of Object.entries(metadata)) {
    // Underscores become dashes on multipart objects, outer spaces are stripped, other than ASCII is mangled.
    const nameIsFit = /^[a-z0-9-]+$/.test(name) && name.length <= METADATA_NAME_BYTES;
    const valueIsFit = /^([!-~]([ -~]*[!-~])?)?$/.test(value) && value.length <= METADATA_VALUE_BYTES;
    if (!nameIsFit || !valueIsFit) {
      throw new BackupError("INTERNAL", `metadata '${name}' cannot be stored`, { context: { name, value } });
    }
    total += name.length + value.length;
  }
  if (total <= METADATA_BYTES) return;
  throw new BackupError("INTERNAL", `metadata of ${String(total)} bytes cannot be stored`, { context: { metadata } });
}
