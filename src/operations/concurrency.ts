// Work on many items, several at once.

/**
 * The results of `work` for each item, in their order. At most `concurrency` run at a time; the first failure is the
 * outcome.
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  concurrency: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: { readonly index: number; readonly result: Result }[] = [];
  await forEachConcurrently([...items.entries()], concurrency, async ([index, item]) => {
    results.push({ index, result: await work(item) });
  });
  return results.sort((a, b) => a.index - b.index).map(({ result }) => result);
}

/** Runs `work` for every item, at most `concurrency` at a time; the first failure is the outcome. */
export async function forEachConcurrently<Item>(
  items: readonly Item[],
  concurrency: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
}
