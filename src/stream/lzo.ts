// Decompresses LZO1X, as the kernel writes it into the extents of btrfs. It reads no byte beyond what it is given, and
// writes none beyond the room it has, whatever the data say.

/** Distances that each kind of match begins to count at. */
const FAR = 0x4000;
const MIDDLE = 0x801;

/**
 * Decompresses one block into `target`, from `at` on, up to `limit`. Returns where its bytes end.
 * @throws Error when it is damaged
 */
export function decompressLzo(
  source: Uint8Array,
  target: Uint8Array,
  { at, limit }: { readonly at: number; readonly limit: number },
): number {
  const block = new Block(source, target, at, limit);
  block.decompress();
  return block.end;
}

class Block {
  readonly #source: Uint8Array;
  readonly #target: Uint8Array;
  readonly #start: number;
  readonly #limit: number;
  #from = 0;
  /** Where the next byte goes. */
  end: number;

  constructor(source: Uint8Array, target: Uint8Array, start: number, limit: number) {
    this.#source = source;
    this.#target = target;
    this.#start = this.end = start;
    this.#limit = Math.min(limit, target.length);
  }

  decompress(): void {
    let literals = this.#begin();
    for (;;) {
      const code = this.#byte();
      if (code < 16 && literals === 0) {
        this.#copyLiterals(3 + this.#length(code, 15));
        literals = 4;
        continue;
      }
      const next = this.#copyMatch(code, literals);
      if (next === null) break;
      literals = next;
      this.#copyLiterals(literals);
    }
    if (this.#from !== this.#source.length) throw new Error("LZO data go on behind their end");
  }

  /** The first byte can stand for literals of its own. Returns how many the next code follows; 4 = four or more. */
  #begin(): number {
    const code = this.#source[0] ?? 0;
    if (code <= 17) return 0;
    this.#from = 1;
    this.#copyLiterals(code - 17);
    return Math.min(code - 17, 4);
  }

  /** Copies what was there before. Returns how many literals follow; null at the end of the data. */
  #copyMatch(code: number, literals: number): number | null {
    if (code >= 64) {
      const length = (code >> 5) + 1;
      return this.#copy(length, ((code >> 2) & 7) + (this.#byte() << 3) + 1, code & 3);
    }
    if (code >= 32) {
      const length = 2 + this.#length(code & 31, 31);
      const word = this.#word();
      return this.#copy(length, (word >> 2) + 1, word & 3);
    }
    if (code >= 16) {
      const length = 2 + this.#length(code & 7, 7);
      const word = this.#word();
      const distance = ((code & 8) << 11) + (word >> 2);
      if (distance > 0) return this.#copy(length, distance + FAR, word & 3);
      if (length !== 3) throw new Error("LZO data end in a wrong way");
      return null;
    }
    const distance = (code >> 2) + (this.#byte() << 2);
    return literals === 4 ? this.#copy(3, distance + MIDDLE, code & 3) : this.#copy(2, distance + 1, code & 3);
  }

  #byte(): number {
    const byte = this.#source[this.#from++];
    if (byte === undefined) throw new Error("LZO data are cut off");
    return byte;
  }

  #word(): number {
    return this.#byte() + (this.#byte() << 8);
  }

  /** A length that does not fit into its code goes on in bytes: zeros, which count 255 each, and one that is none. */
  #length(inCode: number, most: number): number {
    if (inCode > 0) return inCode;
    let length = most;
    for (;;) {
      const byte = this.#byte();
      if (byte > 0) return length + byte;
      length += 255;
    }
  }

  #copyLiterals(count: number): void {
    if (count > this.#source.length - this.#from) throw new Error("LZO data are cut off");
    this.#assertRoom(count);
    this.#target.set(this.#source.subarray(this.#from, this.#from + count), this.end);
    this.#from += count;
    this.end += count;
  }

  /** Byte by byte, because what is copied may overlap with where it goes. Returns `literals`. */
  #copy(length: number, distance: number, literals: number): number {
    if (distance > this.end - this.#start) throw new Error("LZO data refer to what is not there");
    this.#assertRoom(length);
    const target = this.#target;
    const stop = this.end + length;
    for (let to = this.end; to < stop; to++) target[to] = target[to - distance] ?? 0;
    this.end = stop;
    return literals;
  }

  #assertRoom(count: number): void {
    if (count > this.#limit - this.end) throw new Error("LZO data hold more than they should");
  }
}
