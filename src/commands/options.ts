// Declares options of the table to the parser.

import { Option, type CommandClass } from "clipanion";
import { describeOption, options, isOnByDefault, type OptionDefinition, type OptionName } from "../config/options.ts";
import type { Context } from "./session.ts";

/** The names of the options that take this. */
type Taking<Takes extends OptionDefinition["takes"]> = {
  [Name in OptionName]: (typeof options)[Name]["takes"] extends Takes ? Name : never;
}[OptionName];

type WithDefault = {
  [Name in OptionName]: (typeof options)[Name] extends { readonly default: string } ? Name : never;
}[OptionName];

/** The declaration of an option for the parser, and the definition that it was made of. */
const declared = new WeakMap<object, OptionDefinition>();

function declare<Spec>(option: OptionDefinition, spec: Spec): Spec {
  if (typeof spec === "object" && spec !== null) declared.set(spec, option);
  return spec;
}

/** The definitions of the options that a command declares, in their order. */
export function optionsOf(type: CommandClass<Context>): readonly OptionDefinition[] {
  const command: object = new type();
  const fields: readonly unknown[] = Object.values(command);
  return fields.flatMap((field) => (typeof field === "object" && field !== null ? (declared.get(field) ?? []) : []));
}

/** An option that is on or off. */
export function switchOption(name: Taking<"nothing">): boolean {
  const option = options[name];
  const description = describeOption(option);
  return declare(option, Option.Boolean(spellingsOf(option), isOnByDefault(option), { description }));
}

/** A switch that also takes a value after `=`. */
export function switchOrTextOption(name: Taking<"nothing, or =false">): string | boolean {
  const option = options[name];
  const description = describeOption(option);
  return declare(option, Option.String(option.flag, false, { tolerateBoolean: true, description }));
}

/** An option that counts how often it is given. */
export function countingOption(name: Taking<"nothing, again">): number {
  const option = options[name];
  return declare(option, Option.Counter(spellingsOf(option), 0, { description: describeOption(option) }));
}

/** An option with a value; undefined when it was not given and has no default. */
export function textOption(name: WithDefault): string;
export function textOption(name: Taking<"value">): string | undefined;
export function textOption(name: Taking<"value">): string | undefined {
  const option = options[name];
  const description = describeOption(option);
  const spec =
    "default" in option
      ? Option.String(option.flag, option.default, { description })
      : Option.String(option.flag, { description });
  return declare(option, spec);
}

/** An option that can be given several times. */
export function listOption(name: Taking<"values">): string[] {
  const option = options[name];
  return declare(option, Option.Array(option.flag, [], { description: describeOption(option) }));
}

/** `-v,--verbose`, as the parser takes it. */
function spellingsOf({ short, flag }: OptionDefinition): string {
  return short === undefined ? flag : `${short},${flag}`;
}
