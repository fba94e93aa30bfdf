#!/bin/sh
# Debian roots to build and to test in, of Debian's packages alone. Needs root, mmdebstrap and npm.
#
#   native/release/debian-root.sh make SUITE DIR PACKAGE...        unpacks a minimal Debian with these packages into DIR
#   native/release/debian-root.sh node VERSION ARCH DIR            makes DIR/bin/node, for ARCH x64 or arm64
#   native/release/debian-root.sh enter DIR [FROM:TO]... -- CMD    runs CMD in it, with FROM seen at TO; mounts are gone when it ends
#
# A package may carry an architecture (g++:arm64); ROOT_ARCHITECTURES=amd64,arm64 lets the second one in.
# ROOT_CACHE names a directory where roots are kept for the next time; without it nothing is kept.
# Where packages come from is what apt on this machine says, when it is a Debian, else mmdebstrap's own choice.
set -eu

fail() { printf 'debian-root.sh: %s\n' "$*" >&2; exit 1; }

# A log is shown only when what wrote it failed.
quietly() {
  log=$(mktemp)
  if "$@" >"$log" 2>&1 </dev/null; then rm -f "$log"; return 0; fi
  cat "$log" >&2
  rm -f "$log"
  return 1
}

debian_mirror() {
  command -v apt-get >/dev/null || return 0
  apt-get indextargets --format '$(ORIGIN) $(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

make_root() {
  suite=$1 directory=$2
  shift 2
  packages=$(printf '%s,' "$@")
  cache=${ROOT_CACHE:-$directory.tmp}
  name=$(printf '%s %s' "$packages" "${ROOT_ARCHITECTURES:-}" | cksum | cut -d ' ' -f 1)
  tar=$cache/$suite-$name.tar
  mkdir -p "$directory" "$cache"
  if [ ! -e "$tar" ]; then
    # sid's index is valid for a week, and mirrors may be older than that. Nothing that is released is built there.
    [ "$suite" != sid ] || set -- --aptopt='Acquire::Check-Valid-Until "false"'
    [ "$suite" = sid ] || set --
    quietly mmdebstrap --format=tar --mode=root --variant=minbase --include="${packages%,}" "$@" \
      ${ROOT_ARCHITECTURES:+--architectures="$ROOT_ARCHITECTURES"} "$suite" "$tar.new" $(debian_mirror) ||
      fail "no root of Debian $suite could be made"
    mv "$tar.new" "$tar"
  fi
  tar --extract --file "$tar" --directory "$directory" --exclude './dev/*'
  [ -n "${ROOT_CACHE-}" ] || rm -rf "$cache"
}

make_node() {
  version=$1 package=node-linux-$2 directory=$3
  mkdir -p "$directory"
  # --force: npm would not install what is for another architecture.
  quietly npm install --prefix "$directory" --no-save --force --ignore-scripts --no-audit --no-fund "$package@$version" ||
    fail "Node $version for $2 could not be had"
  mv "$directory/node_modules/$package/bin" "$directory/bin"
  rm -rf "$directory/node_modules"
}

enter() {
  root=$1
  shift
  mounts=
  while [ "$1" != -- ]; do
    from=${1%%:*} to=$root${1#*:}
    if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "${to%/*}" && : >>"$to"; fi
    mounts="$mounts mount --bind '$from' '$to' &&"
    shift
  done
  shift
  # /dev is the machine's own: a loop device that it has, the root has too. All of it ends with whoever entered it.
  exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child sh -ec "
    mount -t proc proc '$root/proc' && mount --rbind /dev '$root/dev' && $mounts true
    exec chroot '$root' \"\$@\"" sh "$@"
}

[ "$(id -u)" -eq 0 ] || fail "a Debian root can only be made and entered by root"
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing: apt-get install mmdebstrap"
command=${1-}
[ $# -eq 0 ] || shift
case $command in
  make) make_root "$@" ;;
  node) make_node "$@" ;;
  enter) enter "$@" ;;
  *) fail "what? See the head of this file." ;;
esac
