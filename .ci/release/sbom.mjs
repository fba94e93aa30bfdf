// What a release consists of, as a CycloneDX document: npm's own, of the lockfile, and what npm does not know of.

import { run } from "./run.mjs";
import { root } from "../layout.mjs";

/** The document for a release, as text. */
export async function makeSbom(release, pins) {
  const words = ["--yes", `npm@${pins.npm}`, "sbom", "--omit=dev", "--package-lock-only", "--sbom-format=cyclonedx"];
  const document = JSON.parse(await run("npx", words, { cwd: root }));
  return `${JSON.stringify(completeSbom(document, release, pins), null, 2)}\n`;
}

/**
 * Adds what is in a release beside npm's packages, and takes out what differs from one run of npm to the next: the
 * time, a random number, and the name of the directory, which npm takes for the program's.
 */
export function completeSbom({ serialNumber: _, ...document }, release, { node, libbtrfsutil }) {
  const { metadata, components } = document;
  const component = { ...metadata.component, name: release.name, type: "application" };
  const timestamp = new Date(release.epoch * 1000).toISOString();
  const more = [...Object.keys(node.integrity).map((each) => nodeComponent(node, each)), library(libbtrfsutil)];
  const dependencies = document.dependencies.map(({ ref, dependsOn }) =>
    ref === component["bom-ref"]
      ? { ref, dependsOn: [...dependsOn, ...more.map((each) => each["bom-ref"])] }
      : { ref, dependsOn },
  );
  return {
    ...document,
    metadata: { ...metadata, timestamp, component },
    components: [...components, ...more],
    dependencies: [...dependencies, ...more.map((each) => ({ ref: each["bom-ref"], dependsOn: [] }))],
  };
}

function nodeComponent({ version, integrity }, architecture) {
  const name = `node-linux-${architecture}`;
  const content = Buffer.from(integrity[architecture].replace("sha512-", ""), "base64").toString("hex");
  return {
    "bom-ref": `${name}@${version}`,
    type: "platform",
    name,
    version,
    purl: `pkg:npm/${name}@${version}`,
    hashes: [{ alg: "SHA-512", content }],
    licenses: [{ license: { id: "MIT" } }],
  };
}

function library(version) {
  return {
    "bom-ref": `libbtrfsutil@${version}`,
    type: "library",
    name: "libbtrfsutil",
    version,
    purl: `pkg:github/kdave/btrfs-progs@v${version}`,
    licenses: [{ license: { id: "LGPL-3.0-or-later" } }],
  };
}
