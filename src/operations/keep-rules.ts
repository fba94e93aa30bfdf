// Reads and stores the keep rules of a subvolume in the container: see plan/keep-object.ts.

import { BackupError } from "../errors.ts";
import { formatKeep, formatKeepKey, MAX_KEEP_BYTES, parseKeep, type ZonedRules } from "../plan/keep-object.ts";
import type { Uuid } from "../plan/model.ts";
import { readText, storeText } from "./small-object.ts";
import type { Container } from "./store-ports.ts";

/**
 * Reads the keep rules in the container; null when no prune has stored any.
 * @throws CONFIG when they cannot be read: without rules, a sync would send again what a prune deleted
 */
export async function readKeepRules(
  source: Uuid,
  container: Container,
  signal: AbortSignal,
): Promise<ZonedRules | null> {
  const key = formatKeepKey(source);
  const text = await readText(key, MAX_KEEP_BYTES, container, signal);
  if (text === null) return null;
  const rules = parseKeep(text);
  if (rules !== null) return rules;
  throw new BackupError("CONFIG", `the keep rules in the container (${key}) cannot be read`, {
    hint: "give keep rules of your own, or delete that object",
    context: { key },
  });
}

/** Stores keep rules in the container, for syncs that have none of their own, unless the same are there. */
export async function storeKeepRules(
  source: Uuid,
  rules: ZonedRules,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const key = formatKeepKey(source);
  const text = formatKeep(rules);
  if ((await readText(key, MAX_KEEP_BYTES, container, signal)) !== text)
    await storeText({ key, text }, container, signal);
}
