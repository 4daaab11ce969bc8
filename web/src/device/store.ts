/** What a device keeps over a restart: updates, trusted keys, its own key. */

import type { Bytes } from "../protocol/bytes";
import type { Delegation } from "../protocol/root";

/** A package as it arrived. */
export interface Kept {
  bytes: Bytes;
  sequence: number;
  /** Unix seconds: from when it could no longer be taken up, and when it was. */
  expires: number;
  taken: number;
}

/** What is known of one device's packages for one base model. */
export interface Slot {
  /** The highest sequence number ever taken up in this generation of the cloud's key. */
  highest: number;
  /** Of the key that signed it; absent: 0, there was no root. */
  generation?: number;
  /** Hex of that key; absent in what was kept before. */
  key?: string;
  /** The newest notice of what is called back, as it arrived. */
  notice?: Bytes;
  /** Unix seconds when the newest package was issued; of one that does not say it, when it was taken up. */
  clock: number;
  /** The sequence number of the package that runs; 0: the base model. */
  running: number;
  kept: Kept[];
}

/** Who the device is. */
export interface Identity {
  device: string;
  /** Its key pair, from when it began to enrol; the private half cannot leave the browser. */
  key: CryptoKeyPair | null;
  /** Hex of the key with which the cloud signed when the device was enrolled; empty before. */
  cloudKey: string;
  /** Hex of the root's key, which says which key the cloud signs with; null or absent: there is none. */
  root?: string | null;
  /** The generation in which the root has delegated `cloudKey`; absent: none yet. */
  generation?: number;
}

export const EMPTY: Slot = { highest: 0, clock: 0, running: 0, kept: [] };

/** Where it is kept: values that can be cloned (numbers, texts, bytes, WebCrypto keys), by name. */
export interface Table {
  get(name: string): Promise<unknown>;
  set(name: string, value: unknown): Promise<unknown>;
}

/** A table that is gone with the page. */
export function memoryTable(): Table {
  const values = new Map<string, unknown>();
  return {
    get: async (name) => values.get(name),
    set: async (name, value) => void values.set(name, value),
  };
}

/** What is kept in a table; what cannot be kept is told by `problem`, and stops nothing. */
export class Store {
  problem: string | null = null;

  /** @param owner whose identity it is; empty: of the page's own device. */
  constructor(
    private readonly table: Table,
    private readonly owner = "",
  ) {}

  slot(device: string, model: string): Promise<Slot> {
    return this.read(`slot ${model} ${device}`, EMPTY);
  }

  saveSlot(device: string, model: string, slot: Slot): Promise<void> {
    return this.write(`slot ${model} ${device}`, slot);
  }

  /** The cloud's public keys in hex, the newest first. */
  keys(): Promise<string[]> {
    return this.read<string[]>("cloud keys", []);
  }

  saveKeys(keys: string[]): Promise<void> {
    return this.write("cloud keys", keys);
  }

  /** The word of `root` that was taken last, unchecked. */
  delegation(root: string): Promise<unknown> {
    return this.read<unknown>(`delegation ${root}`, null);
  }

  saveDelegation(word: Delegation): Promise<void> {
    return this.write(`delegation ${word.root}`, word);
  }

  identity(): Promise<Identity | null> {
    return this.read<Identity | null>(this.identityName, null);
  }

  saveIdentity(identity: Identity): Promise<void> {
    return this.write(this.identityName, identity);
  }

  private get identityName(): string {
    return this.owner ? `identity ${this.owner}` : "identity";
  }

  private async read<T>(name: string, otherwise: T): Promise<T> {
    try {
      return ((await this.table.get(name)) as T | undefined) ?? otherwise;
    } catch (error) {
      this.problem = String(error);
      return otherwise;
    }
  }

  private async write(name: string, value: unknown): Promise<void> {
    try {
      await this.table.set(name, value);
      this.problem = null;
    } catch (error) {
      this.problem = String(error);
    }
  }
}
