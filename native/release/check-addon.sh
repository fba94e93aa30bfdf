#!/bin/sh
# Refuses a prebuilt addon that would not load wherever Node's own binaries do: those want glibc 2.28 and libstdc++ with
# GLIBCXX_3.4.21. readelf (binutils) reads every architecture's files on any machine.
#
#   native/release/check-addon.sh FILE...
set -eu

wrong=0
refuse() { printf '%s: %s\n' "$1" "$2" >&2; wrong=1; }

# newest PREFIX: the newest of the symbol versions that begin so, of those on stdin.
newest() { grep -o "$1_[0-9][0-9.]*" | cut -d _ -f 2 | sort -V -u | tail -n 1; }

# beyond FLOOR VERSION: true when the version is newer.
beyond() { [ "$(printf '%s\n%s\n' "$1" "${2:-0}" | sort -V | tail -n 1)" != "$1" ]; }

for file; do
  [ -s "$file" ] || { refuse "$file" "missing"; continue; }
  versions=$(readelf --version-info --wide "$file")
  glibc=$(echo "$versions" | newest GLIBC)
  glibcxx=$(echo "$versions" | newest GLIBCXX)
  ! beyond 2.28 "$glibc" || refuse "$file" "needs glibc $glibc; 2.28 is the newest that may be needed"
  ! beyond 3.4.21 "$glibcxx" || refuse "$file" "needs GLIBCXX_$glibcxx; 3.4.21 is the newest that may be needed"

  needed=$(readelf --dynamic --wide "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p')
  for library in $needed; do
    case $library in
      libc.so.6 | libm.so.6 | libpthread.so.0 | libgcc_s.so.1 | libstdc++.so.6 | ld-linux-*.so.* | libc.musl-*.so.1) ;;
      *) refuse "$file" "needs $library, which a machine may not have" ;;
    esac
  done

  exports=$(readelf --dyn-syms --wide "$file" | awk 'NF > 7 && $(NF-1) ~ /^[0-9]+$/ && !/ LOCAL / { print $NF }' | sort -u | tr '\n' ' ')
  [ "$exports" = "napi_register_module_v1 node_api_module_get_api_version_v1 " ] || refuse "$file" "exports $exports"
  ! readelf --sections --wide "$file" | grep -q '\.symtab\|\.debug' || refuse "$file" "is not stripped"
  [ $wrong -ne 0 ] || printf '%s: glibc %s, GLIBCXX %s, %s bytes, needs %s\n' "$file" "${glibc:-none}" "${glibcxx:-none}" \
    "$(wc -c <"$file")" "$(echo "$needed" | tr '\n' ' ')"
done
exit $wrong
