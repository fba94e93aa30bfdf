// `help encryption`: how archives are encrypted, and which key restores them.

import type { Section } from "../../terminal/manual.ts";

export const encryption: Section = {
  title: "Encryption",
  blocks: [
    "age encrypts each archive while it is sent, for every recipient that you name: age's own keys (age1…), SSH keys, and plugin keys.",
    {
      lines: [
        "age-keygen -o identity.txt     # keep it elsewhere too: without it nothing can be restored",
        "btrfs-snapshots-to-swift sync /home --container-name backup --age-recipient age1…",
        "btrfs-snapshots-to-swift restore /home --latest --target /mnt --container-name backup --identity identity.txt",
      ],
    },
    "`restore` needs --identity FILE, and so do `verify --read-data`, --against-local and --drill. A machine that only archives does not need the file. A file protected by a passphrase works: age asks for it once, on the terminal. Keys never enter this program, its command lines or its logs.",
    "Everybody who can read the container can still read UUIDs, the paths and times of snapshots, sizes, and checksums of the encrypted bytes.",
    "A run without a recipient ends with exit code 2 if the newest archives are encrypted, unless --no-encryption is given. --require-encryption refuses every run without a recipient.",
    "An interrupted upload of an encrypted object cannot be resumed, because encrypted bytes differ each time. Finished volumes are reused: with --volume-size 10Gi, at most 10 GiB are sent again.",
    "Exit code 12 means that no identity opens an archive. That is not damage: use the identity whose recipient it was encrypted for.",
  ],
};
