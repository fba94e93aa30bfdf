// Declares options of the table to the parser.

import { Option } from "clipanion";
import { describeOption, options, isOnByDefault, type OptionDefinition, type OptionName } from "../config/options.ts";

/** The names of the options that take this. */
type Taking<Takes extends OptionDefinition["takes"]> = {
  [Name in OptionName]: (typeof options)[Name]["takes"] extends Takes ? Name : never;
}[OptionName];

type WithDefault = {
  [Name in OptionName]: (typeof options)[Name] extends { readonly default: string } ? Name : never;
}[OptionName];

/** An option that is on or off. */
export function switchOption(name: Taking<"nothing">): boolean {
  const option = options[name];
  return Option.Boolean(spellingsOf(option), isOnByDefault(option), { description: describeOption(option) });
}

/** A switch that also takes a value after `=`. */
export function switchOrTextOption(name: Taking<"nothing, or =false">): string | boolean {
  const option = options[name];
  return Option.String(option.flag, false, { tolerateBoolean: true, description: describeOption(option) });
}

/** An option that counts how often it is given. */
export function countingOption(name: Taking<"nothing, again">): number {
  const option = options[name];
  return Option.Counter(spellingsOf(option), 0, { description: describeOption(option) });
}

/** An option with a value; undefined when it was not given and has no default. */
export function textOption(name: WithDefault): string;
export function textOption(name: Taking<"value">): string | undefined;
export function textOption(name: Taking<"value">): string | undefined {
  const option = options[name];
  const description = describeOption(option);
  const declared =
    "default" in option
      ? Option.String(option.flag, option.default, { description })
      : Option.String(option.flag, { description });
  return declared;
}

/** An option that can be given several times. */
export function listOption(name: Taking<"values">): string[] {
  const option = options[name];
  return Option.Array(option.flag, [], { description: describeOption(option) });
}

/** `-v,--verbose`, as the parser takes it. */
function spellingsOf({ short, flag }: OptionDefinition): string {
  return short === undefined ? flag : `${short},${flag}`;
}
