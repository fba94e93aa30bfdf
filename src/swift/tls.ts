// Diagnoses a TLS connection, by the codes of OpenSSL and Node: each cause has its own remedy.

import type { FailureCode } from "../errors.ts";

/** The meaning of a failure. */
export interface Diagnosis {
  readonly code: FailureCode;
  readonly message: string;
  readonly hint?: string;
}

interface TlsError {
  readonly code: string;
  /** The message of the error. */
  readonly message: string;
  /** The hosts of the certificate, as Node formats them. */
  readonly altNames: string | null;
}

/** Null when the code is not of TLS. */
export function judgeTls({ code, message, altNames }: TlsError, server: URL): Diagnosis | null {
  const where = hostAndPort(server);
  const certificate = `the certificate of ${where}`;
  if (isNoTls(code, message)) {
    return { code: "CONFIG", message: `${where} does not speak TLS`, hint: "its URL may have to begin with http://" };
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return {
      code: "CONFIG",
      message: `${certificate} is for another host${listNames(altNames)}`,
      hint: `use the name that the certificate has; if ${server.hostname} is right, another server answers there`,
    };
  }
  if (code === "CERT_HAS_EXPIRED") {
    return {
      code: "CONFIG",
      message: `${certificate} has expired; this machine's clock says ${today()}`,
      hint: "if that is the date, the operator of the server must renew it; else set the clock, by NTP for example",
    };
  }
  if (code === "CERT_NOT_YET_VALID") {
    return {
      code: "CONFIG",
      message: `${certificate} is not valid yet; this machine's clock says ${today()}`,
      hint: "if that is not the date, set the clock, by NTP for example",
    };
  }
  if (unknownAuthority.test(code)) {
    return {
      code: "CONFIG",
      message: `${certificate} is signed by an authority that is not known here (${code})`,
      hint: `if it is one of your own, name it with OS_CACERT=FILE${incomplete.test(code) ? "; the server may also not send its complete chain" : ""}`,
    };
  }
  if (/^CERT_/.test(code)) return { code: "CONFIG", message: `${certificate} cannot be trusted (${code})` };
  if (!/^(EPROTO|ERR_TLS_|ERR_SSL_)/.test(code)) return null;
  const reason = /:SSL routines:[^:]*:([^:]+)/.exec(message)?.[1] ?? code;
  return {
    code: "CONFIG",
    message: `${where} and this machine do not agree on TLS (${reason})`,
    hint: "check the URL and the port",
  };
}

const unknownAuthority = /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(VERIFY|GET)_)/;
const incomplete = /^UNABLE_TO_/;

/** Newer versions of Node have the reason in the code. */
function isNoTls(code: string, message: string): boolean {
  if (/^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)$/.test(code)) return true;
  return code === "EPROTO" && /wrong version number|packet length/.test(message);
}

function listNames(altNames: string | null): string {
  const names = (altNames ?? "")
    .split(", ")
    .map((name) => name.replace(/^(DNS|IP Address):/, ""))
    .filter(Boolean);
  return names.length === 0 ? "" : `: ${names.slice(0, 5).join(", ")}`;
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}

export function hostAndPort({ hostname, port, protocol }: URL): string {
  return `${hostname}:${port || (protocol === "https:" ? "443" : "80")}`;
}
