/** Keys of the cloud that a device trusts; see `paramcast.device.trust`. */

import { type Endorsement, follow } from "../protocol/credentials";
import { PackageError } from "../protocol/errors";
import { checkDelegation, type Delegation, isDelegation } from "../protocol/root";
import { isPublicKey } from "../protocol/signing";
import { CloudError } from "./errors";
import type { Store } from "./store";

/** The cloud's answer about its keys. */
export interface Keys {
  endorsements: readonly Endorsement[];
  delegation: Delegation | null;
}

export class TrustedKeys {
  /** Hex, the newest first. The newest key checks arriving data; the former keys check the store. */
  keys: readonly string[];
  private delegation: Delegation | null = null;

  /** @param root hex of the root's key; only keys that the root delegates are then trusted. */
  constructor(
    given: string | null,
    readonly root: string | null,
    private readonly store: Store,
  ) {
    this.keys = given && root === null ? [given] : [];
  }

  get newest(): string | null {
    return this.keys[0] ?? null;
  }

  /** Generation in which the root has delegated the newest key; 0 before that, null without a root. */
  get generation(): number | null {
    return this.root === null ? null : (this.delegation?.generation ?? 0);
  }

  /** Take over the keys that the store has pinned. */
  async start(): Promise<void> {
    if (this.root === null) {
      const pinned = await this.store.keys();
      // If the given key is in the pinned chain, the whole chain is trusted.
      if (!this.keys.length || pinned.includes(this.keys[0])) this.keys = pinned;
      return;
    }
    const word = await this.store.delegation(this.root);
    if (isDelegation(word)) await this.take(word).catch(() => undefined); // damaged; the cloud has it
  }

  /** Return the key that checks arriving data. @throws PackageError if no key is known, or its delegation has ended. */
  checked(): string {
    if (this.newest === null) throw new PackageError("NoPublicKey", "this device knows no cloud key yet");
    const end = this.delegation?.not_after ?? Infinity;
    if (Date.now() / 1000 >= end) {
      throw new PackageError("BadSignature", `the root's delegation ended at ${end} (unix seconds)`);
    }
    return this.newest;
  }

  /** Pin the key of the first cloud that the device reaches. @throws CloudError if it already trusts another key. */
  async pin(publicKey: unknown): Promise<void> {
    if (!isPublicKey(publicKey))
      throw new CloudError("the cloud gave no public key of 64 lower-case hex digits");
    if (this.newest === publicKey) return;
    if (this.root !== null) throw new CloudError("this device trusts only keys that its root has delegated");
    if (this.newest !== null) {
      const [theirs, ours] = [publicKey.slice(0, 12), this.newest.slice(0, 12)];
      throw new CloudError(`the cloud's key is ${theirs}..., this device trusts ${ours}... only`);
    }
    this.keys = [publicKey];
    await this.store.saveKeys([publicKey]);
  }

  /** Trust the key that the root delegates; without a root, the last of the chain of endorsements. */
  async follow({ endorsements, delegation }: Keys): Promise<void> {
    if (this.root !== null) {
      if (delegation === null) return;
      if (Date.now() / 1000 >= delegation.not_after) {
        throw new PackageError("BadSignature", `the root's delegation ended at ${delegation.not_after}`);
      }
      if (await this.take(delegation)) await this.store.saveDelegation(delegation);
      return;
    }
    const newest = this.newest && (await follow(this.newest, endorsements));
    if (newest && newest !== this.newest) {
      this.keys = [newest, ...this.keys];
      await this.store.saveKeys([...this.keys]);
    }
  }

  /** Take the root's delegation if its generation is higher; return whether it is. */
  private async take(word: Delegation): Promise<boolean> {
    await checkDelegation(word, this.root!);
    const known = this.delegation;
    if (known !== null && word.generation <= known.generation) {
      if (word.generation === known.generation && word.key !== known.key) {
        throw new PackageError("BadSignature", `the root has delegated two keys in one generation`);
      }
      return false;
    }
    this.delegation = word;
    this.keys = [word.key];
    return true;
  }
}
