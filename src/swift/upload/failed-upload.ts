// Finds out how a failed upload has ended: it may have worked nevertheless. Otherwise its parts stay, or are removed.

import { alreadyArchived, BackupError, type FailureCode } from "../../errors.ts";
import type { ObjectDetails, Stored } from "../../operations/store-ports.ts";
import { describeError, isFinalRefusal, refusesParts } from "../error-facts.ts";
import { abortUpload, forgetUpload } from "../leftovers.ts";
import { headObject } from "../objects.ts";
import { withTimeout } from "../timeout.ts";
import type { UploadSession } from "./session.ts";

/** How long to retry aborting an upload that failed; and how long when the run is to stop. */
const CLEAN_UP_MS = 60_000;

const HURRIED_CLEAN_UP_MS = 700;

/** Failures that make the stored parts of an upload useless. After all others they stay. */
const againstParts: ReadonlySet<FailureCode> = new Set(["ARCHIVE_DAMAGED", "STREAM_TOO_LONG"]);

/**
 * Finds out how an upload ended that failed. It may have worked nevertheless, when only the answer was lost. Otherwise
 * its parts stay, to be resumed, unless the failure is about them or nothing could resume them.
 */
export async function resolveFailure(session: UploadSession): Promise<Stored> {
  const { failure, store, key, signal } = session;
  const error = failure?.ofBody === true ? failure.error : store.translate(failure?.error, signal, key);
  if (session.committedEtag !== null) throw error;
  if (!session.isCommitting) {
    const code = error instanceof BackupError ? error.code : null;
    // Where there is no room, an upload that holds nothing is not worth a message.
    const holdsNothing = code === "QUOTA_EXCEEDED" && !session.holdsParts;
    const useless = session.options.resumable === false || holdsNothing || (code !== null && againstParts.has(code));
    throw withFate(error, {
      stays: session.uploadId !== null && !(useless && (await abortOwnUpload(session))),
      session,
    });
  }
  const found = await lookAgain(session);
  if (found !== "unknown" && session.isWhatWasSent(found)) {
    if (session.uploadId !== null) await forgetUpload(store, session.completion(), signal);
    return session.receipt();
  }
  const stays = session.uploadId !== null && !(isOver(session, found) && (await abortOwnUpload(session)));
  if (stays && !isFinalRefusal(failure?.error)) {
    store.log?.warn(
      { key, uploadId: session.uploadId },
      "whether an upload was completed is unknown; it is left as it is",
    );
  }
  throw found === "unknown" || found === null ? withFate(error, { stays, session }) : alreadyArchived(key);
}

/** Checks the key again after a completion that failed. A HEAD that fails, too, shows nothing. */
async function lookAgain({ store, key, signal }: UploadSession): Promise<ObjectDetails | null | "unknown"> {
  if (signal.aborted) return "unknown";
  return await headObject(store, key, signal).catch(() => "unknown");
}

/**
 * True when the completion of an upload was sent once and refused at once, and can bring nothing any more: for what it says
 * about the parts, because nobody could send it again, or because another object is there. Otherwise the store may be
 * completing it at this moment, and without its parts that would become a broken object.
 */
function isOver(session: UploadSession, found: ObjectDetails | null | "unknown"): boolean {
  const { failure, options } = session;
  if (found === "unknown" || !isFinalRefusal(failure?.error)) return false;
  if (found !== null) return found.etag !== session.expectedEtag();
  return options.resumable === false || refusesParts(failure?.error);
}

/** Adds how much of an upload stays when the store has no room: nobody could know otherwise. */
function withFate(
  error: unknown,
  { stays, session }: { readonly stays: boolean; readonly session: UploadSession },
): unknown {
  if (!(error instanceof BackupError) || error.code !== "QUOTA_EXCEEDED") return error;
  const resumed = session.options.resumable === false ? "a later run removes it" : "the next run resumes it";
  const left = stays ? `what was sent of it stays in the store, and ${resumed}` : "nothing of it stays in the store";
  return new BackupError(error.code, error.message, {
    context: error.context,
    cause: error.cause,
    hint: `${error.hint ?? ""}; ${left}`,
  });
}

/** Aborts the upload if this run began it; one of an earlier run may be completed at this moment. True when it is gone. */
async function abortOwnUpload({ store, key, uploadId, resumable, signal }: UploadSession): Promise<boolean> {
  if (uploadId === null || resumable !== null) return false;
  const hurry = new AbortController();
  const onAbort = (): void => void setTimeout(() => hurry.abort(), HURRIED_CLEAN_UP_MS).unref();
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await withTimeout(CLEAN_UP_MS, hurry.signal, (patience) => abortUpload(store, { key, uploadId }, patience));
    return true;
  } catch (error) {
    store.log?.warn(
      { key, uploadId, error: describeError(error) },
      "an unfinished upload could not be aborted; its parts stay",
    );
    return false;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
