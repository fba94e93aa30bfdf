#!/bin/sh
# Starts the program with the Node beside it, wherever the tree lies. It needs nothing from PATH, and Node leaves the
# words after `--` alone.
file=$0
case $file in */*) ;; *) file=./$file ;; esac
[ ! -h "$file" ] || file=$(PATH=/usr/bin:/bin; readlink -f -- "$file") || exit
lib=${file%/*}/../lib/btrfs-snapshots-to-swift
exec "$lib/node" -- "$lib/dist/program/main.js" "$@"
