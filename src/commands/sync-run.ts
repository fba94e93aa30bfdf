// The inputs of a run of sync, from its settings to the confirmed plan.

import type { PreparedEncoding } from "../operations/encode.ts";
import type { ArchiveView } from "../operations/inventory.ts";
import type { LocalSnapshots, Sender } from "../operations/ports.ts";
import type { Container } from "../operations/store-ports.ts";
import type { EstimatedStep } from "../operations/sync-snapshot.ts";
import type { Inventory } from "../plan/inventory.ts";
import type { TransferPolicy } from "../plan/layout.ts";
import type { SendProto } from "../plan/model.ts";
import type { SyncPlan, SyncRequest } from "../plan/sync.ts";
import type { Form } from "./encoding.ts";
import type { TypedKeeping } from "./keep-options.ts";
import type { Reporting } from "./monitoring.ts";
import type { SubvolumeOutcome } from "./sync-ended.ts";

/** The settings that hold for every subvolume of a run. */
export interface Settings {
  readonly policy: TransferPolicy;
  readonly sendProto: SendProto | null;
  readonly encoding: PreparedEncoding;
  /** The age in milliseconds from which leftovers are removed. */
  readonly leftoverAgeMs: number;
  /** Opens the container and its inventory on first use. */
  readonly open: () => Promise<Store>;
  readonly reporting: Reporting;
  readonly keeping: TypedKeeping;
}

export interface Store {
  readonly container: Container;
  readonly view: ArchiveView;
}

export interface LocalEdges extends Store {
  readonly local: LocalSnapshots;
  readonly source: Sender;
  readonly request: SyncRequest;
}

/** A plan that the user has confirmed. */
export interface Agreed {
  readonly inventory: Inventory;
  readonly plan: SyncPlan;
  readonly steps: readonly EstimatedStep[];
  readonly form: Form;
  /** The outcome of the run when nothing fails. */
  readonly ended: SubvolumeOutcome;
}
