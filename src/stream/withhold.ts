// Withholds the end of a stream until all of it has been checked. A reader that acts on the last bytes, as `btrfs receive`
// seals a subvolume on the END command, never sees the last bytes of a bad stream.

/** Holds back the last bytes, in a copy: the memory of a piece is its owner's again when the next one comes. */
export class Withheld {
  readonly #bytes: number;
  #tail: Buffer = Buffer.alloc(0);

  /** @param bytes - how many; 0 = nothing is held back */
  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** Takes the next piece. Returns the pieces that may be passed on now. */
  push(piece: Buffer): Buffer[] {
    const ready = Math.max(0, this.#tail.length + piece.length - this.#bytes);
    const ofTail = this.#tail.subarray(0, ready);
    const ofPiece = piece.subarray(0, ready - ofTail.length);
    this.#tail = Buffer.concat([this.#tail.subarray(ofTail.length), piece.subarray(ofPiece.length)]);
    return [ofTail, ofPiece].filter(({ length }) => length > 0);
  }

  /** Returns the rest, to be passed on when all has been found right. */
  release(): Buffer[] {
    const rest = this.#tail;
    this.#tail = rest.subarray(rest.length);
    return rest.length === 0 ? [] : [rest];
  }
}

/** Looks at what passes. */
export interface Check {
  /** Is shown every piece before it is passed on. */
  update(piece: Buffer): void;
  /** @throws an error when it was not all, or not right */
  finish(): Promise<void> | void;
}

/** The pieces, their last bytes only when the check has found all of them right. @throws as the check */
export async function* withhold(pieces: AsyncIterable<Buffer>, bytes: number, check: Check): AsyncGenerator<Buffer> {
  const withheld = new Withheld(bytes);
  for await (const piece of pieces) {
    check.update(piece);
    yield* withheld.push(piece);
  }
  await check.finish();
  yield* withheld.release();
}
