// The README as a newcomer reads it: its commands, in its order and as they stand there, typed by a user with sudo into
// a bare Debian 13 that has only what the README installs. Where the README has a placeholder, a table here has a
// value; a block of the README that the table does not know fails the walk.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { openCloud, type Cloud } from "../support/keystone.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { compareTrees, makeTree } from "../support/tree.ts";
import { runInRoot, type Bench, type Entered } from "./roots.ts";

const MiB = 2 ** 20;
const REGION = "RegionOne";
/** The password is one that a shell would break without quotes. */
const USER = { name: "me", password: "secret of the $walk #1" };

/** Where the clone is, in the root. It belongs to root. */
const CLONE = "/opt/btrfs-snapshots-to-swift";

/** As the README names it. */
const IDENTITY = "/root/identity.txt";

interface Walk {
  /** The command that the user types in the clone. */
  type(script: string): Promise<string>;
  readonly cloud: Cloud;
  readonly disk: Loopback;
  /** An empty filesystem, mounted at /mnt. */
  readonly other: Loopback;
  /** And one that is not mounted, and has no filesystem any more. */
  readonly newDisk: Loopback;
}

interface Block {
  /** A line of it. */
  readonly has: string;
  play(text: string, walk: Walk): Promise<void>;
}

/** In the README's order. */
const BLOCKS: readonly Block[] = [
  {
    has: "sudo apt-get install git btrfs-progs",
    // Nobody is there to confirm, and the clone exists already.
    play: async (text, { type }) => {
      const clone = [/^sudo git clone .* && cd .*$/m, "git --version"] as const;
      await type(fill(text, [["apt-get install ", "apt-get install --yes "], clone]));
    },
  },
  { has: "OS_AUTH_URL=", play: writeLogin },
  { has: "swift post backup", play: tryQuickStart },
  { has: "sync /home -n ", play: leaveOut },
  { has: "age-keygen -o /root/identity.txt", play: tryEncryption },
  { has: "targets:", play: tryConfiguration },
  { has: " * * * root ", play: tryCron },
  { has: "mkfs.btrfs /dev/NEW-DISK", play: tryLostDisk },
  { has: "metadata() {", play: restoreByHand },
];

/** Plays the whole README in a root with nothing in it; null, or what failed. */
export async function walkReadme(bench: Bench, root: string): Promise<string | null> {
  const texts = await Promise.all(["README.md", "src/plan/FORMAT.md"].map((file) => readFile(file, "utf8")));
  // Examples of output are marked as text.
  const blocks = [...texts.join("").matchAll(/^```(?!text)\w*\n([^]*?)^```$/gm)].map(([, text = ""]) => text);
  await prepareRoot(bench, root);
  return await withWalk(bench, root, async (walk) => {
    for (const [index, text] of blocks.entries()) {
      const block = BLOCKS[index];
      try {
        assert.ok(block !== undefined && text.includes(block.has), `a block that nobody has walked:\n${text}`);
        await block.play(text, walk);
      } catch (error) {
        const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
        const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
        console.error(`README, block ${index + 1}: ${message}\n${stdout}\n${stderr}`);
        return `block ${index + 1}: ${text.split("\n", 1)[0] ?? ""}`;
      }
    }
    return blocks.length === BLOCKS.length ? null : `${blocks.length} blocks of ${BLOCKS.length}`;
  });
}

