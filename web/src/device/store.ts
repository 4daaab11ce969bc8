/** What the tab keeps over a reload, in the browser's IndexedDB: packages, trusted keys, its own key. */

import { createStore, get, set, type UseStore } from "idb-keyval";
import type { Bytes } from "../protocol/bytes";

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
  /** The highest sequence number ever taken up. */
  highest: number;
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
}

export const EMPTY: Slot = { highest: 0, clock: 0, running: 0, kept: [] };

/** A store of the page's own origin; what cannot be kept is told by `problem`, and stops nothing. */
export class Store {
  problem: string | null = null;
  private readonly table: UseStore = createStore("paramcast", "device");

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

  identity(): Promise<Identity | null> {
    return this.read<Identity | null>("identity", null);
  }

  saveIdentity(identity: Identity): Promise<void> {
    return this.write("identity", identity);
  }

  private async read<T>(name: string, otherwise: T): Promise<T> {
    try {
      return (await get<T>(name, this.table)) ?? otherwise;
    } catch (error) {
      this.problem = String(error);
      return otherwise;
    }
  }

  private async write(name: string, value: unknown): Promise<void> {
    try {
      await set(name, value, this.table);
      this.problem = null;
    } catch (error) {
      this.problem = String(error);
    }
  }
}
