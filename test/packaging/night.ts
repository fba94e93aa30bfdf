// One night of the shipped units under a real systemd: in a root that is booted, with a filesystem of which only the
// subvolume of a user is mounted, and a real Swift. Every promise that the units and the README make is looked for there.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Swift } from "../support/swift.ts";
import { boot, type Booted } from "./booted.ts";

const MiB = 2 ** 20;
const NAME = "btrfs-snapshots-to-swift";
const LIMIT_MS = 15 * 60_000;

/** An entry of the journal, as far as it matters. */
interface Entry {
  readonly MESSAGE: string;
  readonly PRIORITY: string;
  readonly SYSLOG_IDENTIFIER: string;
}

/** The inputs of the steps. */
interface Night {
  readonly booted: Booted;
  readonly root: string;
  readonly swift: Swift;
  /** The containers of the targets `home`, `slow` and `missing`; the last one does not exist. */
  readonly containers: { readonly home: string; readonly slow: string; readonly missing: string };
}

type Step = readonly [name: string, play: (night: Night) => Promise<void>];

/** In this order: each continues where the one before has ended. */
const STEPS: readonly Step[] = [
  ["lay out the disk", layOutDisk],
  ["install-units", installUnits],
  ["a missed night is made up for by the timer", fireTimer],
  ["journal", readJournal],
  ["files that the sandbox lets be written", lookAtFiles],
  ["systemctl stop", stopInTheMiddle],
  ["resume", resumeStopped],
  ["75 is tried again", tryAgain],
  ["10 is not", doNotTryAgain],
  ["systemd-analyze security", judgeSandbox],
  ["there are no leftovers", lookForLeftovers],
];

/** And these at the end, where the .deb is installed, and lies in the root's /released. */
const STEPS_OF_DEB: readonly Step[] = [
  ["the package is replaced while it runs", replacePackage],
  ["the package is purged", purgePackage],
];

/**
 * Boots the root, in which the program is installed, and plays the night; the name of the step that failed, or null.
 * @param isDeb - whether it was installed as a .deb
 */
export async function playNight(root: string, swift: Swift, label: string, isDeb: boolean): Promise<string | null> {
  const containers = { home: `${label}-home`, slow: `${label}-slow`, missing: `${label}-missing` };
  for (const container of [containers.home, containers.slow]) await swift.createContainer(container);
  const booted = await boot({ root, diskBytes: 1024 * MiB, limitMs: LIMIT_MS }).catch((error: unknown) =>
    String(error),
  );
  if (typeof booted === "string") {
    console.error(`${label}: ${booted}`);
    return "boot";
  }
  const night: Night = { booted, root, swift, containers };
  try {
    for (const [name, play] of isDeb ? [...STEPS, ...STEPS_OF_DEB] : STEPS) {
      try {
        await play(night);
      } catch (error) {
        const journal = await booted.shell(`journalctl --no-pager --lines 60 --unit '${NAME}@*'`).catch(String);
        console.error(
          `${label}, ${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n${journal}`,
        );
        return name;
      }
    }
    return null;
  } finally {
    await booted.close();
  }
}

/** As Ubuntu and openSUSE do: the top level is mounted nowhere, and the snapshots lie where no mount reaches. */
async function layOutDisk({ booted: { device, shell } }: Night): Promise<void> {
  await shell(`
    mkfs.btrfs --quiet ${device}
    mount ${device} /mnt
    btrfs subvolume create /mnt/@home
    mkdir /mnt/@snapshots
    head -c ${40 * MiB} /dev/urandom >/mnt/@home/file
    # Root may read what others own only by its capabilities.
    chmod 0600 /mnt/@home/file && chmod 0700 /mnt/@home && chown -R 1000:1000 /mnt/@home
    btrfs subvolume snapshot -r /mnt/@home /mnt/@snapshots/home-1
    umount /mnt
    # In a container, systemd makes no units of the devices in /etc/fstab. Nothing but the service asks for this one.
    printf '[Mount]\\nWhat=%s\\nWhere=/home\\nType=btrfs\\nOptions=subvol=@home\\n' ${device} >/etc/systemd/system/home.mount
    systemctl daemon-reload`);
}

/** The names of what is stored in a container. */
async function stored({ swift }: Night, container: string): Promise<string[]> {
  const answer = await swift.native.request("GET", `/${container}`);
  return answer.status === 200 ? (await answer.text()).split("\n").filter((name) => name !== "") : [];
}

