// The reference beside the commands, and the README: each command is there, as its own help describes it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { registry } from "../../../src/commands/registry.ts";
import { describeCommand } from "../../../src/commands/usage.ts";

const NAME = "btrfs-snapshots-to-swift";
const read = (name: string): string => readFileSync(new URL(`../../../../${name}`, import.meta.url), "utf8");
const README = read("README.md");
const REFERENCE = read("src/commands/README.md");

/** The sections of the reference that have another title than their command. */
const TITLES: Readonly<Record<string, string>> = {
  pin: "pin and unpin",
  unpin: "pin and unpin",
  "install-units": "Every night",
};

/** Before the first section: what several commands share. */
const INTRODUCTION = REFERENCE.split(/^## /m)[0] ?? "";

function sectionOf(command: string): string {
  const title = TITLES[command] ?? command;
  return REFERENCE.split(/^## /m).find((section) => section.startsWith(`${title}\n`)) ?? "";
}

describe("the reference and the README", () => {
  for (const { name, load } of registry) {
    test(`${name} has a section that names its words and its own options, and the README names it`, async () => {
      const { words, isDefault, options } = describeCommand(await load(), NAME);
      const section = sectionOf(name);
      const usage = [NAME, isDefault ? `[${name}]` : name, words].filter((word) => word !== "").join(" ");
      // Options with their values follow, or the end of the code.
      assert.match(section, new RegExp(`\`(sudo )?${usage.replace(/[[\].]/g, "\\$&")}[\` ](?!\\[?[A-Z]+\\b)`), usage);
      // `config show` takes all options of sync.
      const own = name === "config show" ? [] : options.filter(({ group }) => group === null);
      const names = own.flatMap(({ name: flag, short, negatable }) => [
        negatable ? flag.replace("--", "--no-") : flag,
        ...(short === null ? [] : [short]),
      ]);
      const text = `${INTRODUCTION}${section}`;
      assert.deepEqual(
        names.filter((each) => !new RegExp(`${each}(?![\\w-])`).test(text)),
        [],
      );
      assert.match(README, new RegExp(`\`${name}[\` ]|${NAME} ${name}\\b`));
    });
  }
});
