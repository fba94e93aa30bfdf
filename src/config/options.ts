// Every option of every command, each defined once: from this table follow what the parser accepts, the help, the manual
// page, the completions, and the keys of the configuration file. An option that means something else to another command
// has an entry of its own there.

/** The definition of an option. */
export interface OptionDefinition {
  readonly flag: `--${string}`;
  readonly short?: `-${string}`;
  /** "nothing, or =false" is `--flag` or `--flag=false`; those that take "nothing, again" mean more when repeated. */
  readonly takes: "nothing" | "nothing, again" | "nothing, or =false" | "value" | "values";
  /** The name of its value in the help, where it takes one. FILE and DIR are paths. */
  readonly value?: string;
  /** Values that completions offer. */
  readonly words?: readonly string[];
  /** Absent: none, or off. */
  readonly default?: string | true;
  /** The heading of the help that it stands under; absent: its command's own options. */
  readonly group?: OptionGroup;
  /** One or two sentences. `{default}` stands for the default. */
  readonly help: string;
  /** Its key in the configuration file; `limits.` stands for a key of that map. */
  readonly key?: string;
  /** Flags with the same or the contrary meaning: beside them, the key does not count. */
  readonly rivals?: readonly string[];
  /** Variables that win over the configuration file. */
  readonly variables?: readonly string[];
  /** True when the variables are of another login, which replaces that of the file. */
  readonly isLogin?: boolean;
  /** True for a value that nobody may see. */
  readonly secret?: boolean;
}

/** The headings of the help, in their order. */
export const optionGroups = [
  "Container and credentials",
  "Keep rules",
  "Encryption and compression",
  "Output and log",
] as const;
export type OptionGroup = (typeof optionGroups)[number];

export const [CONTAINER, KEEP, ENCODING, OUTPUT] = optionGroups;

/** Variables that name a login. */
export const loginVariables = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "OS_AUTH_URL", "OS_CLOUD", "OS_TOKEN", "ST_AUTH"];

const encryption = ["--age-recipient", "--age-recipients-file", "--no-encryption"];

