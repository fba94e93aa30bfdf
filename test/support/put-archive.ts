// Objects that look like archives to whoever asks for no more than their metadata.

import { formatMetadata, type UploadFacts } from "../../src/plan/key.ts";
import type { Difference } from "../../src/plan/model.ts";
import { keyOf, source } from "./builders.ts";
import type { NativeApi } from "./swift-native.ts";

/** Stores such an object, with any content, under the key of the archive of a snapshot. @throws when it is refused */
export async function putArchive(
  native: NativeApi,
  container: string,
  difference: Difference,
  { facts, body }: { readonly facts: UploadFacts; readonly body: Uint8Array },
): Promise<void> {
  const metadata = Object.entries(formatMetadata(difference, facts));
  const headers = Object.fromEntries(metadata.map(([name, value]) => [`x-object-meta-${name}`, value]));
  const { path, source: of } = difference.snapshot;
  const place = `/${container}/${encodeURIComponent(keyOf(path, of ?? source.uuid))}`;
  const answer = await native.request("PUT", place, { headers, body });
  if (answer.status !== 201) throw new Error(`PUT ${place}: ${answer.status}`);
  await answer.arrayBuffer();
}