/** A user with sudo, and root's clone: this checkout without what git ignores. */
async function prepareRoot(bench: Bench, root: string): Promise<void> {
  await runInRoot(
    bench,
    { root },
    `
    useradd --create-home --home-dir /opt/me --shell /bin/sh me
    echo 'me ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/me
    echo "127.0.0.1 localhost $(cat /proc/sys/kernel/hostname)" >/etc/hosts
    # How this machine reaches the registries; a newcomer's reaches them as it is.
    for home in /root /opt/me; do
      printf 'registry=%s\\n' "$npm_config_registry" >$home/.npmrc
      [ -z "$NODE_EXTRA_CA_CERTS" ] || printf 'cafile=/certificates.pem\\n' >>$home/.npmrc
    done
    # Nobody needs this root after a crash.
    echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/fast
    mkdir ${CLONE}`,
  );
  const target = join(root, CLONE);
  await run(
    "sh",
    "-c",
    'git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$1"',
    "sh",
    target,
  );
  await runInRoot(bench, { root }, `chown -R root: ${CLONE}`);
}

async function withWalk(
  bench: Bench,
  root: string,
  use: (walk: Walk) => Promise<string | null>,
): Promise<string | null> {
  const opened: { close(): Promise<void> }[] = [];
  const open = async <T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> => {
    const one = await opening;
    opened.unshift(one);
    return one;
  };
  try {
    const cloud = await open(openCloud(REGION));
    const [disk, other, newDisk] = [await open(openDisk()), await open(openDisk()), await open(openDisk())];
    for (const name of ["@home", "@srv"]) await btrfs("subvolume", "create", join(disk.mountPoint, name));
    await makeTree(join(disk.mountPoint, "@home/data"), { seed: 1, files: 20, bytes: 4 * MiB });
    const mounts: NonNullable<Entered["mounts"]> = [
      [await disk.mount("subvol=@home"), "/home"],
      [await disk.mount("subvol=@srv"), "/srv"],
      [other.mountPoint, "/mnt"],
    ];
    await cloud.keystone.addUser(USER.name, USER.password, { [cloud.project]: "member" });
    const type = async (script: string): Promise<string> => {
      const typed = `exec runuser -u me -- env HOME=/opt/me sh -exc 'cd ${CLONE}; eval "$TYPED"'`;
      const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TYPED: script };
      return await runInRoot(bench, { root, mounts, environment }, typed);
    };
    return await use({ type, cloud, disk, other, newDisk });
  } finally {
    for (const one of opened) await one.close();
  }
}

const openDisk = (): Promise<Loopback> => openLoopback({ sizeBytes: 512 * MiB });

/** Puts values in the place of the README's. Each of them must be there. */
function fill(text: string, values: readonly (readonly [from: string | RegExp, to: string])[]): string {
  return values.reduce((filled, [from, to]) => {
    assert.ok(
      typeof from === "string" ? filled.includes(from) : from.test(filled),
      `${String(from)} is not in\n${filled}`,
    );
    return typeof from === "string" ? filled.replaceAll(from, to) : filled.replace(from, () => to);
  }, text);
}

/** As one word of sh. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Examples of options, which need the configuration file that comes later; the integration tests hold them. */
async function leaveOut(): Promise<void> {
  return Promise.resolve();
}

async function writeLogin(text: string, { type, cloud }: Walk): Promise<void> {
  const filled = fill(text, [
    [/^OS_AUTH_URL=.*$/m, `OS_AUTH_URL=${cloud.keystone.authUrl}`],
    [/^OS_USERNAME=…$/m, `OS_USERNAME=${USER.name}`],
    [/^OS_PASSWORD='…'$/m, `OS_PASSWORD='${USER.password}'`],
    [/^OS_PROJECT_NAME=…$/m, "OS_PROJECT_NAME=demo"],
    [/^OS_REGION_NAME=…$/m, `OS_REGION_NAME=${REGION}`],
  ]);
  await type(`printf %s ${quote(filled)} | sudo sh -c 'umask 077; cat >/root/backup.env'`);
}

async function tryQuickStart(text: string, walk: Walk): Promise<void> {
  await walk.type(text);
  await assertEqual(walk, "first", join(walk.other.mountPoint, "restored/@home/first"));
}

