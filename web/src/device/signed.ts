/** Check of a manifest that an offline root has signed. */

import { checkManifest } from "../protocol/root";
import { isPublicKey } from "../protocol/signing";
import { ArtifactError, messageOf } from "./errors";
import type { Source } from "./fetching";
import { isTable } from "./trees";

/**
 * Return the manifest after a check of the root's signature, if the manifest names a root or `root` is given.
 *
 * @param root hex of the root's key that must have signed the manifest; null for the root that the manifest names.
 * @param given the manifest, if it has been read already.
 * @throws ArtifactError if the manifest is not signed, or is signed by another root.
 */
export async function signedManifest(source: Source, root: string | null, given?: unknown): Promise<unknown> {
  const read = given ?? (await source.manifest());
  const named = isTable(read) ? (read.root ?? null) : null;
  if (named === null && root === null) return read;
  if (!isPublicKey(named)) {
    throw new ArtifactError("the manifest names no root, so that nothing vouches for it; sign the artifact");
  }
  if (root !== null && named !== root) {
    const [theirs, ours] = [named.slice(0, 12), root.slice(0, 12)];
    throw new ArtifactError(`the manifest is of root ${theirs}..., this device trusts ${ours}... only`);
  }
  const { manifest, signature } = await source.signed();
  try {
    await checkManifest(named, manifest, new TextDecoder().decode(signature));
  } catch (error) {
    throw new ArtifactError(`the manifest is not signed by the root that it names: ${messageOf(error)}`);
  }
  const signed: unknown = JSON.parse(new TextDecoder().decode(manifest));
  if (!isTable(signed) || signed.root !== named) throw new ArtifactError("the manifest has just changed");
  return signed;
}
