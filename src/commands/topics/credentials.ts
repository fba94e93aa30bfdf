// `help credentials`: the login, the endpoint, and the variables that name them.

import { secretVariables } from "../../config/environment.ts";
import type { Section } from "../../terminal/manual.ts";

export const credentials: Section = {
  title: "Credentials",
  blocks: [
    "The first of these that you set is used; `doctor` and `config show` report which:",
    {
      terms: [
        {
          term: "1. What flags name",
          meaning:
            "--env-file FILE, with lines NAME=VALUE; or --os-cloud NAME, as 4. With either, the AWS_*, OS_* and ST_* variables of the environment are ignored.",
        },
        {
          term: "2. AWS",
          meaning: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN), or AWS_PROFILE and the AWS files.",
        },
        {
          term: "3. Keystone",
          meaning:
            "OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME, as the openstack client takes them; or OS_TOKEN.",
        },
        { term: "4. A cloud", meaning: "OS_CLOUD: a cloud of clouds.yaml and secure.yaml, which is a login as in 3." },
        { term: "5. TempAuth", meaning: "ST_AUTH, ST_USER and ST_KEY, which s3api accepts as S3 keys." },
        { term: "6. AWS files", meaning: "Their default profile." },
      ],
    },
    "From Keystone, the program takes the user's S3 keys for the project (EC2 credentials). Where there are none it creates one pair, unless --no-create-credentials is given. Application credentials, and tokens made with them, cannot do this: log in with a password, or make keys once with `openstack ec2 credentials create` and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    "Secrets never go on the command line. A variable with _FILE added to its name gives the file that holds the value; under systemd LoadCredential=NAME:FILE does the same. This works for " +
      `${secretVariables.join(", ")}.`,
    "With S3 keys and the address of the store, three variables are enough on any machine:",
    {
      lines: [
        "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
        "export AWS_ENDPOINT_URL_S3=https://swift.example.org",
        "btrfs-snapshots-to-swift list --container-name backup",
      ],
    },
  ],
};

export const environment: Section = {
  title: "Environment",
  blocks: [
    {
      terms: [
        { term: "AWS_*, OS_*, ST_*", meaning: "The login." },
        {
          term: "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, OS_STORAGE_URL",
          meaning:
            "The address of the store, after --endpoint; else the profile's endpoint_url, else Keystone's catalog for OS_REGION_NAME and OS_INTERFACE.",
        },
        {
          term: "AWS_REGION, OS_REGION_NAME",
          meaning: "The region to try first; the store reports its own. --region is used as it is.",
        },
        {
          term: "OS_CACERT, AWS_CA_BUNDLE, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS",
          meaning: "PEM files of certificate authorities to trust in addition to those of the system.",
        },
        {
          term: "https_proxy, http_proxy, all_proxy, no_proxy",
          meaning: "Proxies for Keystone and the store, as in curl.",
        },
        { term: "BTRFS_SNAPSHOTS_TO_SWIFT_REQUIRE_ENCRYPTION", meaning: "yes: as --require-encryption." },
        {
          term: "STATE_DIRECTORY, XDG_STATE_HOME, CACHE_DIRECTORY, XDG_CACHE_HOME, HOME",
          meaning: "Where the program keeps its files. For root these are /var/lib and /var/cache.",
        },
        { term: "NO_COLOR, TERM=dumb", meaning: "No colour, no status line." },
      ],
    },
  ],
};
