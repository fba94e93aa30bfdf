// Whatever an OpenStack user already has: every spelling, every source, and which of them counts.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseEnvFile } from "../../../src/config/environment.ts";
import { readStoreConfig } from "../../../src/config/store.ts";
import { readEnvironment } from "../../../src/config/environment.ts";
import { BackupError } from "../../../src/errors.ts";
import { readKeystoneLogin, type Environment } from "../../../src/config/openstack.ts";

/** The `.env` of a user of the Python tool. */
const dotEnv = {
  ST_AUTH_VERSION: "3",
  OS_AUTH_URL: "https://keystone.example.org/v3",
  OS_USERNAME: "me",
  OS_PASSWORD: "hunter2",
  OS_PROJECT_NAME: "mine",
  OS_REGION_NAME: "GRA",
};
const flags = { containerName: "backup", endpoint: undefined, region: undefined, createCredentials: true };
const domain = { id: "default" };

function refuses(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BackupError);
    assert.equal(error.code, "CONFIG");
    const all = `${error.message} ${error.hint ?? ""} ${JSON.stringify(error.context)}`;
    assert.match(all, message);
    assert.doesNotMatch(all, /hunter2/);
    return true;
  };
}

describe("a login at Keystone", () => {
  test("accepts what the Python tool accepted, with the domains of openstackclient", () => {
    assert.deepEqual(readKeystoneLogin(dotEnv), {
      authUrl: "https://keystone.example.org/v3",
      identity: { kind: "password", user: { name: "me", domain }, password: "hunter2" },
      project: { name: "mine", domain },
      region: "GRA",
      interface: "public",
    });
  });

  const urls = [
    "https://k/v3",
    "https://k/v3/",
    "https://k",
    "https://k/",
    "https://k/v2.0/",
    "https://k/v3/auth/tokens",
  ];
  for (const url of urls) {
    test(`finds version 3 by ${url}`, () => {
      assert.equal(readKeystoneLogin({ ...dotEnv, OS_AUTH_URL: url }).authUrl, "https://k/v3");
    });
  }
  test("keeps the path of a Keystone behind another server", () => {
    assert.equal(
      readKeystoneLogin({ ...dotEnv, OS_AUTH_URL: "https://k:5/identity" }).authUrl,
      "https://k:5/identity/v3",
    );
  });

  const projects: readonly (readonly [env: Environment, project: object | null])[] = [
    [{ OS_PROJECT_ID: "1" }, { id: "1" }],
    [{ OS_TENANT_ID: "1" }, { id: "1" }],
    [
      { OS_PROJECT_NAME: "", OS_TENANT_NAME: "p" },
      { name: "p", domain },
    ],
    [{ OS_PROJECT_NAME: "" }, null],
    [{ OS_PROJECT_DOMAIN_ID: "d" }, { name: "mine", domain: { id: "d" } }],
    [{ OS_PROJECT_DOMAIN_NAME: "D" }, { name: "mine", domain: { name: "D" } }],
    [{ OS_DOMAIN_NAME: "D" }, { name: "mine", domain: { name: "D" } }],
    [{ OS_DEFAULT_DOMAIN: "d" }, { name: "mine", domain: { id: "d" } }],
  ];
  for (const [env, project] of projects) {
    test(`understands ${JSON.stringify(env)}`, () => {
      assert.deepEqual(readKeystoneLogin({ ...dotEnv, ...env }).project, project);
    });
  }

  const password = "hunter2";
  const users: readonly (readonly [env: Environment, identity: object])[] = [
    [{ OS_USER_ID: "1" }, { kind: "password", user: { id: "1" }, password }],
    [{ OS_USER_DOMAIN_NAME: "D" }, { kind: "password", user: { name: "me", domain: { name: "D" } }, password }],
    [
      { OS_USER_DOMAIN_ID: "d", OS_DOMAIN_ID: "e" },
      { kind: "password", user: { name: "me", domain: { id: "d" } }, password },
    ],
    [
      { OS_USERNAME: "", OS_PASSWORD: "", ST_USER: "you", ST_KEY: "k" },
      { kind: "password", user: { name: "you", domain }, password: "k" },
    ],
    [
      { OS_USERNAME: "", OS_PASSWORD: "", OS_TOKEN: "t" },
      { kind: "token", token: "t" },
    ],
    [
      { OS_AUTH_TYPE: "v3token", OS_AUTH_TOKEN: "t" },
      { kind: "token", token: "t" },
    ],
    [
      { OS_USERNAME: "", OS_PASSWORD: "", OS_APPLICATION_CREDENTIAL_ID: "i", OS_APPLICATION_CREDENTIAL_SECRET: "s" },
      { kind: "application credential", credential: { id: "i" }, secret: "s" },
    ],
    // As openstackclient: a leftover application credential counts only where OS_AUTH_TYPE chooses it.
    [
      { OS_APPLICATION_CREDENTIAL_ID: "i", OS_APPLICATION_CREDENTIAL_SECRET: "s" },
      { kind: "password", user: { name: "me", domain }, password, passedOver: "OS_APPLICATION_CREDENTIAL_*" },
    ],
    [
      {
        OS_AUTH_TYPE: "v3applicationcredential",
        OS_APPLICATION_CREDENTIAL_ID: "i",
        OS_APPLICATION_CREDENTIAL_SECRET: "s",
      },
      { kind: "application credential", credential: { id: "i" }, secret: "s" },
    ],
    [
      { OS_AUTH_TYPE: "password", OS_APPLICATION_CREDENTIAL_ID: "i" },
      { kind: "password", user: { name: "me", domain }, password },
    ],
    [
      { OS_PASSWORD: "", OS_APPLICATION_CREDENTIAL_NAME: "n", OS_APPLICATION_CREDENTIAL_SECRET: "s" },
      { kind: "application credential", credential: { name: "n", user: { name: "me", domain } }, secret: "s" },
    ],
    [
      {
        OS_AUTH_TYPE: "v3applicationcredential",
        OS_APPLICATION_CREDENTIAL_NAME: "n",
        OS_APPLICATION_CREDENTIAL_SECRET: "s",
      },
      { kind: "application credential", credential: { name: "n", user: { name: "me", domain } }, secret: "s" },
    ],
  ];
  for (const [env, identity] of users) {
    test(`identifies the user by ${Object.keys(env).join(" ")}`, () => {
      assert.deepEqual(readKeystoneLogin({ ...dotEnv, ...env }).identity, identity);
    });
  }

  test("accepts swiftclient's variables", () => {
    const login = readKeystoneLogin({
      ST_AUTH_VERSION: "3",
      ST_AUTH: "https://k/v3",
      ST_USER: "p:u",
      ST_KEY: "k",
      OS_ENDPOINT_TYPE: "internalURL",
    });
    assert.deepEqual(login, {
      authUrl: "https://k/v3",
      identity: { kind: "password", user: { name: "u", domain }, password: "k" },
      project: { name: "p", domain },
      region: null,
      interface: "internal",
    });
  });

  const incomplete: readonly (readonly [env: Environment, message: RegExp])[] = [
    [{ OS_AUTH_URL: "" }, /OS_AUTH_URL/],
    [{ OS_AUTH_URL: "keystone" }, /OS_AUTH_URL is not a URL/],
    [{ OS_AUTH_URL: "https://me:hunter2@k/v3" }, /OS_AUTH_URL is not a URL/],
    [{ OS_USERNAME: "" }, /set OS_USERNAME/],
    [{ OS_PASSWORD: "" }, /set OS_PASSWORD/],
    [{ OS_AUTH_TYPE: "v3oidcpassword" }, /'v3oidcpassword' is not understood/],
  ];
  for (const [env, message] of incomplete) {
    test(`reports what is wrong with ${JSON.stringify(env)}`, () => {
      assert.throws(() => readKeystoneLogin({ ...dotEnv, ...env }), refuses(message));
    });
  }
});

