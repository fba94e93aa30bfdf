#!/bin/bash
# Each command of a send stream has a checksum, but nothing counts the commands: a stream out of whose middle a write was
# cut, at the borders of the command, is received with exit 0, and the file has a hole where its bytes were. Neither
# `btrfs receive` nor the checksums of the file system find anything wrong afterwards. So a checksum of one's own over the
# whole stream is needed wherever streams are stored in pieces.
#
# Needs root, btrfs-progs and python3 (Debian; installed when missing). Fails when the behaviour changes.
# The product withholds the end of a stream until size and checksums of the whole object agree. Held by "is never sealed,
# and always found, whatever has happened to it" in test/fault/damage.test.ts.
set -euo pipefail
for pair in btrfs:btrfs-progs python3:python3; do
  command -v "${pair%:*}" >/dev/null || apt-get install -y -q "${pair#*:}" >/dev/null
done
work=$(mktemp -d)
trap 'cd /; umount "$work"/source "$work"/target 2>/dev/null || true; rm -rf "$work"' EXIT
for name in source target; do
  truncate -s 256M "$work/$name.img"
  mkfs.btrfs -q "$work/$name.img" >"$work/mkfs" 2>&1
  mkdir "$work/$name"
  mount -o loop "$work/$name.img" "$work/$name"
done
echo "kernel $(uname -r), $(btrfs --version | head -n 1)"

cd "$work/source"
btrfs -q subvolume create vol
head -c 200000 /dev/urandom >vol/file
btrfs -q subvolume snapshot -r vol one
btrfs -q send -f "$work/whole" one
python3 - "$work/whole" "$work/cut" <<'PYTHON'
import struct, sys
data = open(sys.argv[1], "rb").read()
assert data[:13] == b"btrfs-stream\0"
out, at, writes = [data[:17]], 17, 0
while at < len(data):
    length, command, _ = struct.unpack_from("<IHI", data, at)
    whole = data[at:at + 10 + length]
    at += len(whole)
    writes += command == 15  # BTRFS_SEND_C_WRITE
    if command == 15 and writes == 2:
        print(f"cut out: one write of {length} bytes")
        continue
    out.append(whole)
open(sys.argv[2], "wb").write(b"".join(out))
PYTHON
status=0
btrfs -q receive -f "$work/cut" "$work/target" || status=$?
echo "receive: exit $status, $(btrfs subvolume show "$work/target/one" | grep -oE 'readonly')"
sync
btrfs scrub start -B "$work/target" | grep -E 'Error summary'
same=yes
cmp -s one/file "$work/target/one/file" || same=no
echo "sizes: $(stat -c %s one/file) and $(stat -c %s "$work/target/one/file"); same bytes: $same"
[ "$status" = 0 ] && [ "$same" = no ] || { echo "changed: receive refuses the stream now"; exit 1; }
echo "as found: the stream is taken, the file is another"
