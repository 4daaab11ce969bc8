/** Signatures of an offline root key: of the online key and of artifacts' manifests; see `paramcast.protocol.root`. */

import { type Bytes, fromHex, joined, utf8 } from "./bytes";
import { PackageError } from "./errors";
import { checkSignature, isPublicKey } from "./signing";

/** Delegation of an online key by the root. */
export interface Delegation {
  /** Public keys, hex. */
  root: string;
  generation: number;
  key: string;
  /** Unix seconds from which the key may no longer sign. */
  not_after: number;
  signature: string;
}

export function isDelegation(value: unknown): value is Delegation {
  if (typeof value !== "object" || value === null) return false;
  const { root, generation, key, not_after: end, signature } = value as Record<string, unknown>;
  return (
    Object.keys(value).length === 5 &&
    typeof root === "string" &&
    Number.isSafeInteger(generation) &&
    (generation as number) >= 1 &&
    isPublicKey(key) &&
    Number.isSafeInteger(end) &&
    (end as number) >= 0 &&
    typeof signature === "string"
  );
}

/** Check a delegation. @throws PackageError BadSignature if `root` (hex) has not signed it. */
export async function checkDelegation(word: Delegation, root: string): Promise<void> {
  if (word.root !== root) {
    const [theirs, ours] = [word.root.slice(0, 12), root.slice(0, 12)];
    throw new PackageError(
      "BadSignature",
      `the delegation is of root ${theirs}..., this device trusts ${ours}...`,
    );
  }
  const said = `paramcast delegation 1\n${word.generation}\n${word.key}\n${word.not_after}\n`;
  await checkSignature(root, utf8(said), fromHex(word.signature));
}

/** Check a manifest. @throws PackageError BadSignature if `root` (hex) has not signed its bytes. */
export async function checkManifest(root: string, manifest: Bytes, signature: string): Promise<void> {
  await checkSignature(root, joined(utf8("paramcast manifest 1\n"), manifest), fromHex(signature.trim()));
}
