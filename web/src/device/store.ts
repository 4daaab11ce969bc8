/** Data that a device keeps over a restart: updates, trusted keys, and the device's key. */

import type { Bytes } from "../protocol/bytes";
import type { Delegation } from "../protocol/root";

/** A package as it arrived. */
export interface Kept {
  bytes: Bytes;
  sequence: number;
  /** Unix seconds from which the package could no longer be taken up, and (`taken`) when it was taken up. */
  expires: number;
  taken: number;
}

/** State of one device's packages for one base model. */
export interface Slot {
  /** Highest sequence number taken up in this generation of the cloud's key. */
  highest: number;
  /** Generation of the key that signed that package; absent means 0 (no root). */
  generation?: number;
  /** Hex of that key; absent in older slots. */
  key?: string;
  /** The newest notice of recalled packages, as it arrived. */
  notice?: Bytes;
  /** Unix seconds when the newest package was issued; if it names no issue time, when it was taken up. */
  clock: number;
  /** Sequence number of the running package; 0 for the base model. */
  running: number;
  kept: Kept[];
}

/** Identity of the device. */
export interface Identity {
  device: string;
  /** Key pair of the device; null before it begins to enroll. The private half cannot leave the browser. */
  key: CryptoKeyPair | null;
  /** Hex of the key with which the cloud signs, from the enrollment or a later one; empty before the enrollment. */
  cloudKey: string;
  /** Hex of the root's key, which decides the key that the cloud signs with; null or absent if there is no root. */
  root?: string | null;
  /** Generation in which the root has delegated `cloudKey`; absent if it was not delegated yet. */
  generation?: number;
}

export const EMPTY: Slot = { highest: 0, clock: 0, running: 0, kept: [] };

/** Storage of values by name. The values can be cloned: numbers, texts, bytes, WebCrypto keys. */
export interface Table {
  get(name: string): Promise<unknown>;
  set(name: string, value: unknown): Promise<unknown>;
}

/** Make a table that ends with the page. */
export function memoryTable(): Table {
  const values = new Map<string, unknown>();
  return {
    get: async (name) => values.get(name),
    set: async (name, value) => void values.set(name, value),
  };
}

/** Store in a table. A failure to read or write raises no error; `problem` describes it. */
export class Store {
  problem: string | null = null;

  /** @param owner id of the device whose identity is stored; empty for the device of the page. */
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

  /** Read the cloud's public keys in hex, the newest first. */
  keys(): Promise<string[]> {
    return this.read<string[]>("cloud keys", []);
  }

  saveKeys(keys: string[]): Promise<void> {
    return this.write("cloud keys", keys);
  }

  /** Read the delegation of `root` that was taken last, unchecked. */
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
