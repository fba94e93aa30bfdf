// The first contact with a store: before anything is sent, it checks everything that can be wrong with the endpoint,
// the container, the credentials, the region or the clock.

import { ListObjectsV2Command } from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import { retry } from "../retry.ts";
import { openClients, type ClientOptions } from "./client.ts";
import { damagedAnswer, translate } from "./errors.ts";
import { checkContainerName } from "./names.ts";
import { FIRST_CONTACT_MS } from "./retry-strategy.ts";
import { withTimeout } from "./timeout.ts";
import { expectedRegion, isNoS3Refusal, isUnparsable } from "./error-facts.ts";

/** The region to try first when none is configured: the default of s3api. */
const DEFAULT_REGION = "us-east-1";
const CONTACT_MS = 12_000;
/** The least number of attempts while the answers are about another container, or do not come from an S3 store. */
const ATTEMPTS = 3;

export interface ContactOptions extends Omit<ClientOptions, "region" | "endpoint"> {
  readonly containerName: string;
  readonly endpoint: string;
  readonly region: string | null;
  /** The first attempt, when none is configured. */
  readonly likelyRegion?: string | null;
  /** Advice for when the store refuses the keys. */
  readonly refusalHint?: string | undefined;
  /** How long the first request is retried: the network may be about to come up. */
  readonly contactForMs?: number | undefined;
}

/** Facts learnt from the first contact. */
export interface Contact {
  readonly endpoint: URL;
  readonly region: string;
  /** Added to this machine's clock, gives the store's. */
  readonly clockOffsetMs: number;
  /** True when the store's answers bear the ids of S3's requests: one without is another server's. */
  readonly answersHaveIds: boolean;
}

/**
 * Makes one cheap signed request to see that the container can be used.
 * @throws CONFIG, CONTAINER_MISSING, ACCESS_DENIED, STORE_UNAVAILABLE, ABORTED
 */
export async function makeContact(options: ContactOptions, signal: AbortSignal): Promise<Contact> {
  checkContainerName(options.containerName);
  const endpoint = parseEndpoint(options.endpoint);
  const contact = { endpoint, region: options.region ?? options.likelyRegion ?? DEFAULT_REGION };
  try {
    return { ...contact, ...(await probe(options, contact, signal)) };
  } catch (error) {
    const region = options.region === null ? expectedRegion(error) : null;
    if (region === null) {
      const { containerName: container, refusalHint, network } = options;
      throw translate(error, {
        endpoint,
        container,
        refusalHint,
        proxy: network?.describeProxy(endpoint) ?? null,
        signal,
      });
    }
    return makeContact({ ...options, region }, signal);
  }
}

async function probe(
  options: ContactOptions,
  contact: Pick<Contact, "endpoint" | "region">,
  signal: AbortSignal,
): Promise<Pick<Contact, "clockOffsetMs" | "answersHaveIds">> {
  const retryForMs = options.contactForMs ?? Math.min(FIRST_CONTACT_MS, options.retryForMs);
  const clients = openClients({ ...options, ...contact, retryForMs });
  try {
    // Not a HEAD: its answer has no body, so a missing container, a wrong region and wrong keys look alike.
    const question = new ListObjectsV2Command({ Bucket: options.containerName, MaxKeys: 1, EncodingType: "url" });
    const ask = async (attempt: number): ReturnType<typeof probe> => {
      const page = await withTimeout(retryForMs + CONTACT_MS, signal, (abortSignal) =>
        clients.client.send(question, { abortSignal }),
      ).catch((error: unknown) => {
        // A server that is no S3 store says the same again. An answer that was damaged on its way, or that a load
        // balancer gave in place of the store, is another then.
        const mayDiffer = isUnparsable(error) || isNoS3Refusal(error);
        throw mayDiffer && attempt < ATTEMPTS ? damagedAnswer(contact.endpoint) : error;
      });
      const answersHaveIds = page.$metadata.requestId !== undefined;
      if (page.Name === options.containerName)
        return { clockOffsetMs: clients.client.config.systemClockOffset, answersHaveIds };
      // Without an S3 store's id it may still be one whose answer was damaged.
      const isForeign = !answersHaveIds && attempt === ATTEMPTS;
      throw isForeign ? notS3(contact.endpoint) : damagedAnswer(contact.endpoint);
    };
    // The SDK has already retried other temporary failures.
    const when = (error: unknown): boolean => error instanceof BackupError && error.retryable;
    return await retry(ask, { forMs: retryForMs, leastAttempts: ATTEMPTS, when }, signal);
  } finally {
    clients.close();
  }
}

function parseEndpoint(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && /^https?:$/.test(url.protocol) && url.username === "" && url.password === "") return url;
  throw new BackupError("CONFIG", "the endpoint is not a URL of the form https://host[:port]", {
    hint: "use --endpoint https://host",
  });
}

function notS3(endpoint: URL): BackupError {
  return new BackupError("CONFIG", `${endpoint.host} does not answer like an S3 API`, {
    hint: "check the endpoint; Swift needs s3api in its proxy's pipeline",
  });
}
