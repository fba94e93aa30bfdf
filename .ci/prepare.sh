#!/bin/sh
# Makes a fresh clone runnable: Debian or Ubuntu packages, node_modules, the addon, dist/. Each only when it is missing
# or older than what it is made of. Runs before node_modules exists, hence a POSIX shell.
# Prints little when all goes well, and the complete output of a command that fails.
#
#   --no-packages   node_modules only: what lint needs, without root
#   --release       for npm run release: its packages in place of the tests', and no addon for this machine
set -eu
cd "$(dirname "$0")/.."

build_packages="python3 make g++ libbtrfsutil-dev"
run_packages="btrfs-progs age zstd rsync"
test_packages="python3-swift memcached python3-swiftclient rclone util-linux mount openssl"
test_packages="$test_packages keystone python3-keystonemiddleware uwsgi-plugin-python3"
# Ubuntu has none since 24.04.
grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null || test_packages="$test_packages awscli"
release_packages="mmdebstrap debian-archive-keyring binutils zstd rpm lintian rpmlint"
wanted="$build_packages $run_packages $test_packages"
[ "${1-}" != --release ] || wanted=$release_packages

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=
as_root=

finish() {
  rm -f "$log"
  [ -z "$made_policy" ] || $as_root rm -f "$policy"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf 'prepare: %s\n' "$*" >&2; }

# quietly WHAT COMMAND... : silent, unless it fails; then everything it printed.
quietly() {
  what=$1
  shift
  "$@" >"$log" 2>&1 </dev/null && return
  say "$what failed: $*"
  cat "$log" >&2
  return 1
}

# newer_than FILE PATH... : true when FILE is missing or one of the paths holds something newer.
newer_than() {
  file=$1
  shift
  [ ! -e "$file" ] || [ -n "$(find "$@" -path native/build -prune -o -type f -newer "$file" -print | head -n 1)" ]
}

check_node() {
  version=$(node -p process.versions.node)
  rest=${version#*.}
  [ "${version%%.*}" -gt 20 ] || { [ "${version%%.*}" -eq 20 ] && [ "${rest%%.*}" -ge 17 ]; } ||
    { say "Node $version is too old: 20.17 or newer is needed"; exit 1; }
}

missing_packages() {
  for package in $wanted; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf ' %s' "$package"
  done
}

# A freshly installed memcached would start, now and at every boot. Nothing here wants a daemon.
forbid_services() {
  [ ! -e "$policy" ] || return 0
  made_policy=yes
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
}

become_root() {
  [ "$(id -u)" -ne 0 ] || return 0
  command -v sudo >/dev/null || return 1
  as_root=sudo
  if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "neither Debian nor Ubuntu: these packages' likes are needed: $wanted"
    return
  fi
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  say "missing packages:$missing"
  become_root || { say "neither root nor sudo: going on without them"; return; }
  say "installing them with apt-get"
  forbid_services
  apt="$as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y"
  quietly "apt-get update" $apt update || say "going on with the package lists there are"
  # Word splitting is meant: $apt and $missing are lists.
  quietly "apt-get install" $apt install --no-install-recommends $missing ||
    { say "on Ubuntu, some of them need the universe component"; exit 1; }
  case $missing in
    *memcached*) ! command -v systemctl >/dev/null || $as_root systemctl -q disable memcached 2>/dev/null || true ;;
  esac
}

install_modules() {
  newer_than node_modules/.package-lock.json package-lock.json || return 0
  say "installing node_modules"
  # The addon is built below, where its failure can be reported.
  quietly "npm ci" npm ci --ignore-scripts --no-audit --no-fund
}

build_addon() {
  addon=build/Release/btrfs.node
  newer_than "$addon" binding.gyp native || return 0
  if [ ! -e /usr/include/btrfsutil.h ]; then
    say "the addon is not built: /usr/include/btrfsutil.h (package libbtrfsutil-dev) is missing"
    return 0
  fi
  quietly "building the addon" env CXXFLAGS=-Werror npm run --silent build:native
}

check_node
[ "${1-}" = --no-packages ] || install_packages
install_modules
[ "${1-}" != --no-packages ] || exit 0
[ "${1-}" = --release ] || build_addon
quietly "compiling" npm run --silent build
