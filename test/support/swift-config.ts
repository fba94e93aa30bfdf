// The configuration of an all-in-one Swift: every byte its servers read. Text in, text out; nothing is started here.
// The values differ from Swift's defaults only where one node on one machine needs it; each such line says why.

/** Settings of an operator, and limits that a test sets lower to reach them sooner. */
export interface SwiftLimits {
  /** Parts of one S3 multipart upload. Swift's default: 1000. */
  readonly maxUploadPartNum?: number;
  /** Segments of one static large object. Swift's default: 1000. */
  readonly maxManifestSegments?: number;
  /** Bytes of one object or part. Swift's default: 5 GiB + 2. */
  readonly maxFileSize?: number;
  /** Bytes of any part but the last. The default of s3api: 5 MiB. */
  readonly minSegmentSize?: number;
  /** Whether buckets may be named with lower-case letters, digits, dots and dashes only. The default of s3api: true. */
  readonly dnsCompliantBucketNames?: boolean;
}

/** The ports of one Swift, all on 127.0.0.1. */
export interface SwiftPorts {
  readonly proxy: number;
  readonly object: number;
  readonly container: number;
  readonly account: number;
  readonly memcached: number;
}

export interface SwiftConfiguration {
  /** How long a server that made errors is left alone. Swift 2.26 takes whole numbers only. */
  readonly suppressionSeconds: number;
  /** Holds etc/, srv/, cache/, log/. */
  readonly directory: string;
  readonly ports: SwiftPorts;
  readonly region: string;
  readonly limits: SwiftLimits;
  /** Further lines of the proxy's [DEFAULT], such as client_timeout. */
  readonly proxy: Readonly<Record<string, string | number>>;
  /** The account the servers run under; Swift insists on changing to it. */
  readonly user: string;
  /** Whom the proxy asks who somebody is; null: tempauth. */
  readonly keystone: KeystoneFilters | null;
  /** Left out of the proxy's pipeline. */
  readonly without: readonly string[];
}

/** The facts about a Keystone that the proxy needs. */
export interface KeystoneFilters {
  readonly authUrl: string;
  /** Whom s3token asks about signatures; by default `authUrl`. */
  readonly s3tokenUrl?: string;
  /** How long s3token remembers a secret; by default a minute. */
  readonly secretCacheSeconds?: number;
  /** The service user, in project `service`. */
  readonly username: string;
  readonly password: string;
}

/** The users and their rights: the access key of S3 is `<account>:<user>`. */
export const accounts = {
  tester: { accessKey: "test:tester", secretKey: "testing" },
  /** Belongs to the same account and has no rights in it. */
  reader: { accessKey: "test:reader", secretKey: "readonly" },
  /** Another account. */
  stranger: { accessKey: "test2:tester2", secretKey: "testing2" },
  /** May set quotas on any account. */
  admin: { accessKey: "admin:admin", secretKey: "admin" },
} as const;

/** File name under etc/ → content. */
export function swiftFiles(configuration: SwiftConfiguration): Readonly<Record<string, string>> {
  return {
    "swift.conf": swiftConf(configuration.limits),
    "proxy-server.conf": proxyConf(configuration),
    "object-server.conf": storageConf(configuration, "object", OBJECT_EXTRAS),
    "container-server.conf": storageConf(configuration, "container", ""),
    "account-server.conf": storageConf(configuration, "account", ""),
    "serve.py": SERVE,
  };
}

/**
 * Runs one server in the foreground. `swift.conf` is read from /etc/swift whatever a server's own configuration says,
 * unless set_swift_dir is called first (Swift 2.30). With the ports of the others it writes the three rings before that,
 * of one replica on one device: another process would take a second only to load Swift.
 */
const SERVE = `\
import sys
from swift.common.utils import set_swift_dir
directory, server, *ports = sys.argv[1:]
set_swift_dir(directory)
if ports:
    from swift.common.ring import RingBuilder
    for ring, port in zip(("account", "container", "object"), ports):
        builder = RingBuilder(2, 1, 0)
        builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1})
        builder.rebalance()
        builder.get_ring().save(directory + "/" + ring + ".ring.gz")
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(directory + "/" + server + ".conf", server, verbose=True))
`;

function swiftConf(limits: SwiftLimits): string {
  return `\
[swift-hash]
swift_hash_path_prefix = test-prefix
swift_hash_path_suffix = test-suffix

[storage-policy:0]
name = Policy-0
default = yes

[swift-constraints]
${setting("max_file_size", limits.maxFileSize)}
`;
}