describe("where the keys come from", () => {
  const aws = { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "hunter2" };
  const tempAuth = { ST_AUTH: "https://swift.example.org/auth/v1.0", ST_USER: "a:b", ST_KEY: "hunter2" };
  const kindOf = (env: Environment): string => {
    const { source } = readStoreConfig(flags, env);
    return source.kind === "keys" ? source.variables : source.kind;
  };

  test("the first of them that is named: AWS, Keystone, TempAuth, the AWS files", () => {
    assert.match(kindOf({ ...aws, ...dotEnv, ...tempAuth, AWS_PROFILE: "p" }), /^AWS_ACCESS_KEY_ID/);
    assert.equal(kindOf({ ...dotEnv, ...tempAuth, AWS_PROFILE: "p" }), "profile");
    assert.equal(kindOf({ ...dotEnv, ...tempAuth }), "keystone");
    assert.equal(kindOf({ ...dotEnv, ...tempAuth, ST_AUTH_VERSION: "1.0" }), "ST_USER and ST_KEY");
    assert.equal(kindOf(tempAuth), "ST_USER and ST_KEY");
    for (const name of ["OS_AUTH_TOKEN", "OS_APPLICATION_CREDENTIAL_NAME"]) {
      assert.throws(() => kindOf({ [name]: "x" }), refuses(/for a login at Keystone .* is missing/));
    }
    assert.equal(kindOf({}), "profile");
  });

  test("TempAuth's user and key are S3 keys, and its proxy is the endpoint", () => {
    const { source, endpoint, keystone } = readStoreConfig(flags, tempAuth);
    assert.deepEqual(source.kind === "keys" ? source.keys : null, { accessKeyId: "a:b", secretAccessKey: "hunter2" });
    assert.deepEqual([endpoint, keystone], ["https://swift.example.org", null]);
  });

  test("Keystone is asked for what is not configured: keys, endpoint, both or nothing", () => {
    const asked = (env: Environment): unknown[] => {
      const { keystone, endpoint } = readStoreConfig(flags, env);
      return [keystone !== null, endpoint];
    };
    assert.deepEqual(asked(dotEnv), [true, null]);
    assert.deepEqual(asked({ ...dotEnv, AWS_ENDPOINT_URL_S3: "https://s3" }), [true, "https://s3"]);
    assert.deepEqual(asked({ ...dotEnv, OS_STORAGE_URL: "https://swift/v1/AUTH_x" }), [true, "https://swift"]);
    assert.deepEqual(asked({ ...dotEnv, ...aws }), [true, null]);
    assert.deepEqual(asked({ ...dotEnv, ...aws, AWS_ENDPOINT_URL_S3: "https://s3" }), [false, "https://s3"]);
  });

  test("an incomplete source is an error, and not skipped", () => {
    assert.throws(
      () => readStoreConfig(flags, { ...dotEnv, AWS_SECRET_ACCESS_KEY: "hunter2" }),
      refuses(/only one of AWS/),
    );
    assert.throws(
      () => readStoreConfig(flags, { ST_AUTH: "https://k", ST_KEY: "hunter2" }),
      refuses(/only some of ST_AUTH/),
    );
    assert.throws(() => readStoreConfig(flags, { OS_USERNAME: "me", OS_PASSWORD: "hunter2" }), refuses(/OS_AUTH_URL/));
  });
});

