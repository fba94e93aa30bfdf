// `help format`: what lies in the container, and how to restore it without this program. The script is that of
// plan/FORMAT.md, which a test compares.

import type { Section } from "../../terminal/manual.ts";

export const format: Section = {
  title: "Format",
  blocks: [
    {
      terms: [
        {
          term: "Key",
          meaning:
            "UUID of the subvolume, then / and the path of the snapshot, with each / replaced by the four characters \\x2f.",
        },
        {
          term: "Body",
          meaning:
            "What `btrfs send` wrote, full or incremental; compressed with zstd or not, then encrypted with age or not. The first bytes show which: btrfs-stream, 28 B5 2F FD (zstd), or age-encryption.org/v1.",
        },
        {
          term: "Volumes",
          meaning:
            "A body that does not fit into one object is stored in KEY/000001, KEY/000002 and so on, each encoded on its own; the object under KEY is then a JSON text that lists them.",
        },
        { term: "Proof", meaning: "KEY/proof has the MD5s of the parts as they were sent. A restore never needs it." },
        {
          term: "Metadata",
          meaning:
            "x-amz-meta-btrfs-…: uuid and ctransid of the snapshot, send-parent-uuid and send-parent-ctransid (absent: full), source-uuid, otime, otransid, path, encoding and others.",
        },
      ],
    },
    "Do not delete the archives of a subvolume when it is gone: after a restore, newer archives build on them.",
    'These commands bring all archives of a subvolume back without this program, as root, with python3-swiftclient and btrfs-progs, and age and zstd for encoded archives. The login is in the environment (OS_* or ST_*); `swift list backup` shows the archives. With S3 keys, `aws s3 cp "s3://backup/$key" -` does what `swift download` does.',
    {
      lines: [
        "container=backup",
        "subvolume=01234567-89ab-cdef-0123-456789abcdef",
        "target=/mnt/restored                # where a btrfs filesystem is mounted",
        "identity=identity.txt",
        "",
        'metadata() { swift stat "$container" "$2" | sed -n "s/^ *Meta Btrfs-$1: //p"; }',
        "decode() {",
        "  case $1 in",
        "    identity) cat ;;",
        "    zstd) zstd -d ;;",
        '    age) age -d -i "$identity" ;;',
        '    zstd+age) age -d -i "$identity" | zstd -d ;;',
        "  esac",
        "}",
        "",
        "# The archives, in the order in which their snapshots were taken. (Names sort 10 before 2.)",
        'swift list "$container" --prefix "$subvolume" | grep -v / | while IFS= read -r key; do',
        '  printf \'%s %s\\n\' "$(metadata Otransid "$key")" "$key"',
        "done | sort -n | cut -d ' ' -f 2- > archives",
        "",
        "# Each one is received in the directory where its snapshot was: many have the same name. Large ones are in volumes.",
        "while IFS= read -r key; do",
        "  path=$(printf '%s\\n' \"$key\" | sed 's/^.\\{36\\}\\\\x2f//; s/\\\\x2f/\\//g')",
        '  directory=$target/$(dirname "$path")',
        '  mkdir -p "$directory"',
        '  encoding=$(metadata Encoding "$key")',
        '  swift list "$container" --prefix "$key/" | sed -n \'/\\/[0-9]\\{6\\}$/p\' > volumes',
        "  [ -s volumes ] || printf '%s\\n' \"$key\" > volumes",
        "  while IFS= read -r object; do",
        '    swift download "$container" "$object" --output - | decode "$encoding"',
        '  done < volumes | btrfs receive "$directory" || break',
        "done < archives",
      ],
    },
    "A single archive needs those that it builds on, back to a full one: the metadata names the send parent of each.",
  ],
};
