// The directories of this program on this machine.

type Environment = Readonly<Record<string, string | undefined>>;

const PROGRAM = "btrfs-snapshots-to-swift";

/** The directory for data worth keeping from one run to the next; null when nothing names one. */
export function stateDirectory(env: Environment): string | null {
  return ownDirectory(env, { ofUnit: "STATE_DIRECTORY", ofUser: "XDG_STATE_HOME", below: ".local/state" });
}

/** The directory for data that saves work and can be lost; null when nothing names one. */
export function cacheDirectory(env: Environment): string | null {
  return ownDirectory(env, { ofUnit: "CACHE_DIRECTORY", ofUser: "XDG_CACHE_HOME", below: ".cache" });
}

interface Names {
  /** The variable in which systemd names the unit's own directory; the first of a list counts. */
  readonly ofUnit: string;
  readonly ofUser: string;
  /** The path below the home directory. */
  readonly below: string;
}

function ownDirectory(env: Environment, { ofUnit, ofUser, below }: Names): string | null {
  const value = (name: string): string | null => env[name] || null;
  const home = value("HOME");
  const base = value(ofUser) ?? (home === null ? null : `${home}/${below}`);
  return value(ofUnit)?.split(":")[0] ?? (base === null ? null : `${base}/${PROGRAM}`);
}
