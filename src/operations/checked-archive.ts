// Opens the send stream of an archive of a chain, checked in every way: as it was stored, as a send stream, and as the one
// that the chain was made of.

import type { Archive } from "../plan/model.ts";
import { assertSameStream } from "../plan/restore.ts";
import type { Pieces } from "../stream/pieces.ts";
import { checkedStream, type CheckOptions } from "../stream/send-stream.ts";
import { openStream, subjectOf, type Reading } from "./read-archive.ts";
import { toLineage } from "./recognition.ts";

/** An archive of a chain. */
export interface Link extends Pick<CheckOptions, "checker"> {
  readonly archive: Archive;
  /** The one it builds on; null when it is full, or that is not at hand. */
  readonly parent: Archive | null;
}

/**
 * The send stream of an archive, which counts as damaged if it is not the one that the chain was made of.
 * @param onBytes - called with the stored bytes read so far
 * @throws as {@link openStream}, also as the error of the stream
 */
export async function openChecked(
  { archive, parent, checker }: Link,
  reading: Reading,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Pieces> {
  const stream = await openStream(reading, archive, onBytes, signal);
  return checkedStream(stream, {
    code: "ARCHIVE_DAMAGED",
    subject: subjectOf(archive),
    onLineage: (found) => assertSameStream(archive, parent, toLineage(found)),
    checker,
  });
}
