/** Client of the cloud. It checks every answer, and records all exchanges with their bytes. */

import { type Bytes, fromBase64Url, utf8 } from "../protocol/bytes";
import { authorize, checkTime, type Endorsement, follow, newNonce, proveKey } from "../protocol/credentials";
import { asksForKeys } from "../protocol/errors";
import { MAX_NOTICE_BYTES, MAX_PACKAGE_BYTES } from "../protocol/limits";
import { NOTICE_HEADER } from "../protocol/notice";
import type { Package } from "../protocol/package";
import { checkDelegation, isDelegation } from "../protocol/root";
import { isPublicKey, makeKey, publicKeyHex } from "../protocol/signing";
import { CloudError, messageOf, NotEnrolled } from "./errors";
import type { Identity, Store } from "./store";
import type { Keys } from "./trust";

const MAX_JSON_BYTES = 1024 * 1024;
const TIMEOUT_MS = 30_000;
/** Codes of refusals that enrollment with a token resolves. */
const NOT_ENROLLED: unknown[] = ["unsigned", "unknown", "revoked"];

/** One exchange; `up` and `down` are the bytes of the bodies without headers. */
export interface Exchange {
  what: string;
  up: number;
  down: number;
  status: number;
  milliseconds: number;
}

/** Device that packages are made for. */
export interface Adaptable {
  /** sha256 of the device's base model. */
  readonly model: string;
  /** Hex of the cloud's key that the device trusts; null if it knows none yet. */
  readonly publicKey: string | null;
  request(): Bytes;
  apply(bytes: Bytes): Promise<Package>;
  trust(publicKey: unknown): Promise<void>;
  /** Hex of the root's key, which decides which of the cloud's keys is trusted; null if there is no root. */
  readonly root: string | null;
  follow(keys: Keys): Promise<void>;
  heed(bytes: Bytes): Promise<boolean>;
}

interface Call {
  method: "GET" | "POST";
  path: string;
  body?: Bytes;
  type?: string;
  limit: number;
  /** Whether an enrolled device signs the call. */
  signed?: boolean;
}

export class Cloud {
  /** All exchanges since the page was loaded. */
  readonly log: Exchange[] = [];
  /** Notice of the last answer. */
  private notice: Bytes | null = null;
  private aheadUs = 0;
  private lastUs = 0;

  /** @param identity identity of the device; after the enrollment, its requests are signed. */
  constructor(
    private readonly service: string,
    private readonly store: Store,
    private identity: Identity,
  ) {}

  get enrolled(): boolean {
    return this.identity.key !== null && this.identity.cloudKey !== "";
  }

  /**
   * Request a package for the device and take it up; the cloud's key is trusted on first use.
   *
   * @throws CloudError or NotEnrolled if the cloud cannot be reached or refuses; PackageError if the package may not
   *   be run.
   */
  async adapt(device: Adaptable): Promise<Package> {
    const body = device.request();
    if (device.publicKey === null) await this.trust(device);
    const call: Call = { method: "POST", path: "/v1/adapt", body, limit: MAX_PACKAGE_BYTES, signed: true };
    this.notice = null;
    try {
      const sealed = await this.send({ ...call, type: "application/octet-stream" });
      return await this.withKeys(device, () => device.apply(sealed));
    } finally {
      const came = this.notice as Bytes | null;
      // Errors of the notice are suppressed: the caller did not ask for it.
      if (came) await this.withKeys(device, () => device.heed(came)).catch(() => undefined);
    }
  }

  /**
   * Give the device the cloud's notice of recalled packages.
   *
   * @returns whether another package, or the base model, runs because of the notice.
   * @throws CloudError if the cloud cannot be reached; PackageError if the notice is not valid or too old.
   */
  async heed(device: Adaptable): Promise<boolean> {
    const path = `/v1/notice/${device.model}`;
    const data = await this.send({ method: "GET", path, limit: MAX_NOTICE_BYTES });
    if (device.publicKey === null) await this.trust(device);
    return this.withKeys(device, () => device.heed(data));
  }

  /** Call `take`; call it again if the cloud may have a newer key, which the root or the trusted key has signed. */
  private async withKeys<T>(device: Adaptable, take: () => Promise<T>): Promise<T> {
    try {
      return await take();
    } catch (error) {
      if (!asksForKeys(error)) throw error;
      await device.follow(await this.keys());
      return take();
    }
  }

  /** Enroll the device with a one-time token; from then on its requests are signed. @throws CloudError */
  async enrol(token: string): Promise<void> {
    const { device } = this.identity;
    const key = this.identity.key ?? (await makeKey()); // the key of an earlier attempt is used again
    this.identity = { device, key, cloudKey: "" };
    await this.store.saveIdentity(this.identity);
    const asked = {
      token,
      device,
      public_key: await publicKeyHex(key),
      proof: await proveKey(key, device, token),
    };
    const reply = await this.json({
      method: "POST",
      path: "/v1/enrol",
      body: utf8(JSON.stringify(asked)),
      type: "application/json",
      limit: MAX_JSON_BYTES,
    });
    if (!isPublicKey(reply.public_key)) throw new CloudError("the cloud gave no public key");
    const root = isPublicKey(reply.root) ? reply.root : null;
    this.identity = { device, key, cloudKey: reply.public_key, root };
    await this.store.saveIdentity(this.identity);
  }