describe("an env file", () => {
  test("is read as shells, systemd and Docker read it", () => {
    const text = [
      "# comment", "", "A=1", "export B=two words  # comment", "C='single # $x'", 'D="a \\"b\\" \\\\ $x"', " E = spaced ", "F=",
      "G=a#b", "H=p=q", "I=''", "J=x'y\"z",
    ].join("\r\n"); // prettier-ignore
    assert.deepEqual(parseEnvFile(text, "file"), {
      A: "1", B: "two words", C: "single # $x", D: 'a "b" \\ $x', E: "spaced", F: "", G: "a#b", H: "p=q", I: "", J: "x'y\"z",
    }); // prettier-ignore
  });

  test("has the values that a shell reads from it, in the quotes that the reference advises", () => {
    const text = [
      "A=a.b_c-d/e:f@g%h+i,j",
      "export B='two words #1 $x `id` \\ \"'",
      "C=\"it's \\\"1\\\" \\$x \\`id\\` \\\\\"",
      "# comment",
    ].join("\n"); // prettier-ignore
    const script = `${text}\nprintf '%s\\n' "$A" "$B" "$C"`;
    const shell = execFileSync("sh", ["-euc", script], { encoding: "utf8" }).trimEnd().split("\n");
    assert.deepEqual(Object.values(parseEnvFile(text, "file")), shell);
    assert.deepEqual(shell.slice(1), ['two words #1 $x `id` \\ "', 'it\'s "1" $x `id` \\']);
  });

  for (const line of [
    "read -sr OS_PASSWORD_INPUT",
    "unset hunter2",
    "A B=1",
    "=1",
    "OS_PASSWORD='hunter2",
    "A='x'hunter2",
  ]) {
    test(`refuses what only a shell understands, without showing it: ${line}`, () => {
      assert.throws(() => parseEnvFile(`A=1\n${line}`, "/etc/backup.env"), refuses(/line 2 of \/etc\/backup\.env/));
    });
  }
});

