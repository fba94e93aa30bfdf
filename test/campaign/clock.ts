// Loaded into the program before it starts (node --import): every Date of it is off by CAMPAIGN_CLOCK_MS.
// Clocks that only measure (performance.now, process.hrtime) go right, as they do where a real clock is wrong.

const offsetMs = Number(process.env["CAMPAIGN_CLOCK_MS"] ?? 0);
const rightNow = Date.now.bind(Date);
const wrongNow = (): number => rightNow() + offsetMs;

globalThis.Date = new Proxy(Date, {
  construct: (target, words: readonly unknown[], made) =>
    Reflect.construct(target, words.length === 0 ? [wrongNow()] : words, made) as Date,
  apply: (target) => new target(wrongNow()).toString(),
  get: (target, name, self) => (name === "now" ? wrongNow : (Reflect.get(target, name, self) as unknown)),
});
