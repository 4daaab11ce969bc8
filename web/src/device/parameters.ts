/** Which parameters the device runs: checks what arrives, keeps it, goes back to it, and says why. */

import type { Bytes } from "../protocol/bytes";
import { type Endorsement, follow } from "../protocol/credentials";
import { PackageError } from "../protocol/errors";
import { openPackage, type Package, type Shapes, type Tensors } from "../protocol/package";
import { isPublicKey } from "../protocol/signing";
import { CloudError, DeviceInputError } from "./errors";
import { EMPTY, type Kept, type Slot, type Store } from "./store";
import { inTurn } from "./turns";

const MAX_PACKAGES = 16;

/** What packages are for. */
export interface Model {
  /** sha256 of the base model. */
  model: string;
  /** Tensors of a package. */
  shapes: Shapes;
  /** Hex of the cloud's key, if the model was exported with it. */
  publicKey: string | null;
}

/** The parameters in use; replaced as a whole. */
export interface Snapshot<Feed> {
  /** What the model's graphs are fed. */
  feed: Feed;
  source: "base" | "cloud" | "store";
  sequence: number;
  /** Unix seconds; null for the base model. */
  expires: number | null;
  why: string;
}

export interface Refusal {
  error: string;
  message: string;
}

export class ParameterKeeper<Feed> {
  current: Snapshot<Feed>;
  refused: Refusal | null = null;
  private keys: string[];
  private slot: Slot = EMPTY;
  private readonly turn = inTurn();

  /**
   * @param nothing what the graphs are fed without a package.
   * @param tryOut what they are fed for a package's tensors, given what the cloud has signed of their effect; throws a
   *   PackageError if the model does not work so.
   */
  constructor(
    private readonly of: Model,
    private readonly nothing: Feed,
    private readonly device: string,
    private readonly store: Store,
    private readonly tryOut: (parameters: Tensors, effect: Bytes | null) => Promise<Feed>,
  ) {
    this.keys = of.publicKey ? [of.publicKey] : [];
    this.current = this.base("no package has been taken up yet");
  }

  get publicKey(): string | null {
    return this.keys[0] ?? null;
  }

  /** The highest sequence number ever taken up: nothing at or below it is accepted. */
  get highest(): number {
    return this.slot.highest;
  }

  /** The sequence numbers that `rollBack` can go to. */
  get packages(): number[] {
    return this.slot.kept.map((kept) => kept.sequence);
  }

  /** Go on with the package that ran last, or the newest earlier one that may still be run. */
  async start(): Promise<void> {
    const pinned = await this.store.keys();
    // A given key that the cloud has used is where the chain of the pinned ones began.
    if (!this.keys.length || pinned.includes(this.keys[0])) this.keys = pinned;
    this.slot = await this.store.slot(this.device, this.of.model);
    const { running } = this.slot;
    if (!running) return;
    const newestFirst = this.slot.kept.toSorted((a, b) => b.sequence - a.sequence);
    const first = newestFirst.filter((kept) => kept.sequence === running);
    for (const kept of [...first, ...newestFirst.filter((other) => other.sequence !== running)]) {
      try {
        const opened = await this.stored(kept);
        const feed = await this.tryOut(opened.tensors, opened.effect);
        this.current = snapshot(opened, feed, "store", `package ${opened.sequence} ran before the start`);
        this.slot = { ...this.slot, running: kept.sequence };
        return;
      } catch (error) {
        this.refused ??= reasonOf(error);
      }
    }
    this.current = this.base("no package that was kept may be run");
  }

  /** Check a sealed package, try it, keep it, and run it from now on. @throws PackageError */
  apply(bytes: Bytes): Promise<Package> {
    return this.turn(async () => {
      let opened: Package;
      let feed: Feed;
      try {
        opened = await this.open(bytes, this.publicKey, this.highest, Date.now() / 1000, this.slot.clock);
        feed = await this.tryOut(opened.tensors, opened.effect);
      } catch (error) {
        this.refused = reasonOf(error);
        throw error;
      }
      const { sequence, expires, issued } = opened;
      // What the cloud has signed last, also where it is earlier: then the time before was wrong.
      const taken = issued === null ? this.now() : Date.now() / 1000;
      const kept = [...this.slot.kept, { bytes, sequence, expires, taken }].slice(-MAX_PACKAGES);
      await this.save({ highest: sequence, clock: issued ?? taken, running: sequence, kept });
      this.current = snapshot(opened, feed, "cloud", `package ${sequence} came from the cloud`);
      this.refused = null;
      return opened;
    });
  }

