#!/bin/bash
# While Keystone is overloaded (429) or restarting (503), Swift's S3 API does not answer "try again later": s3token takes
# every answer of Keystone but 2xx for a refusal, and s3api makes of that the very 403 SignatureDoesNotMatch that a wrong
# secret gets. S3 clients take a 403 for final and do not retry it. Only a Keystone that cannot be reached at all
# becomes a 500, which they retry.
#
# Runs Swift's own s3api and s3token (Debian: python3-swift python3-keystoneclient curl; installed when missing) before
# a stand-in for the container server, against a stand-in for Keystone that answers what is wanted. Fails when the
# behaviour changes.
# The product: a key pair that has worked in a run is retried for --retry-for. Held by "a Keystone that answers 429
# or 503 for a while ends no run whose keys were accepted before" in test/integration/credentials.test.ts.
set -euo pipefail
for package in python3-swift python3-keystoneclient python3-requests curl; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || apt-get install -y -q "$package" >/dev/null
done
dpkg-query -W -f='${Package} ${Version}\n' python3-swift curl
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

cat >"$work/server.py" <<'PYTHON'
import http.server, json, sys, threading
from wsgiref import simple_server
from swift.common.middleware.s3api.s3api import filter_factory as s3api
from swift.common.middleware.s3api.s3token import filter_factory as s3token

class Keystone(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        status = int(open(sys.argv[1] + "/status").read())
        body = {"token": {"user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}}, "roles": [{"name": "member"}],
                          "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}}}}
        data = json.dumps(body if status == 200 else {"error": {"code": status}}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass

def containers(environ, start):
    """What is behind: a project with one empty container."""
    environ["REMOTE_USER"] = environ.get("HTTP_X_TENANT_ID", "")
    start("200 OK", [("content-type", "application/json"), ("content-length", "0" if environ["REQUEST_METHOD"] == "HEAD" else "2")])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"[]"]

class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass

keystone = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keystone)
threading.Thread(target=keystone.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/v3" % keystone.server_port
dead = "http://127.0.0.1:1/v3"
def pipeline(auth):
    inner = s3api({}, location="RegionOne")(s3token({}, auth_uri=auth)(containers))
    # wsgiref gives requests without a body an empty length, Swift's own server none.
    return lambda environ, start: inner({name: value for name, value in environ.items() if value != ""}, start)
apps = {"/alive": pipeline(url), "/dead": pipeline(dead)}
servers = [simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet) for app in apps.values()]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(*[server.server_port for server in servers], flush=True)
threading.Event().wait()
PYTHON
echo 200 >"$work/status"
/usr/bin/python3 -W ignore "$work/server.py" "$work" >"$work/ports" 2>"$work/log" &
server=$!
for _ in $(seq 300); do [ -s "$work/ports" ] && break; sleep 0.2; done
read -r alive dead <"$work/ports" || { cat "$work/log"; exit 1; }

ask() { # PORT: status and S3 code of a signed listing
  curl -s -o "$work/body" -w '%{http_code} ' --aws-sigv4 aws:amz:RegionOne:s3 --user key:secret \
    -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "http://127.0.0.1:$1/bucket"
  grep -oP '(?<=<Code>)\w+' "$work/body" || echo "(a listing)"
}
declare -A got
for status in 200 401 429 503; do
  echo "$status" >"$work/status"
  got[$status]=$(ask "$alive")
  echo "Keystone answers $status: S3 says ${got[$status]}"
done
got[dead]=$(ask "$dead")
echo "no Keystone at all:   S3 says ${got[dead]}"
[ "${got[200]}" = "200 (a listing)" ] || { echo "the set-up is wrong"; cat "$work/body" "$work/log"; exit 1; }
for status in 401 429 503; do
  [ "${got[$status]}" = "403 SignatureDoesNotMatch" ] || { echo "changed: $status is told apart now"; exit 1; }
done
case ${got[dead]} in 5*) ;; *) echo "changed: no Keystone is no server error now"; exit 1 ;; esac
echo "as found: an overloaded Keystone looks like a wrong secret"
