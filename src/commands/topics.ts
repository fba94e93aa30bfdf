// The topics of `help TOPIC`: what somebody has to know on the worst day, without a network. The manual page has the
// same sections.

import { exitMeanings } from "../errors.ts";
import type { Section } from "../terminal/manual.ts";
import { topicNames, type TopicName } from "./summaries.ts";
import { configuration, files } from "./topics/config.ts";
import { credentials, environment } from "./topics/credentials.ts";
import { encryption } from "./topics/encryption.ts";
import { format } from "./topics/format.ts";

export const topics: Readonly<Record<TopicName, readonly Section[]>> = {
  credentials: [credentials, environment],
  encryption: [encryption],
  format: [format],
  config: [configuration, files],
};

const exitStatus: Section = {
  title: "Exit status",
  blocks: [
    { terms: Object.entries(exitMeanings).map(([code, meaning]) => ({ term: code, meaning })) },
    "The help of each command lists those that it can end with.",
  ],
};

/** The sections of the manual page that belong to no single command. */
export const manualSections: readonly Section[] = [...topicNames.flatMap((name) => topics[name]), exitStatus];
