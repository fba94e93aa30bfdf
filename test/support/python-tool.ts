// Containers as the Python tool filled them: streams of protocol 1, encrypted or not, plain objects or large ones, without
// metadata.

import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { run } from "./loopback.ts";
import { SYSTEM_PYTHON, type Swift } from "./swift.ts";

const execute = promisify(execFile);

/** Beside the source: the compiled file lies in dist/test/support/. */
const SCRIPT = fileURLToPath(new URL("../../../test/support/python-tool.py", import.meta.url));

export interface PythonRun {
  readonly container: string;
  /** UUID of the subvolume. */
  readonly source: string;
  /** Top of the filesystem. */
  readonly top: string;
  /** Paths of the snapshots below it, the oldest first. */
  readonly snapshots: readonly string[];
  /** For age; null = not encrypted. */
  readonly recipient: string | null;
  /** Larger streams become static large objects. The tool's own: 1 GiB. */
  readonly segmentBytes?: number;
}

/** Sends the first snapshot in full, and each other one incrementally against the one before it. */
export async function archiveLikePythonTool(swift: Swift, options: PythonRun): Promise<void> {
  const { container, source, top, snapshots, recipient, segmentBytes = 2 ** 30 } = options;
  const directory = await mkdtemp(join(tmpdir(), "python-tool-"));
  try {
    const files: string[] = [];
    for (const [index, path] of snapshots.entries()) {
      const parent = index === 0 ? [] : ["-p", join(top, snapshots[index - 1] ?? "")];
      const file = join(directory, basename(path));
      await run("btrfs", "send", "-q", ...parent, "-f", file, join(top, path));
      if (recipient !== null) await run("age", "-r", recipient, "-o", `${file}.age`, file);
      files.push(recipient === null ? file : `${file}.age`, `${source}/${path}`.replaceAll("/", "\\x2f"));
    }
    const { accessKey, secretKey, endpoint } = swift;
    await execute(SYSTEM_PYTHON, [SCRIPT, container, String(segmentBytes), ...files], {
      env: { PATH: "/usr/bin:/bin", ST_AUTH: `${endpoint}/auth/v1.0`, ST_USER: accessKey, ST_KEY: secretKey },
    });
  } finally {
    await rm(directory, { recursive: true });
  }
}
