// Withholds the end of a stream until all of it has been checked. A reader that acts on the last bytes, as `btrfs receive`
// seals a subvolume on the END command, never sees the last bytes of a bad stream.

/** Holds back at least so many of the last bytes; pieces stay as they come. 1 = the last piece, 0 = nothing. */
export class Withheld {
  readonly #leastBytes: number;
  readonly #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(leastBytes: number) {
    this.#leastBytes = leastBytes;
  }

  /** Takes the next piece. Returns the pieces that may be passed on now. */
  push(piece: Buffer): Buffer[] {
    if (piece.length === 0) return [];
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    const ready: Buffer[] = [];
    for (const first of this.#pieces) {
      if (this.#bytes - first.length < this.#leastBytes) break;
      this.#bytes -= first.length;
      ready.push(first);
    }
    this.#pieces.splice(0, ready.length);
    return ready;
  }

  /** Returns the rest, to be passed on when all has been found right. */
  release(): Buffer[] {
    this.#bytes = 0;
    return this.#pieces.splice(0);
  }
}

/** Looks at what passes. */
export interface Check {
  /** Is shown every piece before it is passed on. */
  update(piece: Buffer): void;
  /** @throws an error when it was not all, or not right */
  finish(): Promise<void> | void;
}

/** The pieces, the last of them only when the check has found all of them right. @throws as the check */
export async function* withhold(
  pieces: AsyncIterable<Buffer>,
  leastBytes: number,
  check: Check,
): AsyncGenerator<Buffer> {
  const withheld = new Withheld(leastBytes);
  for await (const piece of pieces) {
    check.update(piece);
    yield* withheld.push(piece);
  }
  await check.finish();
  yield* withheld.release();
}
