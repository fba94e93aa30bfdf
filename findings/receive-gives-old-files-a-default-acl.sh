#!/bin/bash
# The top directory of a subvolume gets a default ACL after its files were made. Linux gives such an ACL to files that are
# made later, so the old ones have none. `btrfs receive` makes the top with its ACL first and then every file below it, and
# each inherits entries that the original does not have; nothing in the stream takes them away. Exit 0.
#
# Needs root, btrfs-progs and acl (Debian; installed when missing). Fails when the behaviour changes.
# The product takes the ACL away from the top directory while files are made, and gives it back at the end of the stream.
# Held by "gives older files no system.posix_acl_default of the root, whether it is new, as before, changed or removed" in
# test/btrfs/received-trees.test.ts; the same is true of the property btrfs.compression.
set -euo pipefail
for pair in btrfs:btrfs-progs setfacl:acl; do
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
echo "kernel $(uname -r), $(btrfs --version | head -n 1), $(setfacl --version)"

cd "$work/source"
btrfs -q subvolume create vol
mkdir vol/below
echo private >vol/old
echo private >vol/below/old
chmod 600 vol/old vol/below/old
setfacl -d -m u:1000:r vol
btrfs -q subvolume snapshot -r vol one
btrfs -q send one | btrfs -q receive "$work/target"

acl() { getfacl --omit-header --absolute-names --numeric "$1" | grep -c '^user:1000' || true; }
for file in old below/old; do
  echo "$file: entries for user 1000: sent $(acl "one/$file"), received $(acl "$work/target/one/$file")"
done
[ "$(acl one/old)" = 0 ] && [ "$(acl "$work/target/one/old")" = 1 ] || { echo "changed: receive gives no ACL to old files now"; exit 1; }
echo "as found: old files have an ACL that the originals lack"
