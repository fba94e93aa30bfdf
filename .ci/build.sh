#!/bin/sh
# Compiles dist/ from src/ and test/, bundles the program into dist/program/, and writes the manual page and the completions
# from its own help.
# Removes first the output of source files that were deleted or moved.
set -eu
cd "$(dirname "$0")/.."

if [ -d dist ]; then
  find dist/src dist/test -name '*.js' 2>/dev/null | while read -r compiled; do
    source=${compiled#dist/}
    [ -e "${source%.js}.ts" ] || rm -f "$compiled" "$compiled.map"
  done
  # The compiler writes nothing that it believes to be there.
  [ -e dist/src/main.js ] || rm -f dist/.tsbuildinfo
fi

node_modules/.bin/tsc
chmod +x dist/src/main.js
node native/fingerprint.mjs >dist/addon-sources.txt
node .ci/program.mjs
mkdir -p dist/completions
node dist/program/main.js completion man >dist/btrfs-snapshots-to-swift.1
node dist/program/main.js completion bash >dist/completions/btrfs-snapshots-to-swift
node dist/program/main.js completion zsh >dist/completions/_btrfs-snapshots-to-swift
node dist/program/main.js completion fish >dist/completions/btrfs-snapshots-to-swift.fish