/** The keys of the archives in it. */
async function archives(night: Night, container: string): Promise<string[]> {
  return (await stored(night, container)).filter((key) => !key.endsWith("/proof"));
}

async function configure(
  { root, swift, containers }: Night,
  more: Readonly<Record<string, object>> = {},
): Promise<void> {
  const common = { endpoint: swift.endpoint, region: swift.region, paths: ["/home"] };
  const home = {
    ...common,
    container: containers.home,
    "metrics-file": "/srv/metrics/home.prom",
    "work-dir": "/srv/spool",
    limits: { "retry-for": "1s" },
  };
  // JSON is YAML.
  await writeFile(join(root, `etc/${NAME}/config.yaml`), JSON.stringify({ targets: { home, ...more } }));
}

async function installUnits(night: Night): Promise<void> {
  const { booted, root, swift } = night;
  const etc = join(root, "etc", NAME);
  await mkdir(etc, { recursive: true });
  await writeFile(join(etc, "access-key"), swift.accessKey, { mode: 0o600 });
  await writeFile(join(etc, "secret-key"), swift.secretKey, { mode: 0o600 });
  await configure(night);
  const credentials = [`AWS_ACCESS_KEY_ID:/etc/${NAME}/access-key`, `AWS_SECRET_ACCESS_KEY:/etc/${NAME}/secret-key`];
  await booted.shell(`
    mkdir -p /srv/metrics /srv/spool /var/lib/prometheus/node-exporter /etc/systemd/system/${NAME}@.service.d
    printf '[Service]\\n' >/etc/systemd/system/${NAME}@.service.d/secrets.conf
    printf 'LoadCredential=%s\\n' ${credentials.join(" ")} >>/etc/systemd/system/${NAME}@.service.d/secrets.conf
    # The timer as it is shipped, without its chance, on a machine that was off last night.
    mkdir -p /etc/systemd/system/${NAME}@.timer.d /var/lib/systemd/timers
    printf '[Timer]\\nRandomizedDelaySec=0\\n' >/etc/systemd/system/${NAME}@.timer.d/at-once.conf
    touch --date '2 days ago' /var/lib/systemd/timers/stamp-${NAME}@home.timer
    printf '[Service]\\nRestartSec=2s\\nExecStopPost=+/bin/sh -c "echo $SERVICE_RESULT $EXIT_STATUS >>/root/ended-%%i"\\n' >/etc/systemd/system/${NAME}@.service.d/test.conf
    ${NAME} install-units 2>/root/next`);
}

async function fireTimer(night: Night): Promise<void> {
  // The command that it printed is the one that is typed.
  await night.booted.shell(`sh -ec "$(sed -n 's/^next: //p' /root/next)"`);
  assert.deepEqual(await untilEnded(night, "home", 1), ["success 0"]);
  assert.equal((await archives(night, night.containers.home)).length, 1);
  await night.booted.shell(`systemctl disable --now ${NAME}@home.timer`);
}

