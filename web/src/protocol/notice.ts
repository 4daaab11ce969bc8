/** Signed notice by which a server recalls updates; rules as in `paramcast.protocol.notice`. */

import { type Bytes, joined } from "./bytes";
import { PackageError } from "./errors";
import { MAX_NOTICE_BYTES, MAX_SEQUENCE, MAX_TIME, MAX_WITHDRAWN, SHA256 } from "./limits";
import { checkSignature } from "./signing";

const MAGIC = [0x50, 0x43, 0x4e, 0x54]; // PCNT
const FORMAT = 1;
const BODY = MAGIC.length + 1 + 64;
/** Seconds. An issue time that is later than a notice's time by more than this was given by a wrong clock. */
const SKEW = 86400;

/** Header of answers to `/v1/adapt` with the notice in base64url. */
export const NOTICE_HEADER = "paramcast-notice";

export interface Notice {
  /** sha256 of the base model. */
  model: string;
  /** Grows with every change, and orders notices independently of clocks. */
  number: number;
  /** Unix seconds when the notice was signed, and (`until`) from which a newer one should exist. */
  time: number;
  until: number;
  /** Versions of the model whose updates may not be run. */
  withdrawn: readonly number[];
  /** Unix seconds; updates that were issued earlier may not be run. */
  since: number;
  /** Whether devices run their base model. */
  toBase: boolean;
  generation: number;
}

/**
 * Check a notice's signature, generation and base model; nothing is parsed before the signature is checked.
 *
 * @param generation generation in which the root has delegated the key; null if no root is known.
 * @throws PackageError for the first broken rule.
 */
export async function openNotice(
  data: Bytes,
  publicKey: string,
  model: string,
  generation: number | null = null,
): Promise<Notice> {
  if (data.length > MAX_NOTICE_BYTES) {
    throw new PackageError("TooLarge", `the notice has ${data.length} bytes, more than ${MAX_NOTICE_BYTES}`);
  }
  if (data.length < BODY || MAGIC.some((byte, place) => data[place] !== byte)) {
    throw new PackageError("BadFormat", "these bytes are no notice");
  }
  const kind = data.subarray(MAGIC.length, MAGIC.length + 1);
  if (kind[0] !== FORMAT) {
    throw new PackageError("BadFormat", `notice format ${kind[0]} is unknown here; this page reads 1`);
  }
  const body = data.subarray(BODY);
  await checkSignature(publicKey, joined(kind, body), data.subarray(MAGIC.length + 1, BODY));
  const notice = decoded(body);
  if (generation !== null && notice.generation !== generation) {
    const text = `the notice is of generation ${notice.generation}, the key is trusted in ${generation}`;
    throw new PackageError("WrongGeneration", text);
  }
  if (notice.model !== model) {
    const [theirs, ours] = [notice.model.slice(0, 12), model.slice(0, 12)];
    throw new PackageError("WrongModel", `the notice is for base model ${theirs}, this device runs ${ours}`);
  }
  return notice;
}

/** Return why an update of this version and issue time may not be run; null if it may be run. */
export function refusal(notice: Notice, version: number | null, issued: number | null): string | null {
  if (version !== null && notice.withdrawn.includes(version)) {
    return `version ${version} of the model is withdrawn`;
  }
  const { since, time } = notice;
  if (since && (issued === null || issued < since || issued > time + SKEW)) {
    return `updates that were issued before ${since} (unix seconds) are called back`;
  }
  return null;
}

/** Check whether `notice` replaces `other`, which the same key has signed. */
export function replaces(notice: Notice, other: Notice, now: number): boolean {
  if (notice.number !== other.number) return notice.number > other.number;
  return notice.time >= other.time || other.time > now + SKEW;
}

/** Check whether `notice` may recall an update that `other` does not recall; a later time alone recalls none. */
export function saysMore(notice: Notice, other: Notice): boolean {
  const isSame = notice.since === other.since && notice.withdrawn.join() === other.withdrawn.join();
  return !isSame || notice.time < other.time;
}

function decoded(body: Bytes): Notice {
  const text = new TextDecoder().decode(body);
  let told: Record<string, unknown>;
  try {
    told = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new PackageError("BadFormat", "the notice is malformed");
  }
  const { b, g, i, m, n, t, u, w } = (told ?? {}) as Record<string, unknown>;
  const isNumber = (value: unknown) =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= MAX_TIME;
  const isVersions = Array.isArray(w) && w.every((one) => isNumber(one) && one >= 1 && one <= MAX_SEQUENCE);
  const isSound =
    [g, i, n, t, u].every(isNumber) &&
    typeof m === "string" &&
    SHA256.test(m) &&
    typeof b === "boolean" &&
    (u as number) >= (t as number) &&
    isVersions &&
    w.length <= MAX_WITHDRAWN &&
    w.every((one, place) => place === 0 || w[place - 1] < one) &&
    JSON.stringify({ b, g, i, m, n, t, u, w }) === text; // only the canonical form
  if (!isSound) throw new PackageError("BadFormat", "the notice is malformed");
  return {
    model: m,
    number: n as number,
    time: t as number,
    until: u as number,
    withdrawn: w as number[],
    since: i as number,
    toBase: b,
    generation: g as number,
  };
}
