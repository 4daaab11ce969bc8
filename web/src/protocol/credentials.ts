/** Signatures of requests, and endorsements of signing keys; see `paramcast.protocol.credentials`. */

import { type Bytes, fromHex, joined, sha256, toBase64Url, toHex, utf8 } from "./bytes";
import { PackageError } from "./errors";
import { checkSignature, isPublicKey, sign } from "./signing";

export interface Asked {
  device: string;
  method: string;
  path: string;
  body: Bytes;
  /** Unix microseconds. */
  timeUs: number;
  nonce: string;
}

/** Make the value of the `authorization` header that signs a request. */
export async function authorize(key: CryptoKeyPair, asked: Asked): Promise<string> {
  const { device, method, path, timeUs, nonce } = asked;
  const said = utf8(`paramcast request 1\n${method} ${path}\n${device}\n${timeUs}\n${nonce}\n`);
  const signature = await sign(key, joined(said, await sha256(asked.body)));
  return `Paramcast ${device} ${timeUs} ${nonce} ${toBase64Url(signature)}`;
}

export function newNonce(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(16)));
}

/** Make the proof of possession of `key` that enrollment with a token needs. */
export async function proveKey(key: CryptoKeyPair, device: string, secret: string): Promise<string> {
  return toHex(await sign(key, utf8(`paramcast key of a device 1\n${device}\n${secret}\n`)));
}

/** Check a time. @throws PackageError BadSignature if the cloud did not sign it for the request with this nonce. */
export async function checkTime(
  key: string,
  nonce: string,
  timeUs: number,
  signature: string,
): Promise<void> {
  await checkSignature(key, utf8(`paramcast time 1\n${nonce}\n${timeUs}\n`), fromHex(signature));
}

/** Endorsement of a signing key by the former one: a device that trusts `old` may trust `new` (public keys, hex). */
export interface Endorsement {
  old: string;
  new: string;
  signature: string;
}

/**
 * Return the last key of the chain that begins at `trusted`; each link's signature is checked.
 *
 * @throws PackageError BadSignature if a link is not signed by the preceding key, or the chain is circular.
 */
export async function follow(trusted: string, endorsements: readonly Endorsement[]): Promise<string> {
  const links = new Map(endorsements.map((link) => [link.old, link]));
  const seen = new Set([trusted]);
  let key = trusted;
  for (let link = links.get(key); link !== undefined; link = links.get(key)) {
    await checkSignature(link.old, utf8(`paramcast signing key 1\n${link.new}\n`), fromHex(link.signature));
    if (seen.has(link.new) || !isPublicKey(link.new)) {
      throw new PackageError("BadSignature", "the chain of signing keys goes in a circle or ends in no key");
    }
    key = link.new;
    seen.add(key);
  }
  return key;
}