  /**
   * Run an earlier package again, or the base model; later packages are taken up as ever.
   *
   * @param wanted its number, 0 for the base model, null for the one before that which runs.
   * @throws DeviceInputError if it was not kept; PackageError if it may not be run.
   */
  rollBack(wanted: number | null): Promise<void> {
    return this.turn(async () => {
      const earlier = this.packages.filter((sequence) => sequence < this.current.sequence);
      const to = wanted ?? Math.max(0, ...earlier);
      let next = this.base("rolled back to the base model");
      if (to !== 0) {
        const kept = this.slot.kept.find(({ sequence }) => sequence === to);
        if (!kept)
          throw new DeviceInputError(
            `there is no package ${to}; there are: ${this.packages.join(", ") || "none"}`,
          );
        const opened = await this.stored(kept);
        const feed = await this.tryOut(opened.tensors, opened.effect);
        next = snapshot(opened, feed, "store", `rolled back to package ${to}`);
      }
      await this.save({ ...this.slot, running: to });
      this.current = next;
    });
  }

  /** Pin the key of the first cloud that is met. @throws CloudError if another one is trusted already. */
  async trust(publicKey: unknown): Promise<void> {
    if (!isPublicKey(publicKey))
      throw new CloudError("the cloud gave no public key of 64 lower-case hex digits");
    if (this.publicKey === null) await this.pin([publicKey]);
    else if (this.publicKey !== publicKey) {
      const [theirs, ours] = [publicKey.slice(0, 12), this.publicKey.slice(0, 12)];
      throw new CloudError(`the cloud's key is ${theirs}..., this device trusts ${ours}... only`);
    }
  }

  /** Trust the key in which the trusted key's chain of endorsements ends. @throws PackageError BadSignature */
  async follow(endorsements: readonly Endorsement[]): Promise<void> {
    const newest = this.publicKey && (await follow(this.publicKey, endorsements));
    if (newest && newest !== this.publicKey) await this.pin([newest, ...this.keys]);
  }

  private async pin(keys: string[]): Promise<void> {
    this.keys = keys;
    await this.store.saveKeys(keys);
  }

  /** A kept package; what was taken up in time is run on after its expiry, and outlives its key. */
  private async stored(kept: Kept): Promise<Package> {
    const now = kept.taken < kept.expires ? 0 : this.now();
    for (const former of this.keys.slice(1)) {
      try {
        return await this.open(kept.bytes, former, 0, now);
      } catch (error) {
        if (!(error instanceof PackageError && error.rule === "BadSignature")) throw error;
      }
    }
    return this.open(kept.bytes, this.publicKey, 0, now);
  }

  private open(
    bytes: Bytes,
    key: string | null,
    after: number,
    now: number,
    notBefore = 0,
  ): Promise<Package> {
    if (key === null) throw new PackageError("NoPublicKey", "this device knows no cloud key yet");
    const { model, shapes: expected } = this.of;
    return openPackage(bytes, key, { device: this.device, model, after, now, notBefore, expected });
  }

  private async save(slot: Slot): Promise<void> {
    await this.store.saveSlot(this.device, this.of.model, slot);
    this.slot = slot;
  }

  private base(why: string): Snapshot<Feed> {
    return { feed: this.nothing, source: "base", sequence: 0, expires: null, why };
  }

  /** Unix seconds; not earlier than the issue time of the newest package, whatever the clock says. */
  private now(): number {
    return Math.max(Date.now() / 1000, this.slot.clock);
  }
}

function snapshot<Feed>(
  { sequence, expires }: Package,
  feed: Feed,
  source: "cloud" | "store",
  why: string,
): Snapshot<Feed> {
  return { feed, source, sequence, expires, why };
}

function reasonOf(error: unknown): Refusal {
  return error instanceof Error
    ? { error: error.name, message: error.message }
    : { error: "Error", message: String(error) };
}
