// The table of options: what follows from it agrees with itself and with the reference.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { allOptions, configKeys, describeOption, isOnByDefault } from "../../../src/config/options.ts";

const reference = (name: string): string => readFileSync(new URL(`../../../../src/${name}`, import.meta.url), "utf8");

test("a key of the configuration file stands for one flag", () => {
  for (const option of allOptions) {
    if (option.key !== undefined) assert.equal(configKeys.get(option.key)?.flag, option.flag, option.key);
  }
});

test("a help text has no open place, and names a default that there is", () => {
  for (const option of allOptions) {
    assert.match(describeOption(option), /^[A-Z][^{}]*\.$/, option.flag);
    assert.ok(!isOnByDefault(option) || option.help.includes("(default)"), option.flag);
    const namesDefault = /\{default\}|\b\w+ \(default\) or/.test(option.help);
    assert.equal(namesDefault, typeof option.default === "string", option.flag);
    const takesValue = option.takes === "value" || option.takes === "values";
    assert.equal(option.value !== undefined, takesValue, option.flag);
  }
});

test("the reference names every key of the configuration file", () => {
  const text = reference("config/README.md");
  for (const key of configKeys.keys())
    assert.match(text, new RegExp(`\\b${key.replace(/^(limits|keep)\./, "")}\\b`), key);
});

test("the reference names every flag", () => {
  const text = `${reference("commands/README.md")}${reference("config/README.md")}`;
  const unnamed = allOptions.filter(({ flag }) => !text.includes(flag) && !text.includes(flag.replace("--", "--no-")));
  assert.deepEqual(
    unnamed.map(({ flag }) => flag),
    [],
  );
});
