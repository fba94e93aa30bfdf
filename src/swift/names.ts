// What the store takes as a name or as metadata. Asked before anything is sent, because Swift answers most of what it
// cannot take with 500, by which it also says "try again" (measured on 2.30).

import { BackupError } from "../errors.ts";

/** Keys of multipart uploads: Swift keeps each part under `<key>/<48 characters>/<number>`, at most 1024 bytes. */
const MAX_KEY_BYTES = 970;
const METADATA_NAME_BYTES = 128;
const METADATA_VALUE_BYTES = 256;
const METADATA_BYTES = 4096;

/** True for a name that S3 can address, by the rules of Swift's `dns_compliant_bucket_names`. */
export function isContainerName(name: string): boolean {
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name)) return false;
  if (/\.\.|\.-|-\./.test(name)) return false;
  return !/^\d{1,3}(\.\d{1,3}){3}$/.test(name);
}

/** @throws CONFIG when the container cannot be reached over S3 under this name */
export function checkContainerName(name: string): void {
  if (isContainerName(name)) return;
  throw new BackupError("CONFIG", `the container name '${name}' cannot be addressed over S3`, {
    hint:
      "use a container named with 3 to 63 lower-case letters, digits, dots and dashes; or ask the operator of the store" +
      " to set dns_compliant_bucket_names = false for s3api",
    context: { container: name },
  });
}

/** @throws INTERNAL for a key that the store would refuse */
export function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes >= 1 && bytes <= MAX_KEY_BYTES) return;
  throw new BackupError("INTERNAL", `a key of ${String(bytes)} bytes cannot be stored`, { context: { key } });
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