  private async trust(device: Adaptable): Promise<void> {
    if (device.root !== null) {
      await device.follow(await this.keys());
      return;
    }
    const path = `/v1/model?model=${device.model}`;
    const described = await this.json({ method: "GET", path, limit: MAX_JSON_BYTES });
    if (described.model !== device.model) {
      throw new CloudError(
        "the cloud adapts another base model than the one that this device runs; load it again",
      );
    }
    // An enrolled device has known its cloud's key since it enrolled; that key endorses later ones.
    await device.trust(this.identity.cloudKey || described.public_key);
  }

  private async keys(): Promise<Keys> {
    const told = await this.json({ method: "GET", path: "/v1/keys", limit: MAX_JSON_BYTES });
    const { endorsements, delegation = null } = told;
    const isWord = delegation === null || isDelegation(delegation);
    if (!Array.isArray(endorsements) || !endorsements.every(isEndorsement) || !isWord) {
      throw new CloudError("the cloud's answer is no chain of keys");
    }
    return { endorsements, delegation };
  }

  private async json(call: Call): Promise<Record<string, unknown>> {
    return jsonObject(await this.send(call));
  }

  /** Send a call and return the body of a good answer. @throws CloudError for any other answer. */
  private async send(call: Call, mayMendClock = true): Promise<Bytes> {
    const nonce = newNonce();
    const headers = new Headers(call.type ? { "content-type": call.type } : {});
    if (call.signed && this.enrolled) headers.set("authorization", await this.signature(call, nonce));
    const { status, data, later } = await this.exchange(call, headers);
    if (status >= 200 && status < 300) return data;
    const told = jsonOrNothing(data);
    if (mayMendClock && (await this.mendClock(told, nonce))) return this.send(call, false);
    const text = typeof told.error === "string" ? told.error.slice(0, 300) : "no reason given";
    const when = later ? `; it asks to come back in ${later} s` : "";
    const refusal = `the cloud answered ${status}: ${text}${when}`;
    throw NOT_ENROLLED.includes(told.code) ? new NotEnrolled(refusal) : new CloudError(refusal);
  }

  private async signature(call: Call, nonce: string): Promise<string> {
    const { device, key } = this.identity;
    this.lastUs = Math.max(Date.now() * 1000 + this.aheadUs, this.lastUs + 1);
    const body = call.body ?? new Uint8Array();
    return authorize(key!, {
      device,
      method: call.method,
      path: call.path,
      body,
      timeUs: this.lastUs,
      nonce,
    });
  }

  /** Set the clock to the signed time in the cloud's refusal of the request with `nonce`; return whether it has one. */
  private async mendClock(told: Record<string, unknown>, nonce: string): Promise<boolean> {
    const { time_us: timeUs, signature } = told;
    if (!this.enrolled || !Number.isSafeInteger(timeUs) || typeof signature !== "string") return false;
    const check = () => checkTime(this.identity.cloudKey, nonce, timeUs as number, signature);
    try {
      await check().catch(async () => {
        await this.followKey(); // the cloud may have a newer key, which the known key endorsed
        await check();
      });
    } catch {
      return false;
    }
    this.aheadUs = (timeUs as number) - Date.now() * 1000;
    this.lastUs = 0;
    return true;
  }

  private async followKey(): Promise<void> {
    const { endorsements, delegation } = await this.keys();
    const { root, generation = 0, cloudKey } = this.identity;
    if (root) {
      if (delegation === null || delegation.generation <= generation) return;
      await checkDelegation(delegation, root);
      this.identity = {
        ...this.identity,
        cloudKey: delegation.key,
        generation: delegation.generation,
      };
    } else {
      this.identity = { ...this.identity, cloudKey: await follow(cloudKey, endorsements) };
    }
    await this.store.saveIdentity(this.identity);
  }

  private async exchange(
    call: Call,
    headers: Headers,
  ): Promise<{ status: number; data: Bytes; later: string }> {
    const start = performance.now();
    const record: Exchange = {
      what: `${call.method} ${call.path.split("?")[0]}`,
      up: call.body?.length ?? 0,
      down: 0,
      status: 0,
      milliseconds: 0,
    };
    this.log.push(record);
    try {
      const response = await fetch(this.service + call.path, {
        method: call.method,
        headers,
        body: call.body,
        cache: "no-store",
        credentials: "omit",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const data = await limited(response, call.limit);
      const notice = response.headers.get(NOTICE_HEADER);
      if (notice !== null) this.notice = fromBase64Url(notice);
      record.status = response.status;
      record.down = data.length;
      return { status: response.status, data, later: response.headers.get("retry-after") ?? "" };
    } catch (error) {
      if (error instanceof CloudError) throw error;
      throw new CloudError(`no answer from the cloud: ${messageOf(error)}`);
    } finally {
      record.milliseconds = performance.now() - start;
    }
  }
}

/** Read the whole body. @throws CloudError if it is longer than `limit`; the rest is then not read. */
async function limited(response: Response, limit: number): Promise<Bytes> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader!.read()) {
    size += part.value.length;
    if (size > limit) throw new CloudError(`the cloud's answer has more than ${limit} bytes`);
    chunks.push(part.value);
  }
  return new Uint8Array(await new Blob(chunks as Bytes[]).arrayBuffer());
}

function jsonObject(data: Bytes): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(data));
  } catch {
    value = null;
  }
  if (typeof value !== "object" || value === null)
    throw new CloudError("the cloud's answer is no JSON object");
  return value as Record<string, unknown>;
}

function jsonOrNothing(data: Bytes): Record<string, unknown> {
  try {
    return jsonObject(data);
  } catch {
    return {};
  }
}

function isEndorsement(link: unknown): link is Endorsement {
  const { old, new: next, signature } = (link ?? {}) as Record<string, unknown>;
  return [old, next, signature].every((text) => typeof text === "string");
}