/** The common settings of all four servers. `workers = 0`: one process per server, so that one pid is the complete server. */
function commonConf({ directory, user }: SwiftConfiguration, port: number): string {
  return `\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
bind_timeout = 2
workers = 0
user = ${user}
swift_dir = ${directory}/etc
devices = ${directory}/srv
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
recon_cache_path = ${directory}/cache
log_level = INFO
log_udp_host =
eventlet_debug = false`;
}

/** One second, the default, loses listing entries on a loaded machine. */
const OBJECT_EXTRAS = "container_update_timeout = 30";

type StorageServer = "object" | "container" | "account";

function storageConf(configuration: SwiftConfiguration, server: StorageServer, extras: string): string {
  return `\
${commonConf(configuration, configuration.ports[server])}
log_name = swift-${server}
${extras}

[pipeline:main]
pipeline = healthcheck recon ${server}-server

[app:${server}-server]
use = egg:swift#${server}
replication_server = false

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:recon]
use = egg:swift#recon
recon_cache_path = ${configuration.directory}/cache
`;
}

/**
 * The pipeline Swift documents for s3api with tempauth. On a loaded machine memcached, which holds the tokens, takes longer
 * than the 0.3 s that Swift waits. With one node ten errors would shut it out for a minute, hence
 * error_suppression_interval.
 */
function proxyConf(configuration: SwiftConfiguration): string {
  const { ports, region, limits } = configuration;
  const settings = Object.entries({ conn_timeout: 2, node_timeout: 10, ...configuration.proxy });
  return `\
${commonConf(configuration, ports.proxy)}
log_name = swift-proxy
${settings.map(([name, value]) => setting(name, value)).join("\n")}

[pipeline:main]
pipeline = ${pipeline(configuration)}

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
error_suppression_interval = ${configuration.suppressionSeconds}

${configuration.keystone === null ? TEMPAUTH : keystoneFilters(configuration.keystone)}

[filter:s3api]
use = egg:swift#s3api
location = ${region}
${setting("max_upload_part_num", limits.maxUploadPartNum)}
${setting("min_segment_size", limits.minSegmentSize)}
${setting("dns_compliant_bucket_names", limits.dnsCompliantBucketNames?.toString())}

[filter:slo]
use = egg:swift#slo
${setting("max_manifest_segments", limits.maxManifestSegments)}

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${ports.memcached}
connect_timeout = 20
pool_timeout = 20
io_timeout = 20

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
${PLAIN_FILTERS.map(plainFilter).join("")}`;
}

/** With Keystone authtoken stands before s3api: that has its tokens checked, and leaves other requests alone. */
function pipeline({ keystone, without }: SwiftConfiguration): string {
  const auth = keystone === null ? "s3api tempauth" : "authtoken s3api s3token keystoneauth";
  return `\
catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl ratelimit ${auth} staticweb copy \
container-quotas account-quotas slo dlo versioned_writes symlink proxy-logging proxy-server`
    .split(" ")
    .filter((filter) => !without.includes(filter))
    .join(" ");
}

const TEMPAUTH = `\
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = ${accounts.tester.secretKey} .admin
user_test_reader = ${accounts.reader.secretKey}
user_test2_tester2 = ${accounts.stranger.secretKey} .admin
user_admin_admin = ${accounts.admin.secretKey} .admin .reseller_admin`;

/** Keystone reveals secrets only to authenticated users (OSSA-2025-002), hence credentials for s3token too. */
function keystoneFilters({
  authUrl,
  s3tokenUrl = authUrl,
  secretCacheSeconds = 60,
  username,
  password,
}: KeystoneFilters): string {
  const service = `\
auth_url = ${authUrl}
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = ${username}
password = ${password}`;
  return `\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = ${authUrl}
${service}
delay_auth_decision = true
include_service_catalog = false
cache = swift.cache
service_token_roles_required = false

[filter:s3token]
use = egg:swift#s3token
reseller_prefix = AUTH_
auth_uri = ${s3tokenUrl}
${service}
secret_cache_duration = ${secretCacheSeconds}

[filter:keystoneauth]
use = egg:swift#keystoneauth
reseller_prefix = AUTH
operator_roles = admin, member
reseller_admin_role = ResellerAdmin`;
}

/** Filters that need no setting. */
const PLAIN_FILTERS = [
  "catch_errors",
  "gatekeeper",
  "healthcheck",
  "proxy-logging",
  "listing_formats",
  "bulk",
  "tempurl",
  "ratelimit",
  "staticweb",
  "copy",
  "container-quotas",
  "account-quotas",
  "dlo",
  "symlink",
];

function plainFilter(name: string): string {
  return `\n[filter:${name}]\nuse = egg:swift#${name.replaceAll("-", "_")}\n`;
}

function setting(name: string, value: string | number | undefined): string {
  return value === undefined ? "" : `${name} = ${value}`;
}