/** How the runs of a target's service have ended: `RESULT STATUS` each. systemd itself forgets what is well. */
async function endings({ root }: Night, target: string): Promise<string[]> {
  const text = await readFile(join(root, `root/ended-${target}`), "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

/** Waits until so many runs of a target's service have ended; how they did. */
async function untilEnded(night: Night, target: string, runs: number): Promise<string[]> {
  return await until(async () => {
    const ended = await endings(night, target);
    return ended.length >= runs ? ended : null;
  });
}

async function until<T>(look: () => Promise<T | null>): Promise<T> {
  const end = performance.now() + 120_000;
  while (performance.now() < end) {
    const found = await look();
    if (found !== null) return found;
    await sleep(200);
  }
  throw new Error("it did not happen within two minutes");
}

/** The lines that the program wrote to the journal, in runs of a target. */
async function journalOf({ booted }: Night, target: string): Promise<Entry[]> {
  const text = await booted.shell(`journalctl --output json _SYSTEMD_UNIT=${NAME}@${target}.service`);
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Entry);
}

async function readJournal(night: Night): Promise<void> {
  const entries = await journalOf(night, "home");
  assert.deepEqual([...new Set(entries.map(({ SYSLOG_IDENTIFIER }) => SYSLOG_IDENTIFIER))], [NAME]);
  const priorityOf = (pattern: RegExp): string | undefined =>
    entries.find(({ MESSAGE }) => pattern.test(MESSAGE))?.PRIORITY;
  assert.equal(priorityOf(/not encrypted/), "4", JSON.stringify(entries));
  assert.equal(priorityOf(/home-1/), "6", JSON.stringify(entries));
  assert.deepEqual(
    entries.filter(({ MESSAGE }) => /^<\d>/.test(MESSAGE)),
    [],
  );
}

async function lookAtFiles({ booted, root, containers }: Night): Promise<void> {
  const metrics = await readFile(join(root, "srv/metrics/home.prom"), "utf8");
  assert.match(metrics, new RegExp(`_exit_code\\{container="${containers.home}",path="/home"\\} 0\n`));
  // The file in the work directory had no name, and everything else is read-only.
  assert.equal(await booted.shell("ls -A /srv/metrics /srv/spool"), "/srv/metrics:\nhome.prom\n\n/srv/spool:\n");
  const unit = await booted.shell(`systemctl show --property ReadWritePaths --value ${NAME}@home.service`);
  assert.match(unit, /\/srv\/spool .*\/srv\/metrics/);
}

function slowTarget({ swift, containers }: Night, limits: object): Readonly<Record<string, object>> {
  const metrics = "/var/lib/prometheus/node-exporter/slow.prom";
  const target = {
    container: containers.slow,
    endpoint: swift.endpoint,
    region: swift.region,
    paths: ["/home"],
    "metrics-file": metrics,
  };
  return { slow: { ...target, limits: { memory: "20Mi", ...limits } } };
}

async function stopInTheMiddle(night: Night): Promise<void> {
  await configure(night, slowTarget(night, { upload: "3Mi" }));
  // As the README demands: again when the file has changed.
  await night.booted.shell(
    `${NAME} install-units && systemctl daemon-reload && systemctl start --no-block ${NAME}@slow.service`,
  );
  const hasPart = async (): Promise<boolean> =>
    (await stored(night, `${night.containers.slow}+segments`)).some((name) => name.endsWith("/1"));
  await until(async () => ((await hasPart()) ? true : null));
  await night.booted.shell(`systemctl stop ${NAME}@slow.service`);
  assert.deepEqual(await endings(night, "slow"), ["success 143"]);
  const messages = (await journalOf(night, "slow")).map(({ MESSAGE }) => MESSAGE);
  const stopped = /^stopped by SIGTERM; the next run resumes .*home-1: .* MiB of it are already stored$/;
  assert.ok(
    messages.some((message) => stopped.test(message)),
    messages.join("\n"),
  );
  assert.deepEqual(await archives(night, night.containers.slow), []);
}

async function resumeStopped(night: Night): Promise<void> {
  await configure(night, slowTarget(night, {}));
  await night.booted.shell(`systemctl start ${NAME}@slow.service`);
  assert.deepEqual(await endings(night, "slow"), ["success 143", "success 0"]);
  const messages = (await journalOf(night, "slow")).map(({ MESSAGE }) => MESSAGE);
  assert.ok(
    messages.some((message) => /MiB were already stored/.test(message)),
    messages.join("\n"),
  );
  const metrics = await readFile(join(night.root, "var/lib/prometheus/node-exporter/slow.prom"), "utf8");
  assert.match(metrics, /_exit_code\{.*\} 0\n/);
}

async function tryAgain(night: Night): Promise<void> {
  const { booted, swift } = night;
  await booted.shell(
    `mount ${booted.device} /mnt && btrfs subvolume snapshot -r /mnt/@home /mnt/@snapshots/home-2 && umount /mnt`,
  );
  await swift.stop("proxy");
  await booted.shell(`systemctl start --no-block ${NAME}@home.service`);
  await untilEnded(night, "home", 2);
  await swift.start("proxy");
  const ended = await until(async () => {
    const all = await endings(night, "home");
    return all.at(-1) === "success 0" && all.length > 2 ? all : null;
  });
  assert.deepEqual([...new Set(ended.slice(1, -1))], ["exit-code 75"]);
  assert.equal((await archives(night, night.containers.home)).length, 2);
  const errors = (await journalOf(night, "home")).filter(({ PRIORITY }) => PRIORITY === "3");
  assert.ok(errors.length > 0, "a store that is away is no error in the journal");
}

async function doNotTryAgain(night: Night): Promise<void> {
  const { swift, containers, booted } = night;
  const missing = { container: containers.missing, endpoint: swift.endpoint, region: swift.region, paths: ["/home"] };
  await configure(night, { missing });
  await booted.shell(
    `${NAME} install-units && systemctl daemon-reload && systemctl start ${NAME}@missing.service || true`,
  );
  // Longer than until it would be tried again.
  await sleep(4000);
  assert.deepEqual(await endings(night, "missing"), ["exit-code 10"]);
  assert.equal(await booted.shell(`systemctl is-failed ${NAME}@missing.service`), "failed\n");
}

async function judgeSandbox({ booted }: Night): Promise<void> {
  const text = await booted.shell(`systemd-analyze --no-pager security ${NAME}@home.service`);
  const exposure = /Overall exposure level for .*: ([\d.]+)/.exec(text)?.[1];
  assert.ok(Number(exposure) <= 3.5, text);
}

async function lookForLeftovers(night: Night): Promise<void> {
  const { booted, containers, swift } = night;
  const look = (script: string): Promise<string[]> =>
    booted.shell(script).then((text) => text.split("\n").filter((line) => line !== ""));
  assert.deepEqual(await look("findmnt --noheadings --output TARGET --types btrfs"), ["/home"]);
  assert.deepEqual(await look("systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1"), [
    `${NAME}@missing.service`,
  ]);
  assert.deepEqual(
    await look(`systemctl list-units --plain --no-legend --state active,activating,deactivating '${NAME}@*.service'`),
    [],
  );
  assert.deepEqual(
    await look(
      `find /tmp /var/tmp /srv /run/${NAME} -mindepth 1 -type d ! -name '.*-unix' ! -path '*/systemd-private-*'`,
    ),
    ["/srv/metrics", "/srv/spool"],
  );
  assert.deepEqual(await look(`ls -d /tmp/systemd-private-*${NAME}* 2>/dev/null || true`), []);
  const login = Object.entries(swift.environment)
    .map(([name, value]) => `${name}='${value}'`)
    .join(" ");
  for (const container of [containers.home, containers.slow]) {
    const report = JSON.parse(
      await booted.shell(`${login} ${NAME} verify --read-data --json --container-name ${container}`),
    ) as { findings: unknown[] };
    assert.deepEqual(report.findings, []);
  }
}

/** It is stopped, and started again by the new package: it resumes. */
async function replacePackage(night: Night): Promise<void> {
  const { booted, containers } = night;
  const segments = `${containers.slow}+segments`;
  const [before, ended] = [await stored(night, segments), await endings(night, "slow")];
  await booted.shell(`
    mount ${booted.device} /mnt
    head -c ${40 * MiB} /dev/urandom >/mnt/@home/more
    btrfs subvolume snapshot -r /mnt/@home /mnt/@snapshots/home-3
    umount /mnt`);
  await configure(night, slowTarget(night, { upload: "3Mi" }));
  await booted.shell(
    `${NAME} install-units && systemctl daemon-reload && systemctl start --no-block ${NAME}@slow.service`,
  );
  await until(async () => ((await stored(night, segments)).length > before.length ? true : null));
  await booted.shell("dpkg --install /released/*.deb");
  assert.deepEqual((await untilEnded(night, "slow", ended.length + 2)).slice(ended.length), [
    "success 143",
    "success 0",
  ]);
  const messages = (await journalOf(night, "slow")).map(({ MESSAGE }) => MESSAGE);
  assert.equal(messages.filter((message) => /MiB were already stored/.test(message)).length, 2, messages.join("\n"));
}

/** With timers that run. It leaves the files that were written here, and starts nothing any more. */
async function purgePackage({ booted: { shell } }: Night): Promise<void> {
  await shell(`systemctl enable --now ${NAME}@home.timer && dpkg --purge ${NAME}`);
  const timers = await shell(
    `systemctl list-units --all --plain --no-legend '${NAME}@*.timer' '${NAME}@*.service' | grep -v ' failed ' || true`,
  );
  assert.equal(timers, "");
  const left = await shell(
    `find / -xdev -path '*${NAME}*' ! -type d ! -path '/released/*' ! -path '/var/log/*' | sort`,
  );
  const ours = [`/etc/${NAME}/`, `/etc/systemd/system/${NAME}@.`];
  for (const file of left.split("\n").filter((line) => line !== "")) {
    assert.ok(
      ours.some((start) => file.startsWith(start)),
      left,
    );
  }
}
