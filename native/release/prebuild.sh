#!/bin/sh
# Makes prebuilds/linux-x64 and prebuilds/linux-arm64: the addon with libbtrfsutil linked in, built by cmake-js in the
# oldest Debian that has the library, so that it loads wherever Node itself does; then lets native/release/check-addon.sh judge it.
# Everything comes from Debian's packages and the npm registry. Needs root, mmdebstrap and `npm ci`; see native/release/debian-root.sh.
#
#   native/release/prebuild.sh [x64] [arm64]     both, or the named ones
#   native/release/prebuild.sh --if-needed       only what is missing, or older than what it is made of: as before `npm pack`
#   native/release/prebuild.sh --here            this machine's own architecture by its own compiler, as in a musl container
set -eu
cd "$(dirname "$0")/../.."

say() { printf 'prebuild: %s\n' "$*" >&2; }

# By what it was built from, not by the times of files, which a checkout changes: it would not be loaded otherwise.
is_fresh() {
  [ -e "$1" ] && [ ! native/CMakeLists.txt -nt "$1" ] && grep -q "$(node native/fingerprint.mjs)" "$1"
}

# target ARCH: where the addon for it belongs, in the layout of node-gyp-build.
target() {
  libc=glibc
  [ ! -e /etc/alpine-release ] || [ -z "${here-}" ] || libc=musl
  case $1 in
    x64) echo "prebuilds/linux-x64/btrfs.$libc.node" ;;
    arm64) echo "prebuilds/linux-arm64/btrfs.armv8.$libc.node" ;;
    *) say "no prebuild is made for $1"; exit 2 ;;
  esac
}

triplet() { case $1 in x64) echo x86_64-linux-gnu ;; arm64) echo aarch64-linux-gnu ;; esac; }

# compile ARCH OUT RUN... : by the compiler that RUN leads to, into OUT, whose parent RUN sees as well.
compile() {
  arch=$1 out=$2
  shift 2
  set -- "$@" node node_modules/cmake-js/bin/cmake-js compile --directory native --out "$out" --arch "$arch" \
    --CDSTATIC_BTRFSUTIL=ON
  [ -n "${here-}" ] || set -- "$@" "--CDCMAKE_CXX_COMPILER=$(triplet "$arch")-g++" \
    "--CDCMAKE_LIBRARY_ARCHITECTURE=$(triplet "$arch")" --CDCMAKE_SYSTEM_NAME=Linux
  "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; say "building for $arch failed"; exit 1; }
}

# place ARCH BUILT: judged before it lies where it would be packed.
place() {
  file=$(target "$1") built=$2
  sh native/release/check-addon.sh "$built" || { say "$file is refused"; exit 1; }
  mkdir -p "$(dirname "$file")"
  mv "$built" "$file"
  say "made $file"
}

build_here() {
  here=yes
  arch=$(node -p process.arch)
  compile "$arch" "$work/out" env
  place "$arch" "$work/out/Release/btrfs.node"
}

build_in_root() {
  own=$(dpkg --print-architecture)
  other=$([ "$own" = amd64 ] && echo arm64 || echo amd64)
  other_gcc=$([ "$own" = amd64 ] && echo aarch64-linux-gnu || echo x86-64-linux-gnu)
  say "making a Debian 11 to build in"
  ROOT_ARCHITECTURES=$own,$other sh native/release/debian-root.sh make bullseye "$work/root" cmake make g++ \
    libbtrfsutil-dev "g++-$other_gcc" "libc6-dev:$other" "libstdc++-10-dev:$other" "libbtrfsutil-dev:$other"
  sh native/release/debian-root.sh node 20 "$(node -p process.arch)" "$work/root/opt/node"
  mkdir -p "$work/root/project" "$work/out"
  for arch; do
    compile "$arch" "/out/$arch" sh native/release/debian-root.sh enter "$work/root" "$PWD:/project" "$work/out:/out" -- \
      env -C /project PATH=/opt/node/bin:/usr/bin:/bin
    place "$arch" "$work/out/$arch/Release/btrfs.node"
  done
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ "${1-}" != --here ] || { build_here; exit; }
needed=
if [ "${1-}" = --if-needed ]; then
  for arch in x64 arm64; do is_fresh "$(target $arch)" || needed="$needed $arch"; done
  # Word splitting is meant here and below.
  [ -n "$needed" ] || { sh native/release/check-addon.sh "$(target x64)" "$(target arm64)" >&2; exit; }
fi
[ $# -gt 0 ] && [ -z "$needed" ] || set -- ${needed:-x64 arm64}
build_in_root "$@"
