// Where this program keeps things on this machine.

type Environment = Readonly<Record<string, string | undefined>>;

const PROGRAM = "btrfs-snapshots-to-swift";

/** Where to keep what is worth keeping from one run to the next; null when nobody says where. */
export function stateDirectory(env: Environment): string | null {
  return ownDirectory(env, { ofUnit: "STATE_DIRECTORY", ofUser: "XDG_STATE_HOME", below: ".local/state" });
}

/** Where to keep what saves work and can be lost; null when nobody says where. */
export function cacheDirectory(env: Environment): string | null {
  return ownDirectory(env, { ofUnit: "CACHE_DIRECTORY", ofUser: "XDG_CACHE_HOME", below: ".cache" });
}

interface Names {
  /** By which systemd names a directory that is the unit's own; the first of a list. */
  readonly ofUnit: string;
  readonly ofUser: string;
  /** Of the home directory. */
  readonly below: string;
}

function ownDirectory(env: Environment, { ofUnit, ofUser, below }: Names): string | null {
  const value = (name: string): string | null => env[name] || null;
  const home = value("HOME");
  const base = value(ofUser) ?? (home === null ? null : `${home}/${below}`);
  return value(ofUnit)?.split(":")[0] ?? (base === null ? null : `${base}/${PROGRAM}`);
}
