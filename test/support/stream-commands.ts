// Commands of a send stream made by hand, with their right checksums.

import type { Identity } from "../../src/plan/model.ts";
import { sealed } from "../../src/btrfs/send-commands.ts";

/** With a path, an inode number, and what a link leads to. */
export function streamCommand(kind: number, path: string, to?: string): Buffer {
  const target = to === undefined ? [] : [[17, Buffer.from(to)] as const];
  return commandOf(kind, [[15, Buffer.from(path)], [3, Buffer.alloc(8, 1)], ...target]);
}

/** How the full stream of a snapshot begins. */
export function startOfStream({ uuid, ctransid }: Identity, name: string): Buffer {
  const [version, transaction] = [Buffer.alloc(4), Buffer.alloc(8)];
  version.writeUInt32LE(1);
  transaction.writeBigUInt64LE(BigInt(ctransid));
  const attributes = [
    [15, Buffer.from(name)],
    [1, Buffer.from(uuid.replaceAll("-", ""), "hex")],
    [2, transaction],
  ] as const;
  return Buffer.concat([Buffer.from("btrfs-stream\0"), version, commandOf(1, attributes)]);
}

function commandOf(kind: number, attributes: readonly (readonly [type: number, value: Buffer])[]): Buffer {
  const written = attributes.map(([type, value]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(type, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, value]);
  });
  const bytes = Buffer.concat([Buffer.alloc(10), ...written]);
  bytes.writeUInt16LE(kind, 4);
  return sealCommand(bytes);
}

/** The RENAME command. */
export function renameCommand(path: string, to: string): Buffer {
  return commandOf(9, [
    [15, Buffer.from(path)],
    [16, Buffer.from(to)],
  ]);
}

/** The RMDIR command. */
export function removeDirectoryCommand(path: string): Buffer {
  return commandOf(12, [[15, Buffer.from(path)]]);
}

/** The CLONE command, of a file in the snapshot of that UUID. */
export function cloneCommand(
  path: string,
  bytes: number,
  source: { readonly uuid: string; readonly path: string },
): Buffer {
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  return commandOf(16, [
    [18, number(0)],
    [24, number(bytes)],
    [15, Buffer.from(path)],
    [20, Buffer.from(source.uuid.replaceAll("-", ""), "hex")],
    [21, number(1)],
    [22, Buffer.from(source.path)],
    [23, number(0)],
  ]);
}

/** The WRITE command of version 1, at the beginning of a file. */
export function writeCommand(path: string, data: Buffer): Buffer {
  return commandOf(15, [
    [15, Buffer.from(path)],
    [18, Buffer.alloc(8)],
    [19, data],
  ]);
}

export const endOfStream = (): Buffer => commandOf(21, []);

export const makeFile = (path: string): Buffer => streamCommand(3, path);
export const makeLink = (path: string, to: string): Buffer => streamCommand(8, path, to);

/** Where the first command of a stream ends. */
export function endOfFirst(stream: Buffer): number {
  return 17 + 10 + stream.readUInt32LE(17);
}

/** The stream with more commands behind its first. */
export function withCommands(stream: Buffer, ...commands: readonly Buffer[]): Buffer {
  const end = endOfFirst(stream);
  return Buffer.concat([stream.subarray(0, end), ...commands, stream.subarray(end)]);
}

/** The same command with the length and the checksum that it should have. */
export function sealCommand(command: Buffer): Buffer {
  return sealed(Buffer.from(command));
}
