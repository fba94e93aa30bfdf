// The ways to write an option on a command line.

/** Returns every way to write an option: `-v,--verbose` is two, and `--no-verbose` a third. */
export function spellings(definition: string): string[] {
  const names = (definition.split(" ")[0] ?? "").split(",");
  return [...names, ...names.filter((name) => name.startsWith("--")).map((name) => name.replace("--", "--no-"))];
}
