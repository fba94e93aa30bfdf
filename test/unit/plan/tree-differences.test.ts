// The meaning of differences between trees for the archive.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { TreeDifference } from "../../../src/plan/model.ts";
import { compareTrees, isMadeByReceive } from "../../../src/plan/tree-differences.ts";
import { archiveOf, snapshot } from "../../support/builders.ts";
import { describeTrees } from "../../../src/operations/drill.ts";
import { judge } from "../../../src/plan/damage.ts";

const cases: readonly (readonly [
  changes: string,
  isMade: boolean,
  modes?: readonly [number, number] | null,
  name?: string,
])[] = [
  [".f.......a.", true],
  [".d.......ax", true],
  [".f........x", true],
  [".f...p.....", true, [0o104755, 0o100755]],
  [".f...p...a.", true, [0o106755, 0o100755]],
  [".f...p.....", false, [0o104755, 0o100754]],
  [".f...p.....", false, [0o100600, 0o100644]],
  [".f...p.....", false],
  [".f....o....", false],
  [".f..t....a.", false],
  [".d..t....a.", true, null, "./"],
  [".f.s.....a.", false],
  [">fc........", false],
  [">f+++++++++", false],
  ["cd+++++++++", false],
  ["hf.......a.", false],
  ["*deleting  ", false],
];

for (const [changes, isMade, modes = null, name = "file"] of cases) {
  const of = modes === null ? "" : ` of ${modes.map((mode) => mode.toString(8)).join(" and ")}`;
  test(`${JSON.stringify(changes)}${of} is ${isMade ? "made by receive" : "another content"}`, () => {
    assert.equal(isMadeByReceive({ changes, name, modes }), isMade);
  });
}

const stored = archiveOf(snapshot(1), null);
const acl: TreeDifference = { changes: ".f.......a.", name: "old", modes: null };
const content: TreeDifference = { changes: ">fc........", name: "new", modes: null };

test("a drill warns about what receive made differently, and does not advise to delete anything", () => {
  const findings = describeTrees(stored, compareTrees([acl]), [stored]);
  assert.deepEqual(
    findings.map(({ code, severity, breaks }) => [code, severity, breaks]),
    [["RECEIVED_OTHERWISE", "warning", []]],
  );
  assert.equal(judge(findings), "well");
  assert.match(findings[0]?.message ?? "", /1 difference \(\.f\.{7}a\. old\)/);
  assert.doesNotMatch(JSON.stringify(findings), /delete|damaged/);
});

test("a drill reports an archive with different contents as damaged, whatever else differs", () => {
  const findings = describeTrees(stored, compareTrees([acl, content]), [stored]);
  assert.deepEqual(
    findings.map(({ code, severity }) => [code, severity]),
    [["ARCHIVE_DAMAGED", "error"]],
  );
  assert.match(findings[0]?.message ?? "", /1 difference \(>fc/);
});
