/** Ed25519 by WebCrypto: keys that never leave the browser, and checks of the cloud's signatures. */

import { type Bytes, fromHex, toHex } from "./bytes";
import { PackageError } from "./errors";
import { SHA256 } from "./limits";

const ALGORITHM = "Ed25519";

/** Check whether `text` has the form of a public key: 64 lower-case hex digits. */
export function isPublicKey(text: unknown): text is string {
  return typeof text === "string" && SHA256.test(text);
}

/** Make a key pair whose private half can be used but not read. */
export async function makeKey(): Promise<CryptoKeyPair> {
  return (await crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"])) as CryptoKeyPair;
}

export async function publicKeyHex(pair: CryptoKeyPair): Promise<string> {
  return toHex(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
}

export async function sign(pair: CryptoKeyPair, data: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign(ALGORITHM, pair.privateKey, data));
}

/** Check a signature of `data`. @throws PackageError BadSignature if it is not valid for `publicKey` (hex). */
export async function checkSignature(publicKey: string, data: Bytes, signature: Bytes | null): Promise<void> {
  if (!isPublicKey(publicKey)) {
    throw new PackageError("BadSignature", "the public key is not 64 lower-case hex digits");
  }
  let holds = false;
  try {
    const key = await crypto.subtle.importKey("raw", fromHex(publicKey)!, ALGORITHM, false, ["verify"]);
    holds = signature !== null && (await crypto.subtle.verify(ALGORITHM, key, signature, data));
  } catch {
    // the 32 bytes are no point of the curve
  }
  if (!holds) {
    throw new PackageError(
      "BadSignature",
      "the signature does not fit the package and this cloud's public key",
    );
  }
}