/** In the order in which `config show` prints those that have a key. */
// prettier-ignore
export const options = {
  config: { flag: "--config", takes: "value", value: "FILE", group: CONTAINER,
    help: "The configuration file (else the user's, else the one in /etc)." },
  systemConfig: { flag: "--config", takes: "value", value: "FILE", group: CONTAINER,
    help: "The configuration file (else the one in /etc)." },
  configOfTargets: { flag: "--config", takes: "value", value: "FILE", group: CONTAINER,
    help: "With targets: the configuration file." },
  use: { flag: "--use", takes: "value", value: "NAME", group: CONTAINER,
    help: "The target of the configuration file to use, if it has several." },
  containerName: { flag: "--container-name", takes: "value", value: "NAME", group: CONTAINER, key: "container",
    help: "The container; it must exist." },
  endpoint: { flag: "--endpoint", takes: "value", value: "URL", group: CONTAINER, key: "endpoint",
    variables: ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "OS_STORAGE_URL"],
    help: "URL of the store's S3 API (else AWS_ENDPOINT_URL_S3, else Keystone's catalog)." },
  region: { flag: "--region", takes: "value", value: "NAME", group: CONTAINER, key: "region",
    variables: ["AWS_REGION", "AWS_DEFAULT_REGION"],
    help: "Region of the store (else the one that the store reports)." },
  envFile: { flag: "--env-file", takes: "value", value: "FILE", group: CONTAINER, key: "env-file",
    rivals: ["--os-cloud"], variables: loginVariables, isLogin: true,
    help: "Read AWS_*, OS_* and ST_* from this file, not the environment." },
  osCloud: { flag: "--os-cloud", takes: "value", value: "NAME", group: CONTAINER, key: "os-cloud",
    rivals: ["--env-file"], variables: loginVariables, isLogin: true,
    help: "The cloud of clouds.yaml to use (else OS_CLOUD)." },
  createCredentials: { flag: "--create-credentials", takes: "nothing", default: true, group: CONTAINER,
    key: "create-credentials", help: "Create S3 keys with Keystone if the project has none (default)." },

  ageRecipient: { flag: "--age-recipient", takes: "values", value: "RECIPIENT", group: ENCODING, key: "recipients",
    rivals: encryption, help: "Encrypt for this age recipient. Can be given several times." },
  ageRecipientsFile: { flag: "--age-recipients-file", takes: "values", value: "FILE", group: ENCODING,
    key: "recipients-file", rivals: encryption,
    help: "Encrypt for the recipients in this file. Can be given several times." },
  noEncryption: { flag: "--no-encryption", takes: "nothing", group: ENCODING,
    help: "Store archives unencrypted, and do not warn." },
  requireEncryption: { flag: "--require-encryption", takes: "nothing", group: ENCODING, key: "require-encryption",
    help: "Fail if no recipient is given (also BTRFS_SNAPSHOTS_TO_SWIFT_REQUIRE_ENCRYPTION=yes)." },
  identity: { flag: "--identity", takes: "values", value: "FILE", key: "identity",
    help: "File with an age identity, for encrypted archives. Can be given several times." },
  compress: { flag: "--compress", takes: "value", value: "METHOD", words: ["zstd"], group: ENCODING, key: "compress",
    help: "Compress with zstd, or zstd:LEVEL (1 to 19), where it saves space (default: do not)." },

  keep: { flag: "--keep", takes: "values", value: "RULES|WHAT", group: KEEP, key: "keep",
    help: "Keep rules in short, as in \"24h 30d 8w 24m *y\"; or a snapshot to keep: its key or path." },
  keepLast: { flag: "--keep-last", takes: "value", value: "N", group: KEEP, key: "keep.last",
    help: "Keep the newest N." },
  keepWithin: { flag: "--keep-within", takes: "value", value: "DURATION", group: KEEP, key: "keep.within",
    help: "Keep all that are at most so much older than the newest: 36h, 14d, 8w, 6m or 2y." },
  keepHourly: { flag: "--keep-hourly", takes: "value", value: "N", group: KEEP, key: "keep.hourly",
    help: "Keep the first of each of the last N hours that have one; or all." },
  keepDaily: { flag: "--keep-daily", takes: "value", value: "N", group: KEEP, key: "keep.daily",
    help: "Likewise for days." },
  keepWeekly: { flag: "--keep-weekly", takes: "value", value: "N", group: KEEP, key: "keep.weekly",
    help: "Likewise for weeks, which begin on Monday." },
  keepMonthly: { flag: "--keep-monthly", takes: "value", value: "N", group: KEEP, key: "keep.monthly",
    help: "Likewise for months." },
  keepYearly: { flag: "--keep-yearly", takes: "value", value: "N", group: KEEP, key: "keep.yearly",
    help: "Likewise for years." },
  fullEvery: { flag: "--full-every", takes: "value", value: "DURATION", group: KEEP, key: "limits.full-every",
    help: "Start a new chain when the full archive of the last one is so old: 14d, 8w, 6m or 2y." },
  maxChain: { flag: "--max-chain", takes: "value", value: "N", group: KEEP, key: "limits.max-chain",
    help: "Build no chain of more than N archives." },

  days: { flag: "--days", takes: "value", value: "N",
    help: "Look at N days, up to 3650 (365 without --history; else as long as the history)." },
  history: { flag: "--history", takes: "value", value: "FILE",
    help: "Read the sizes of snapshots from this file, or from stdin (-), instead of from PATH." },
  keepLocal: { flag: "--keep-local", takes: "value", value: "RULES",
    help: "The rules by which this machine thins out its own snapshots, as in \"14d 6m\" (else the same as the container)." },

  workDir: { flag: "--work-dir", takes: "value", value: "DIR", key: "work-dir",
    help: "Spool each stream in this directory before it is sent." },
  scratchDir: { flag: "--work-dir", takes: "value", value: "DIR", key: "work-dir",
    help: "Directory for the scratch filesystem (else the temporary directory)." },
  fileDir: { flag: "--work-dir", takes: "value", value: "DIR", key: "work-dir", help: "Put the file together in this directory (else TMPDIR, or /var/tmp)." },
  received: { flag: "--received", takes: "nothing", key: "received",
    help: "PATH is a backup disk, or a directory on it, with snapshots that were received there." },
  sendProto: { flag: "--send-proto", takes: "value", value: "VERSION", words: ["1", "2"], key: "send-proto",
    help: "Version of the btrfs send protocol: 1 or 2 (default: the newest that this machine supports)." },
  waitLock: { flag: "--wait-lock", takes: "value", value: "DURATION", key: "wait-lock",
    help: "Wait this long for another run on the same subvolume and container (default: fail at once)." },
  metricsFile: { flag: "--metrics-file", takes: "value", value: "FILE", key: "metrics-file",
    help: "Write metrics to this file, for node_exporter's textfile collector." },
  pingUrl: { flag: "--ping-url", takes: "value", value: "URL", key: "ping-url", secret: true,
    help: "Ping a healthcheck service: URL/start, then URL, or URL/CODE after a failure." },
  memory: { flag: "--memory", takes: "value", value: "SIZE", default: "512Mi", key: "limits.memory",
    help: "Use at most this much memory for parts (default {default})." },
  concurrency: { flag: "--concurrency", takes: "value", value: "N", default: "4", key: "limits.concurrency",
    help: "Send at most this many parts at once (default {default}); fewer on a slow line." },
  connections: { flag: "--concurrency", takes: "value", value: "N", default: "4", key: "limits.concurrency",
    help: "Read an archive over at most this many connections (default {default})." },
  limitUpload: { flag: "--limit-upload", takes: "value", value: "SIZE", key: "limits.upload",
    help: "Send at most this many bytes per second, such as 8Mi." },
  volumeSize: { flag: "--volume-size", takes: "value", value: "SIZE", key: "limits.volume-size",
    help: "Split longer streams into objects of this size (default: only if one object cannot hold them)." },
  retryFor: { flag: "--retry-for", takes: "value", value: "DURATION", default: "15m", key: "limits.retry-for",
    help: "Retry for this long while the store is unreachable (default {default})." },
  // Younger leftovers may belong to a run on another machine that is still active.
  leftoverAge: { flag: "--leftover-age", takes: "value", value: "DURATION", default: "24h", key: "limits.leftover-age",
    help: "Remove leftovers of interrupted runs once they are this old (default {default})." },
  leastLeftoverAge: { flag: "--leftover-age", takes: "value", value: "DURATION", default: "24h",
    key: "limits.leftover-age",
    help: "With --remove-leftovers: only those at least this old (default {default}); younger ones may belong to a run elsewhere." },

  cache: { flag: "--cache", takes: "nothing", default: true,
    help: "Use and keep a cache of what is known about archives (default)." },
  testRun: { flag: "--dry-run", takes: "nothing",
    help: "Create and check every stream, but store nothing; reads all data." },
  plan: { flag: "--plan", short: "-n", takes: "nothing",
    help: "Show what would be sent, and stop; reads no file data." },
  estimate: { flag: "--estimate", takes: "nothing", default: true, help: "Estimate the size of each stream first (default)." },
  yes: { flag: "--yes", short: "-y", takes: "nothing", help: "Do not ask for confirmation." },
  resume: { flag: "--resume", takes: "nothing", default: true, help: "Resume interrupted uploads (default)." },
  full: { flag: "--full", takes: "nothing", help: "Start a new chain with a full stream." },
  rearchive: { flag: "--rearchive", takes: "nothing",
    help: "Send again what is archived under another name because snapshots were moved or renamed." },
  allowEmpty: { flag: "--allow-empty", takes: "nothing", help: "Do not fail if a subvolume has no read-only snapshots." },
  flat: { flag: "--flat", takes: "nothing", help: "List by age instead of as a tree." },

  target: { flag: "--target", takes: "value", value: "DIR", help: "Restore into this directory; it must be on btrfs." },
  latest: { flag: "--latest", takes: "nothing", help: "Restore the newest snapshot of the subvolume WHAT." },
  at: { flag: "--at", takes: "value", value: "DATE",
    help: "Restore the newest snapshot taken no later than DATE; a day means its end." },
  only: { flag: "--only", takes: "nothing",
    help: "Keep only the requested snapshot: at the end, remove those it builds on. With --stdout: only its stream." },
  writable: { flag: "--writable", takes: "value", value: "NAME",
    help: "Make a writable snapshot of the result, as DIR/NAME." },
  forceDecompress: { flag: "--force-decompress", takes: "nothing",
    help: "Store what was compressed uncompressed, so that no error of the disk can be missed; needs btrfs-progs 6.2." },
  stdout: { flag: "--stdout", takes: "nothing",
    help: "Write the send streams of the chain to stdout, for `btrfs receive` elsewhere." },
  showChain: { flag: "--dry-run", short: "-n", takes: "nothing",
    help: "Show the chain and the sizes, and stop; with --target also what is already there, and whether room is short." },

  long: { flag: "--long", short: "-l", takes: "nothing", help: "Show modes, owners, sizes and times." },
  recursive: { flag: "--recursive", short: "-R", takes: "nothing", help: "Show also what is in the directories below." },
  ncdu: { flag: "--ncdu", takes: "nothing", help: "Print what `ncdu -f -` reads: everything below DIR." },
  latestToShow: { flag: "--latest", takes: "nothing", help: "The newest snapshot of the subvolume ARCHIVE." },
  atToShow: { flag: "--at", takes: "value", value: "DATE",
    help: "The newest snapshot taken no later than DATE; a day means its end." },
  ignoreCase: { flag: "--ignore-case", short: "-i", takes: "nothing", help: "Let small letters match capitals." },
  archive: { flag: "--archive", takes: "value", value: "WHAT", help: "Look only into this archive: its path, key or UUID, or latest." },
  source: { flag: "--source", takes: "value", value: "NAME", help: "Look into the archives of this subvolume: what `restore --latest` takes." },
  oldest: { flag: "--oldest", takes: "value", value: "DATE", help: "Leave out files that were changed before this date." },
  newest: { flag: "--newest", takes: "value", value: "DATE", help: "Leave out files that were changed after this date." },
  metadata: { flag: "--metadata", takes: "nothing", help: "Show also files of which only attributes differ." },

  readData: { flag: "--read-data", takes: "nothing", help: "Read every archive to its end." },
  readDataSubset: { flag: "--read-data-subset", takes: "value", value: "PART", words: ["latest"],
    help: "Read a subset: 10% (random), 3/7 (the third of seven groups), or latest (with its chain)." },
  againstLocal: { flag: "--against-local", takes: "nothing",
    help: "Compare archives with what btrfs send produces now from the snapshots of PATH; restore deduplicated ones to compare them." },
  drill: { flag: "--drill", takes: "nothing",
    help: "Restore the newest archive of PATH whose snapshot is still here into a scratch filesystem, and compare." },
  removeLeftovers: { flag: "--remove-leftovers", takes: "nothing",
    help: "Remove leftovers of interrupted runs, even those that a sync would resume." },
  showReads: { flag: "--dry-run", short: "-n", takes: "nothing",
    help: "Make the quick checks, show what else would be read and removed, and stop." },

  confirm: { flag: "--confirm", takes: "nothing", help: "Delete what the plan shows, without a question." },
  showPrune: { flag: "--dry-run", short: "-n", takes: "nothing", help: "Show the plan, and delete nothing." },
  leftovers: { flag: "--leftovers", takes: "nothing",
    help: "Delete leftovers of interrupted runs, even those that a sync would resume, and no archive." },
  leftoverAgeToPrune: { flag: "--leftover-age", takes: "value", value: "DURATION", default: "24h",
    key: "limits.leftover-age",
    help: "Only leftovers this old (default {default}); younger ones may belong to a run elsewhere." },

  directory: { flag: "--directory", takes: "value", value: "DIR", default: "/etc/systemd/system",
    help: "Write the files to this directory (default {default})." },
  printOnly: { flag: "--dry-run", short: "-n", takes: "nothing", help: "Print the files and write nothing." },

  json: { flag: "--json", takes: "nothing", group: OUTPUT, help: "Print the result as JSON." },
  quiet: { flag: "--quiet", short: "-q", takes: "nothing", group: OUTPUT,
    help: "Print only errors, warnings, and requested results." },
  verbose: { flag: "--verbose", short: "-v", takes: "nothing, again", group: OUTPUT,
    help: "Log more; -vv: each request to the store." },
  progress: { flag: "--progress", takes: "nothing", default: true, group: OUTPUT,
    help: "Show progress: a status line, or without a terminal a log line every 30 s (default)." },
  logFormat: { flag: "--log-format", takes: "value", value: "FORMAT", default: "text", words: ["text", "json"],
    group: OUTPUT, help: "Format of the log on stderr: text (default) or json." },
  syslog: { flag: "--syslog", takes: "nothing, or =false", group: OUTPUT,
    help: "Log to the local syslog instead of stderr (off: `--syslog=false`)." },
} as const satisfies Readonly<Record<string, OptionDefinition>>;

export type OptionName = keyof typeof options;

/** Every definition, without its name. */
export const allOptions: readonly OptionDefinition[] = Object.values<OptionDefinition>(options);

/** The keys of the configuration file, each with its option. */
export const configKeys: ReadonlyMap<string, OptionDefinition> = new Map(
  allOptions.flatMap((option, at) => {
    const { key } = option;
    const isFirst = allOptions.findIndex((each) => each.key === key) === at;
    return key === undefined || !isFirst ? [] : [[key, option] as const];
  }),
);

/** Describes an option for the help, with its default. */
export function describeOption({ help, default: usual }: OptionDefinition): string {
  return typeof usual === "string" ? help.replace("{default}", usual) : help;
}

/** True for a switch that is on unless `--no-…` is given. */
export function isOnByDefault(option: OptionDefinition): boolean {
  return option.default === true;
}

/** True where the value of an option is a path. */
export function takesPath({ value }: OptionDefinition): boolean {
  return value === "FILE" || value === "DIR";
}
