// The encoding of streams as commands show it, and the options for it.

import { resolve } from "node:path";
import { listOption, switchOption, textOption } from "./options.ts";
import { readEncodingOptions } from "../config/encoding.ts";
import { NAME_RECIPIENT, NOT_ENCRYPTED } from "../operations/encryption.ts";
import type { StoredArchive } from "../operations/sync-snapshot.ts";
import { isCompressed, type EncodingOptions } from "../plan/encoding.ts";
import type { SendProto } from "../plan/model.ts";
import { formatBytes } from "../terminal/format.ts";
import { StoreCommand } from "./command.ts";

export const UNENCRYPTED = `${NOT_ENCRYPTED}: ${NAME_RECIPIENT}`;

/** The form in which snapshots are sent. */
export interface Form extends Pick<EncodingOptions, "recipients" | "zstdLevel"> {
  readonly sendProto: SendProto;
  readonly compressedData: boolean;
  /** False when the user chose the protocol. */
  readonly chosen: boolean;
}

/** Describes how streams are encoded, the most important first. */
export function describeEncodingOf({ recipients, zstdLevel }: Form): string {
  const zstd = zstdLevel === null ? "" : `, zstd level ${zstdLevel} where it helps`;
  return `${recipients === null ? "not encrypted" : "encrypted with age"}${zstd}`;
}

/** Describes the send protocol, and why it was chosen. */
export function describeProtocol({ sendProto, compressedData, chosen }: Form): string {
  const why = chosen ? "the newest that this machine supports" : "as asked";
  return `send protocol ${sendProto} (${why}), compressed files are sent ${compressedData ? "as they are" : "uncompressed"}`;
}

/** The same for programs. */
export function toFormRecord({ sendProto, compressedData, recipients, zstdLevel }: Form): Record<string, unknown> {
  return { sendProto, compressedData, zstdLevel, encrypted: recipients !== null };
}

/** Describes what zstd saved on a stream; empty where nobody asked for compression. */
export function describeGain(
  bytes: number,
  { bytes: storedBytes, encoding }: Pick<StoredArchive, "bytes" | "encoding">,
  { zstdLevel }: Form,
): string {
  if (zstdLevel === null) return "";
  if (!isCompressed(encoding)) return ", not compressed: it would hardly shrink";
  // The overhead around a small stream can be larger than the saving.
  if (storedBytes >= bytes) return `, stored as ${formatBytes(storedBytes)}`;
  return `, compressed to ${formatBytes(storedBytes)} (${((100 * storedBytes) / bytes).toFixed(0)} %)`;
}

/** A command with options for the encoding of streams. */
export abstract class EncodingCommand extends StoreCommand {
  ageRecipient = listOption("ageRecipient");
  ageRecipientsFile = listOption("ageRecipientsFile");
  noEncryption = switchOption("noEncryption");
  requireEncryption = switchOption("requireEncryption");
  compress = textOption("compress");

  /** @throws USAGE */
  protected encodingOptions(): EncodingOptions {
    const { ageRecipient, ageRecipientsFile, noEncryption, requireEncryption, compress } = this;
    const ageRecipientsFiles = ageRecipientsFile.map((file) => resolve(file));
    const flags = { ageRecipients: ageRecipient, ageRecipientsFiles, noEncryption, requireEncryption, compress };
    return readEncodingOptions(flags, this.context.env);
  }
}