/** Checks that the restored tree is the archived one. */
async function assertEqual({ disk }: Walk, snapshot: string, restored: string): Promise<void> {
  const { differences } = await compareTrees(join(disk.mountPoint, "@home", snapshot), restored);
  assert.deepEqual(differences, []);
}

/** The snapshot that cron has taken, below the subvolume. */
async function newestSnapshot({ disk }: Walk): Promise<string> {
  const [name = ""] = await readdir(join(disk.mountPoint, "@home/.snapshots"));
  return join(".snapshots", name);
}

async function tryEncryption(text: string, { type }: Walk): Promise<void> {
  const output = await type(fill(text, [["age1…", `"$(sudo age-keygen -y ${IDENTITY})"`]]));
  // Nobody is there to say yes.
  assert.match(output, /@home\/first .* delete/);
  assert.match(output, /@home\/second .* keep/);
}

async function tryConfiguration(text: string, { type }: Walk): Promise<void> {
  const recipient = (await type(`sudo age-keygen -y ${IDENTITY}`)).trim();
  const filled = fill(text, [
    ["age1…", recipient],
    ["# optional: ", ""],
  ]);
  await type(`
    sudo mkdir -p /etc/btrfs-snapshots-to-swift /var/lib/prometheus/node-exporter
    sudo install -m 600 /root/backup.env /etc/btrfs-snapshots-to-swift/home.env
    printf %s ${quote(filled)} | sudo tee /etc/btrfs-snapshots-to-swift/config.yaml
    sudo btrfs-snapshots-to-swift sync
    sudo btrfs-snapshots-to-swift config show
    sudo btrfs-snapshots-to-swift install-units
    grep ' 0$' /var/lib/prometheus/node-exporter/btrfs-snapshots-to-swift.prom`);
}

/** As cron runs them: with the environment of that file and no other, and silent. */
async function tryCron(text: string, { type }: Walk): Promise<void> {
  const path = /^PATH=(\S+)$/m.exec(text)?.[1];
  const commands = [...text.matchAll(/^\S+ \S+ \S+ \S+ \S+ root (.+)$/gm)].map(([, command = ""]) => command);
  assert.ok(path !== undefined && commands.length === 3, text);
  await type("sudo mkdir /home/.snapshots");
  for (const command of commands) {
    const unescaped = command.replaceAll("\\%", "%");
    assert.doesNotMatch(command.replaceAll("\\%", ""), /%/);
    assert.equal(await type(`sudo env -i HOME=/root PATH=${path} /bin/sh -c ${quote(unescaped)} 2>&1`), "", command);
  }
}

async function tryLostDisk(text: string, walk: Walk): Promise<void> {
  const { newDisk } = walk;
  await run("umount", newDisk.mountPoint);
  await run("wipefs", "--all", newDisk.device);
  const filled = fill(text, [
    ["/dev/NEW-DISK", newDisk.device],
    // As the sentence below it demands for encrypted archives.
    ["restore --container-name backup", `restore --container-name backup --identity ${IDENTITY}`],
  ]);
  await walk.type(`sudo sh -exc ${quote(filled)}`);
  await assertEqual(walk, await newestSnapshot(walk), join(await newDisk.mount("defaults"), "home"));
}

async function restoreByHand(text: string, walk: Walk): Promise<void> {
  const uuid =
    /^\tUUID:\s+(\S+)$/m.exec(await btrfs("subvolume", "show", join(walk.disk.mountPoint, "@home")))?.[1] ?? "";
  const filled = fill(text, [
    [/^subvolume=\S+/m, `subvolume=${uuid}`],
    [/^target=\S+/m, "target=/mnt/by-hand"],
    [/^identity=\S+/m, `identity=${IDENTITY}`],
  ]);
  await walk.type(`sudo sh -euc ${quote(`set -a; . /root/backup.env; set +a\n${filled}`)}`);
  const newest = await newestSnapshot(walk);
  await assertEqual(walk, newest, join(walk.other.mountPoint, "by-hand/@home", newest));
}
