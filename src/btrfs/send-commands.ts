// Send streams command by command, for stages that change some in flight: length of the payload (le32), kind (le16),
// CRC32C (le32), then attributes: type (le16), length (le16), value. Only checked streams come in here.

export const STREAM_HEADER_BYTES = 17;
export const COMMAND_HEADER_BYTES = 10;
export const ATTRIBUTE_HEADER_BYTES = 4;

/** The numbers of the commands that are edited. */
export const kinds = {
  subvol: 1,
  snapshot: 2,
  rename: 9,
  setXattr: 13,
  removeXattr: 14,
  chmod: 18,
  chown: 19,
  end: 21,
} as const;

const attributes = { uid: 6, gid: 7, xattrName: 13, xattrData: 14, path: 15, pathTo: 16, cloneUuid: 20 } as const;

/** The content of a command; null for an attribute that it does not have. */
export interface SendCommand {
  readonly kind: number;
  /** All of it. */
  readonly bytes: Buffer;
  get(name: keyof typeof attributes): Buffer | null;
}

/** Replaces a command; returns the command itself where nothing is to be changed. */
export type Edit = (command: SendCommand) => Promise<readonly Buffer[]> | readonly Buffer[];

/** Passes a send stream on, and shows those of its commands that are `wanted`, in their order. */
export async function* editStream(
  pieces: AsyncIterable<Buffer>,
  wanted: (kind: number) => boolean,
  edit: Edit,
): AsyncGenerator<Buffer> {
  // Less than a command that is wanted.
  let begun: Buffer = Buffer.alloc(0);
  let passing = STREAM_HEADER_BYTES;
  for await (const piece of pieces) {
    const bytes = begun.length === 0 ? piece : Buffer.concat([begun, piece]);
    let passed = 0;
    let at = Math.min(passing, bytes.length);
    passing -= at;
    while (bytes.length - at >= COMMAND_HEADER_BYTES) {
      const end = at + COMMAND_HEADER_BYTES + bytes.readUInt32LE(at);
      const kind = bytes.readUInt16LE(at + 4);
      if (!wanted(kind)) {
        at = Math.min(end, bytes.length);
        passing = end - at;
        continue;
      }
      if (end > bytes.length) break;
      // A copy, which may be kept longer than the piece.
      const command = parseCommand(kind, Buffer.from(bytes.subarray(at, end)));
      const edited = await edit(command);
      // Runs of commands that stay as they are stay together.
      if (!isUnchanged(command, edited)) {
        if (at > passed) yield bytes.subarray(passed, at);
        yield* edited;
        passed = end;
      }
      at = end;
    }
    if (at > passed) yield bytes.subarray(passed, at);
    begun = Buffer.from(bytes.subarray(at));
  }
  if (begun.length > 0) yield begun;
}

function isUnchanged({ bytes }: SendCommand, edited: readonly Buffer[]): boolean {
  return edited.length === 1 && edited[0] === bytes;
}

function parseCommand(kind: number, bytes: Buffer): SendCommand {
  const get: SendCommand["get"] = (name) => {
    for (let at = COMMAND_HEADER_BYTES; at < bytes.length;) {
      const value = at + ATTRIBUTE_HEADER_BYTES;
      const end = value + bytes.readUInt16LE(at + 2);
      if (bytes.readUInt16LE(at) === attributes[name]) return bytes.subarray(value, end);
      at = end;
    }
    return null;
  };
  return { kind, bytes, get };
}

/** The command that sets an extended attribute at a path of the snapshot; the empty path is its root. */
export function setAttributeCommand(path: string, name: string, value: Buffer): Buffer {
  const parts = [
    [attributes.path, Buffer.from(path)],
    [attributes.xattrName, Buffer.from(name)],
    [attributes.xattrData, value],
  ] as const;
  const payload = parts.flatMap(([type, bytes]) => {
    const head = Buffer.alloc(ATTRIBUTE_HEADER_BYTES);
    head.writeUInt16LE(type, 0);
    head.writeUInt16LE(bytes.length, 2);
    return [head, bytes];
  });
  const command = Buffer.concat([Buffer.alloc(COMMAND_HEADER_BYTES), ...payload]);
  command.writeUInt16LE(kinds.setXattr, 4);
  return sealed(command);
}

/** The same command, changed in place, with the length and the checksum that it should have. */
export function sealed(command: Buffer): Buffer {
  command.writeUInt32LE(command.length - COMMAND_HEADER_BYTES, 0);
  command.writeUInt32LE(0, 6);
  command.writeUInt32LE(crc32c(command), 6);
  return command;
}

/** As send streams have it: seed 0, no final inversion. Bit by bit, for a few hundred bytes. */
export function crc32c(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return crc >>> 0;
}
