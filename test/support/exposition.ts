// Prometheus' text format, read as strictly as its own parser does: what is not understood is thrown.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/g;
const SAMPLE = new RegExp(`^(${NAME})(?:\\{((?:${LABEL.source},?)*)\\})? (\\S+)$`);

export function parseExposition(text: string): readonly Sample[] {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const typed = new Set<string>();
  const samples: Sample[] = [];
  for (const line of text.slice(0, -1).split("\n")) {
    const comment = new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`).exec(line);
    if (comment?.[1] === "TYPE") {
      if (typed.has(comment[2] ?? "") || comment[3] !== "gauge") throw new Error(`second or unknown type: ${line}`);
      typed.add(comment[2] ?? "");
    }
    if (comment !== null) continue;
    const [, name = "", labels = "", ...rest] = SAMPLE.exec(line) ?? [];
    const value = Number(rest.at(-1));
    if (!typed.has(name) || (!Number.isFinite(value) && rest.at(-1) !== "NaN"))
      throw new Error(`no sample of a known metric: ${line}`);
    samples.push({ name, labels: parseLabels(labels), value });
  }
  const keys = samples.map(({ name, labels }) => name + JSON.stringify(labels));
  if (new Set(keys).size !== keys.length) throw new Error("a sample stands there twice");
  return samples;
}

function parseLabels(text: string): Record<string, string> {
  const unescape = (value: string): string =>
    value.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char));
  return Object.fromEntries([...text.matchAll(LABEL)].map(([, name = "", value = ""]) => [name, unescape(value)]));
}
