// `help config`: the configuration file, and the files that the program keeps.

import { configKeys, describeOption } from "../../config/options.ts";
import type { Section } from "../../terminal/manual.ts";

export const configuration: Section = {
  title: "Configuration",
  blocks: [
    "Flags win over the environment, the environment wins over the configuration file. `config show` prints the settings in force, and where each comes from.",
    "The file has named targets, each with options that would otherwise be on the command line:",
    {
      lines: [
        "targets:",
        "  home:",
        "    container: backup",
        "    endpoint: https://swift.example.org",
        "    env-file: home.env            # with the login, mode 0600",
        "    paths: [/home, /srv]",
        "    recipients: [age1…]",
        "    limits: { upload: 8Mi, memory: 1Gi, retry-for: 1h }",
      ],
    },
    "With one target `sync` is enough; with several, use `sync --use home`. All commands with a container take --use; `paths` are for sync and prune. Paths in the file are relative to its directory, and ~ is the home directory. An unknown key is an error.",
    "With --container-name, and without --use or --config, only the login is taken from the file, if all targets have the same one and nothing else names one.",
    "The keys of a target, each with the flag that it stands for:",
    {
      terms: [
        { term: "paths", meaning: "The subvolumes that `sync` archives without a PATH." },
        ...[...configKeys].map(([key, option]) => ({
          term: key,
          meaning: `${option.flag}: ${describeOption(option)}`,
        })),
      ],
    },
  ],
};

export const files: Section = {
  title: "Files",
  blocks: [
    "These are the files for root. Those of other users are in the home directory, or in $XDG_CONFIG_HOME, $XDG_STATE_HOME and $XDG_CACHE_HOME.",
    {
      terms: [
        {
          term: "~/.config/btrfs-snapshots-to-swift/config.yaml, /etc/btrfs-snapshots-to-swift/config.yaml",
          meaning: "The configuration file: the first of these that exists, or --config FILE.",
        },
        {
          term: "/var/lib/btrfs-snapshots-to-swift",
          meaning:
            "State that is worth keeping between runs: what the finished volumes of an encrypted archive hold, and which deduplicated snapshots still match their archives. If it is lost, volumes are sent again, and snapshots are compared again.",
        },
        {
          term: "/var/cache/btrfs-snapshots-to-swift",
          meaning: "A cache of facts about archives. It can be deleted at any time; --no-cache does without it.",
        },
        { term: "/run/btrfs-snapshots-to-swift", meaning: "Locks: one run at a time for a subvolume and container." },
        {
          term: "clouds.yaml, secure.yaml",
          meaning:
            "Clouds of the OpenStack clients: in the current directory, in ~/.config/openstack or in /etc/openstack.",
        },
        { term: "~/.aws/config, ~/.aws/credentials", meaning: "Profiles of the AWS tools." },
      ],
    },
  ],
};
