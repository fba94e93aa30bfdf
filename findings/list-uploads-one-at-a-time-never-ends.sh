#!/bin/bash
# Swift's s3api cannot be asked for open multipart uploads one at a time: with max-uploads=1 each page says that it is
# truncated and names no marker for the next one, so whoever pages as S3 documents it gets the first upload for ever. With
# 2 or more a page the markers are right. (The markers are set only where a page has more than one upload.)
#
# Runs Swift's own s3api (Debian: python3-swift curl; installed when missing) before a stand-in for the container server
# that holds three uploads. Fails when the behaviour changes.
set -euo pipefail
for package in python3-swift curl; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || apt-get install -y -q "$package" >/dev/null
done
dpkg-query -W -f='${Package} ${Version}\n' python3-swift curl
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

cat >"$work/server.py" <<'PYTHON'
import json, urllib.parse
from wsgiref import simple_server
from swift.common.middleware.s3api.s3api import filter_factory

names = sorted(f"{key}/{key * 48}" for key in "abc")
names = sorted(names + [f"{name}/1" for name in names])  # each upload has a part

def containers(environ, start):
    """A container `bucket+segments` as the container server lists it, sorted and after a marker."""
    environ["REMOTE_USER"] = "me"
    query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
    found = [name for name in names if name > query.get("marker", "")]
    entries = [{"name": name, "last_modified": "2026-01-01T00:00:00.000000", "bytes": 0, "hash": "x", "content_type": "x"} for name in found]
    body = json.dumps(entries).encode() if environ["REQUEST_METHOD"] == "GET" else b""
    start("200 OK", [("content-type", "application/json"), ("content-length", str(len(body)))])
    return [body]

class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass

s3api = filter_factory({}, location="us-east-1")(containers)
# wsgiref gives requests without a body an empty length, Swift's own server none.
app = lambda environ, start: s3api({name: value for name, value in environ.items() if value != ""}, start)
server = simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
/usr/bin/python3 -W ignore "$work/server.py" >"$work/port" 2>"$work/log" &
server=$!
for _ in $(seq 300); do [ -s "$work/port" ] && break; sleep 0.2; done
read -r port <"$work/port" || { cat "$work/log"; exit 1; }

page() { # QUERY: keys, whether it is truncated, the next markers
  curl -s --aws-sigv4 aws:amz:us-east-1:s3 --user key:secret -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
    "http://127.0.0.1:$port/bucket?$1" >"$work/body"
  python3 - "$work/body" <<'PYTHON'
import re, sys
body = open(sys.argv[1]).read()
of = lambda tag: re.findall(f"<{tag}>([^<]*)</{tag}>", body)
print("keys", ",".join(of("Key")), "truncated", *of("IsTruncated"), "next", repr("".join(of("NextKeyMarker"))))
PYTHON
}
one=$(page 'max-uploads=1&uploads=')
two=$(page 'max-uploads=2&uploads=')
echo "max-uploads=1: $one"
echo "max-uploads=2: $two"
[ "$two" = "keys a,b truncated true next 'b'" ] || { echo "the set-up is wrong"; cat "$work/body" "$work/log"; exit 1; }
[ "$one" = "keys a truncated true next ''" ] || { echo "changed: pages of one have a marker now"; exit 1; }
echo "as found: the second page of one cannot be asked for"
