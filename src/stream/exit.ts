// How a program ended that did not do its work: facts to decide by. The sentence about them is made last.

/** A fault of a program that no exit status shows. */
export type Fault =
  "left its output open" | "left its input unread" | "began its output otherwise" | "ended before it began";

export interface Exit {
  readonly program: string;
  /** Its exit status; null when it was killed, or when it is to blame for a fault. */
  readonly status: number | null;
  /** The signal that killed it. */
  readonly signal: NodeJS.Signals | null;
  readonly fault: Fault | null;
  /** The last of what it wrote to its standard error, trimmed; empty when it wrote nothing. */
  readonly stderr: string;
}

export function faultOf({ program }: { readonly program: string }, fault: Fault, stderr = ""): Exit {
  return { program, status: null, signal: null, fault, stderr };
}

/** Completes a sentence that begins with the program: "exited with status 1", "was killed by SIGKILL". */
export function describeExit({ program, status, signal, fault }: Exit): string {
  switch (fault) {
    case "left its output open":
      return "exited, but left a process behind that holds its output open";
    case "left its input unread":
      return "did not read all of its input";
    case "began its output otherwise":
      return `wrote what does not begin like the output of ${program}`;
    case "ended before it began":
      return "ended at once";
    case null:
      return status === null ? `was killed by ${signal ?? "a signal"}` : `exited with status ${status}`;
  }
}
