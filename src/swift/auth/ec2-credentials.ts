// The S3 keys that Keystone keeps for a project: its "EC2 credentials". An existing pair is used; there is never a
// reason for a second one.

import { createHash, randomBytes } from "node:crypto";
import { BackupError } from "../../errors.ts";
import type { Credentials } from "../client.ts";
import type { HttpAnswer } from "../http.ts";
import { field, list, parseJson, text } from "../../json.ts";
import { findS3, subject, type Session } from "./keystone.ts";
import { ask } from "./ask-keystone.ts";

/** The S3 keys of the project; null when there are none. @throws ACCESS_DENIED, STORE_UNAVAILABLE, ABORTED */
export async function findKeys(session: Session, signal: AbortSignal): Promise<Credentials | null> {
  const answer = await ask(keysUrl(session), authorized(session), signal);
  if (answer.status >= 300) throw refusal(session, answer);
  const ours = list(parseJson(answer.text), "credentials")
    // A pair that was made for a trust acts as another user.
    .filter((pair) => text(pair, "tenant_id") === session.project.id && text(pair, "trust_id") === null)
    .sort((a, b) => (String(text(a, "access")) < String(text(b, "access")) ? -1 : 1));
  return ours[0] === undefined ? null : readPair(ours[0]);
}

/**
 * Makes a pair of S3 keys for the project. Keystone accepts only one credential of a name, and the name consists of
 * user and project. So of several simultaneous runs, one makes the pair, and the others get null and find it.
 * @throws as {@link findKeys}
 */
export async function createKeys(session: Session, signal: AbortSignal): Promise<Credentials | null> {
  const { login, user, project } = session;
  const accessKeyId = createHash("sha256").update(`${user.id} ${project.id}`).digest("hex").slice(0, 32);
  const keys = { accessKeyId, secretAccessKey: randomBytes(20).toString("hex") };
  const blob = JSON.stringify({ access: keys.accessKeyId, secret: keys.secretAccessKey });
  const body = { credential: { type: "ec2", user_id: user.id, project_id: project.id, blob } };
  const { status } = await ask(
    `${login.authUrl}/credentials`,
    { ...authorized(session), method: "POST", body },
    signal,
  );
  if (status === 201) return keys;
  return status === 409 ? null : letKeysBeCreated(session, signal);
}

/** For servers where users may not choose the name, such as Keystone before 2019. */
async function letKeysBeCreated(session: Session, signal: AbortSignal): Promise<Credentials> {
  const options = { ...authorized(session), method: "POST", body: { tenant_id: session.project.id } };
  // If it were repeated after a lost answer, it could make a second pair.
  const answer = await ask(keysUrl(session), options, signal, 0);
  if (answer.status >= 300) throw refusal(session, answer);
  const pair = readPair(field(parseJson(answer.text), "credential"));
  if (pair !== null) return pair;
  throw new BackupError("STORE_UNAVAILABLE", `Keystone answers ${String(answer.status)} instead of new S3 keys`);
}

function keysUrl({ login, user }: Session): string {
  return `${login.authUrl}/users/${encodeURIComponent(user.id)}/credentials/OS-EC2`;
}

function authorized({ token, network }: Session) {
  return { headers: { "x-auth-token": token }, network };
}

function refusal(session: Session, { status }: HttpAnswer): BackupError {
  const { login, user, project } = session;
  if (login.identity.kind === "password") {
    return new BackupError(
      "ACCESS_DENIED",
      `Keystone gives user '${user.name}' no S3 keys for project '${project.name}' (status ${String(status)})`,
      { hint: "ask the operator for EC2 credentials, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" },
    );
  }
  const { endpoint } = findS3(session);
  return new BackupError("ACCESS_DENIED", `Keystone gives no S3 keys to ${subject(login)} (status ${String(status)})`, {
    hint:
      "log in with OS_USERNAME and OS_PASSWORD; or make keys once with `openstack ec2 credentials create` as that user" +
      ` and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL_S3=${endpoint}`,
  });
}

function readPair(pair: unknown): Credentials | null {
  const [accessKeyId, secretAccessKey] = [text(pair, "access"), text(pair, "secret")];
  return accessKeyId === null || secretAccessKey === null ? null : { accessKeyId, secretAccessKey };
}
