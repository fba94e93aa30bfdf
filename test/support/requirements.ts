// The things that this machine lacks for the tests on real btrfs and real Swift, as a reason to skip them:
// `test("…", { skip: noBtrfs() }, …)`. Looks at files only, so that every test file can afford to ask.

import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isOlder } from "../../src/btrfs/progs.ts";

/** Why no btrfs filesystem can be made and mounted here, in a few words; false when it can. */
export function noBtrfs(): string | false {
  if (process.getuid?.() !== 0) return "needs root";
  if (!hasCapability(CAP_SYS_ADMIN)) return "needs CAP_SYS_ADMIN (a container without --privileged?)";
  const missing = ["mkfs.btrfs", "btrfs", "losetup", "mount"].find((program) => findProgram(program) === null);
  if (missing !== undefined) return `needs the program ${missing}`;
  if (!existsSync("/dev/loop-control")) return "needs loop devices (/dev/loop-control)";
  return kernelHasBtrfs() ? false : "needs a kernel with btrfs";
}

/** Why a test of what old btrfs-progs cannot do is to be skipped; false where they are new enough. */
export function noProgs(major: number, minor: number): string | false {
  if (findProgram("btrfs") === null) return "needs the program btrfs";
  const [, version = ""] = /v(\S+)/.exec(execFileSync("btrfs", ["--version"], { encoding: "utf8" })) ?? [];
  return isOlder(version, [major, minor]) ? `needs btrfs-progs ${major}.${minor}` : false;
}

/** Why no Swift can be started here, in a few words; false when it can. */
export function noSwift(): string | false {
  if (!existsSync("/usr/lib/python3/dist-packages/swift/common/wsgi.py")) return "needs the package python3-swift";
  if (findProgram("memcached") === null) return "needs the package memcached";
  return findProgram("setpriv") === null ? "needs the program setpriv" : false;
}

/** Why no Keystone can be started here, with a Swift that asks it; false when it can. */
export function noKeystone(): string | false {
  const swift = noSwift();
  if (swift !== false) return swift;
  if (!existsSync("/usr/lib/python3/dist-packages/keystonemiddleware"))
    return "needs the package python3-keystonemiddleware";
  const missing = ["keystone-manage", "keystone-wsgi-public", "uwsgi_python3"].find(
    (program) => findProgram(program) === null,
  );
  return missing === undefined ? false : `needs the program ${missing} (packages keystone and uwsgi-plugin-python3)`;
}

/** Why the way from btrfs to Swift and back cannot be tested here; false when it can. */
export function noBtrfsOrSwift(): string | false {
  return noBtrfs() || noSwift();
}

/** True when btrfs filesystems can be made and mounted here. */
export function canUseBtrfs(): boolean {
  return noBtrfs() === false;
}

/** True when a Swift can be started here. */
export function canUseSwift(): boolean {
  return noSwift() === false;
}

/** linux/capability.h */
const CAP_SYS_ADMIN = 21n;

function hasCapability(bit: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> bit) & 1n) === 1n;
}

/** Built in or loaded; or a module that mount will load. */
function kernelHasBtrfs(): boolean {
  if (/\bbtrfs$/m.test(readFileSync("/proc/filesystems", "utf8"))) return true;
  const release = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  return ["/lib/modules", "/usr/lib/modules"].some((modules) => {
    const index = join(modules, release, "modules.dep");
    return existsSync(index) && readFileSync(index, "utf8").includes("/btrfs.ko");
  });
}

/** Debian keeps mkfs.btrfs and losetup in sbin, which the PATH of a plain login lacks. */
export function findProgram(name: string): string | null {
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"];
  for (const folder of folders) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return null;
}
