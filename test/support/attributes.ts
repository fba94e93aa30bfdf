// Extended attributes, for which Node has no calls: Python has.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Sets an extended attribute, or removes it (value null). */
export async function setAttribute(path: string, name: string, value: string | null): Promise<void> {
  const code =
    value === null
      ? "import os, sys; os.removexattr(*sys.argv[1:3])"
      : "import os, sys; os.setxattr(*sys.argv[1:3], bytes.fromhex(sys.argv[3]))";
  await promisify(execFile)("/usr/bin/python3", ["-c", code, path, name, value ?? ""]);
}

export const DEFAULT_ACL = "system.posix_acl_default";
export const COMPRESSION = "btrfs.compression";
/** u::rwx, user:1000 or 1001: r--, g::r-x, m::r-x, o::r-x */
const aclFor = (user: string): string =>
  `0200000001000700ffffffff02000400${user}04000500ffffffff10000500ffffffff20000500ffffffff`;
export const ACL = aclFor("e8030000");
export const OTHER_ACL = aclFor("e9030000");
export const ZSTD = Buffer.from("zstd").toString("hex");
