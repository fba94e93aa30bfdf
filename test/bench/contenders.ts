// The contenders: each as the shell line that somebody would type, with parts of 16 MiB and four of them in flight.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PUBLISHED } from "../support/cli.ts";
import { quote } from "./measure.ts";
import type { Store } from "./stores.ts";

const LIB_STORAGE = fileURLToPath(new URL("lib-storage.js", import.meta.url));

const PART_MIB = 16;
export const PARTS_IN_FLIGHT = 4;

/** The values that a contender puts into its line. */
export interface Setting {
  /** `btrfs send` of the snapshot to its standard output, measured. */
  readonly send: string;
  /** A command, measured. */
  client(...words: readonly string[]): string;
  /** The subvolume whose only snapshot it is. */
  readonly source: string;
  readonly endpoint: string;
  /** It exists and is empty. */
  readonly container: string;
  /** A file to keep the stream in. */
  readonly spool: string;
  /** A recipient of age. */
  readonly recipient: string;
}

export interface Contender {
  readonly name: string;
  /** The program it needs, and Debian's package of it; null = nothing but what is here. */
  readonly needs: { readonly program: string; readonly package: string } | null;
  /** Where it sends to. */
  readonly stores: "anything" | "Swift" | "nothing";
  /** True where what it stores is longer or shorter than the stream. */
  readonly encodes?: boolean;
  line(setting: Setting): string;
}

export const contenders = {
  null: { name: "btrfs send >/dev/null", needs: null, stores: "nothing", line: ({ send }) => `${send} >/dev/null` },
  cat: {
    name: "btrfs send | cat >/dev/null",
    needs: null,
    stores: "nothing",
    line: ({ send, client }) => `${send} | ${client("cat")} >/dev/null`,
  },
  sync: {
    name: "sync",
    needs: null,
    stores: "anything",
    line: ({ client, source, container }) => client(PUBLISHED, "sync", source, "--container-name", container),
  },
  ageCat: {
    name: "btrfs send | age | cat >/dev/null",
    needs: { program: "age", package: "age" },
    stores: "nothing",
    line: ({ send, client, recipient }) => `${send} | ${client("age", "-r", recipient)} | cat >/dev/null`,
  },
  zstdCat: {
    name: "btrfs send | zstd | cat >/dev/null",
    needs: { program: "zstd", package: "zstd" },
    stores: "nothing",
    line: ({ send, client }) => `${send} | ${client("zstd", "-q", "-3", "-T0")} | cat >/dev/null`,
  },
  syncAge: {
    name: "sync --age-recipient",
    needs: { program: "age", package: "age" },
    stores: "anything",
    encodes: true,
    line: ({ client, source, container, recipient }) =>
      client(PUBLISHED, "sync", source, "--container-name", container, "--age-recipient", recipient),
  },
  // The stream is random, so this is the cost of asking; zstd above is the cost of compressing.
  syncZstd: {
    name: "sync --compress zstd (cannot shrink)",
    needs: { program: "zstd", package: "zstd" },
    stores: "anything",
    line: ({ client, source, container }) =>
      client(PUBLISHED, "sync", source, "--container-name", container, "--compress", "zstd"),
  },
  libStorage: {
    name: "btrfs send | bare lib-storage",
    needs: null,
    stores: "anything",
    line: ({ send, client, container }) =>
      `${send} | ${client(process.execPath, LIB_STORAGE, container, `${PART_MIB * 2 ** 20}`, `${PARTS_IN_FLIGHT}`)}`,
  },
  rclone: {
    name: "btrfs send | rclone rcat",
    needs: { program: "rclone", package: "rclone" },
    stores: "anything",
    line: ({ send, client, container }) => `${send} | ${client("rclone", "rcat", `:s3:${container}/stream`)}`,
  },
  aws: {
    name: "btrfs send | aws s3 cp -",
    needs: { program: "aws", package: "awscli" },
    stores: "anything",
    line: ({ send, client, container, endpoint }) =>
      `${send} | ${client("aws", "--endpoint-url", endpoint, "s3", "cp", "-", `s3://${container}/stream`)}`,
  },
  swift: {
    name: "btrfs send >file; swift upload",
    needs: { program: "swift", package: "python3-swiftclient" },
    stores: "Swift",
    line: ({ send, client, container, spool }) => {
      const asStream = ["--segment-size", `${2 ** 30}`, "--object-name", "stream"];
      return `${send} >${quote(spool)}; ${client("swift", "upload", ...asStream, container, spool)}`;
    },
  },
} as const satisfies Record<string, Contender>;

export type ContenderName = keyof typeof contenders;

/** The entire environment of the clients. */
export async function clientEnvironment(store: Store, directory: string): Promise<Record<string, string>> {
  const awsConfig = join(directory, "aws-config");
  // Checksums in trailers, which newer versions send unasked, are refused by Swift before 2.35.
  await writeFile(
    awsConfig,
    `[default]\nrequest_checksum_calculation = when_required\nresponse_checksum_validation = when_required\ns3 =
  addressing_style = path\n  multipart_chunksize = ${PART_MIB}MB\n  max_concurrent_requests = ${PARTS_IN_FLIGHT}\n`,
  );
  return {
    PATH: [join(process.execPath, ".."), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].join(":"),
    HOME: directory,
    ...store.environment,
    AWS_CONFIG_FILE: awsConfig,
    AWS_ENDPOINT_URL_S3: store.endpoint,
    AWS_REGION: "us-east-1",
    RCLONE_CONFIG: "/dev/null",
    RCLONE_S3_PROVIDER: "Other",
    RCLONE_S3_ENV_AUTH: "true",
    RCLONE_S3_ENDPOINT: store.endpoint,
    RCLONE_S3_REGION: "us-east-1",
    RCLONE_S3_CHUNK_SIZE: `${PART_MIB}Mi`,
    RCLONE_S3_UPLOAD_CONCURRENCY: `${PARTS_IN_FLIGHT}`,
    RCLONE_S3_NO_CHECK_BUCKET: "true",
  };
}