describe("what the environment refers to", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "environment-"));
    await mkdir(join(directory, "credentials"));
    await mkdir(join(directory, ".config/openstack"), { recursive: true });
    await writeFile(join(directory, "password"), "hunter2\n");
    await writeFile(join(directory, "credentials/OS_PASSWORD"), "of systemd\n");
    await writeFile(
      join(directory, ".env"),
      Object.entries(dotEnv)
        .map(([name, value]) => `${name}=${value}`)
        .join("\n"),
    );
    await writeFile(join(directory, ".config/openstack/clouds.yaml"), clouds);
    await writeFile(
      join(directory, ".config/openstack/secure.yaml"),
      "clouds:\n  mine:\n    auth:\n      password: 0123\n",
    );
    await writeFile(join(directory, "broken.yaml"), "clouds:\n  mine: {password: hunter2\n  x: ]\n");
    await writeFile(
      join(directory, "public.yaml"),
      "public-clouds:\n  vendor:\n    auth: {auth_url: https://vendor/v3}\n    region_name: V\n",
    );
  });
  after(() => rm(directory, { recursive: true }));

  const none = { envFile: undefined, osCloud: undefined };
  const inHome = (): Environment => ({ HOME: directory });

  test("an env file stands alone: the credentials that happen to be in the environment are ignored", async () => {
    const ambient = { AWS_ACCESS_KEY_ID: "x", OS_PROJECT_ID: "x", ST_KEY: "x", PATH: "/bin" };
    const env = await readEnvironment(ambient, { ...none, envFile: join(directory, ".env") });
    assert.deepEqual(env, { PATH: "/bin", ...dotEnv });
    const missing = readEnvironment({}, { ...none, envFile: join(directory, "missing") });
    await assert.rejects(missing, refuses(/cannot read the env file .*missing: it does not exist/));
  });

  test("secrets are read from files, and systemd's credentials", async () => {
    const others = { ...dotEnv, OS_PASSWORD: "" };
    const file = join(directory, "password");
    assert.equal((await readEnvironment({ ...others, OS_PASSWORD_FILE: file }, none))["OS_PASSWORD"], "hunter2");
    const credentials = { CREDENTIALS_DIRECTORY: join(directory, "credentials") };
    assert.equal((await readEnvironment({ ...others, ...credentials }, none))["OS_PASSWORD"], "of systemd");
    assert.equal((await readEnvironment({ ...dotEnv, ...credentials }, none))["OS_PASSWORD"], "hunter2");
    assert.equal(
      (await readEnvironment(credentials, { ...none, envFile: join(directory, "credentials/../.env") }))["OS_PASSWORD"],
      "hunter2",
    );
    await mkdir(join(directory, "odd/OS_TOKEN"), { recursive: true });
    const odd = readEnvironment({ CREDENTIALS_DIRECTORY: join(directory, "odd") }, none);
    await assert.rejects(odd, refuses(/cannot read the credential OS_TOKEN, .*odd\/OS_TOKEN: it is a directory/));
    await assert.rejects(
      readEnvironment({ ST_KEY_FILE: "/nowhere" }, none),
      refuses(/cannot read the file of ST_KEY_FILE, \/nowhere: it does not exist/),
    );
  });

  test("a cloud of clouds.yaml with its secrets is the login it describes", async () => {
    const env = await readEnvironment(inHome(), { ...none, osCloud: "mine" });
    assert.deepEqual(readKeystoneLogin(env), {
      authUrl: "https://keystone.example.org/v3",
      // Written without quotes: as a number it would be another one.
      identity: { kind: "password", user: { name: "me", domain: { name: "Ours" } }, password: "0123" },
      project: { name: "p", domain: { name: "Ours" } },
      region: "One",
      interface: "internal",
    });
    assert.equal(env["OS_CACERT"], "/etc/ca.pem");
  });

  test("OS_CLOUD alone identifies the user, but the region may be chosen", async () => {
    const ambient = {
      ...inHome(),
      OS_CLOUD: "mine",
      OS_PROJECT_ID: "x",
      OS_USERNAME: "x",
      OS_REGION_NAME: "Two",
      OS_PASSWORD: "x",
    };
    const login = readKeystoneLogin(await readEnvironment(ambient, none));
    assert.deepEqual([login.project, login.region], [{ name: "p", domain: { name: "Ours" } }, "Two"]);
    assert.equal(login.identity.kind === "password" && login.identity.password, "0123");
  });

  test("keys for AWS come before OS_CLOUD, and --os-cloud before them", async () => {
    const ambient = { ...inHome(), AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "s" };
    assert.equal((await readEnvironment({ ...ambient, OS_CLOUD: "not read" }, none))["AWS_ACCESS_KEY_ID"], "id");
    const env = await readEnvironment(ambient, { ...none, osCloud: "mine" });
    assert.equal(readStoreConfig(flags, env).source.kind, "keystone");
  });

  test("application credentials, tokens, profiles and the first of several regions are understood", async () => {
    const identity = async (osCloud: string): Promise<unknown> =>
      readKeystoneLogin(await readEnvironment(inHome(), { ...none, osCloud })).identity;
    assert.deepEqual(await identity("app"), { kind: "application credential", credential: { id: "i" }, secret: "s" });
    assert.deepEqual(await identity("token"), { kind: "token", token: "t" });
    const vendor = await readEnvironment(
      { ...inHome(), OS_CLIENT_VENDOR_FILE: join(directory, "public.yaml") },
      { ...none, osCloud: "vendored" },
    );
    assert.deepEqual([vendor["OS_AUTH_URL"], vendor["OS_REGION_NAME"]], ["https://vendor/v3", "V"]);
    const regional = await readEnvironment(inHome(), { ...none, osCloud: "regional" });
    assert.deepEqual(
      [regional["OS_USERNAME"], regional["OS_USER_DOMAIN_NAME"], regional["OS_REGION_NAME"]],
      ["you", "Ours", "Own"],
    );
    assert.equal(regional["OS_INTERFACE"], "internal");
    const elsewhere = await readEnvironment({ ...inHome(), OS_REGION_NAME: "Other" }, { ...none, osCloud: "regional" });
    assert.deepEqual([elsewhere["OS_REGION_NAME"], elsewhere["OS_INTERFACE"]], ["Other", undefined]);
  });

  test("a file that cannot be read is reported, without any of its content", async () => {
    const cloud = (env: Environment, osCloud: string): Promise<Environment> =>
      readEnvironment({ ...inHome(), ...env }, { ...none, osCloud });
    await assert.rejects(
      cloud({}, "other"),
      refuses(/no cloud 'other' in .*clouds\.yaml there is mine, app, token, vendored, regional/),
    );
    await assert.rejects(
      cloud({ HOME: "/nowhere" }, "mine"),
      refuses(/in any clouds\.yaml it may be in \., \/nowhere\/\.config\/openstack, \/etc\/openstack/),
    );
    await assert.rejects(
      cloud({ OS_CLIENT_CONFIG_FILE: join(directory, "broken.yaml") }, "mine"),
      refuses(/broken\.yaml is not valid YAML: \w+ in line \d/),
    );
    await assert.rejects(cloud({}, "vendored"), refuses(/profile 'vendor' is in no clouds-public\.yaml/));
  });
});

const clouds = `\
clouds:
  mine:
    auth: &auth
      auth_url: https://keystone.example.org
      username: me
      project_name: p
      user_domain_name: Ours
    project_domain_name: Ours
    region_name: One
    interface: internal
    cacert: /etc/ca.pem
  app:
    auth_type: v3applicationcredential
    auth: {auth_url: https://k, application_credential_id: i, application_credential_secret: s}
  token:
    auth: {auth_url: https://k, token: t, project_id: "1"}
  vendored:
    profile: vendor
    auth: {username: me}
  regional:
    auth: {<<: *auth, username: you}
    regions: [{name: Own, values: {interface: internal}}, Other]
`;
