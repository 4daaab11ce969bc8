/** Parameters that the device runs: check, keep and run packages, roll back, and report the reasons. */

import type { Bytes } from "../protocol/bytes";
import { PackageError } from "../protocol/errors";
import { type Notice, openNotice, refusal, replaces, saysMore } from "../protocol/notice";
import { openPackage, type Package, type Shapes, type Tensors } from "../protocol/package";
import { DeviceInputError } from "./errors";
import { EMPTY, type Kept, type Slot, type Store } from "./store";
import { type Keys, TrustedKeys } from "./trust";
import { inTurn } from "./turns";

const MAX_PACKAGES = 16;
const TO_BASE = "the server has devices run the base model";

/** Model that packages are made for. */
export interface Model {
  /** sha256 of the base model. */
  model: string;
  /** Shapes of a package's tensors. */
  shapes: Shapes;
  /** Hex of the cloud's key, if the model was exported with it. */
  publicKey: string | null;
  /** Hex of the root's key, which decides which of the cloud's keys is trusted; null or absent if there is no root. */
  root?: string | null;
}

/** What runs after the running package or the newest notice has expired: the package, or the base model. */
export type WhenExpired = "keep" | "base";

/** Newest notice that the device has taken. */
export interface NoticeStatus {
  /** Seconds since the server signed it. */
  age: number;
  /** Whether a newer notice should have come by now. */
  expired: boolean;
  toBase: boolean;
  /** Versions of the model whose updates are recalled. */
  withdrawn: readonly number[];
}

/** Parameters in use, which are replaced as a whole. */
export interface Snapshot<Feed> {
  /** Inputs of the model's graphs for these parameters. */
  feed: Feed;
  source: "base" | "cloud" | "store";
  sequence: number;
  /** Unix seconds; null for the base model. */
  expires: number | null;
  why: string;
  /** Model version and issue time of the package, if it names them. A notice recalls packages by these. */
  version: number | null;
  issued: number | null;
}

export interface Refusal {
  error: string;
  message: string;
}

export class ParameterKeeper<Feed> {
  refused: Refusal | null = null;
  private running: Snapshot<Feed>;
  private readonly trusted: TrustedKeys;
  private notice: Notice | null = null;
  private noticeKey: string | null = null;
  private slot: Slot = EMPTY;
  private readonly turn = inTurn();

  /**
   * @param nothing inputs of the graphs without a package.
   * @param tryOut function of a package's tensors and their effect as signed by the cloud, which returns the inputs of
   *   the graphs. It throws a PackageError if the model does not work with them.
   */
  constructor(
    private readonly of: Model,
    private readonly nothing: Feed,
    private readonly device: string,
    private readonly store: Store,
    private readonly tryOut: (parameters: Tensors, effect: Bytes | null) => Promise<Feed>,
    private readonly whenExpired: WhenExpired = "keep",
  ) {
    this.trusted = new TrustedKeys(of.publicKey, of.root ?? null, store);
    this.running = this.base("no package has been taken up yet");
  }

  /** Snapshot that answers now: the package that was taken up, or the base model where it may not run. */
  get current(): Snapshot<Feed> {
    const why = this.running.source === "base" ? null : this.heldBack();
    return why === null ? this.running : this.base(why);
  }

  get publicKey(): string | null {
    return this.trusted.newest;
  }

  /** Hex of the root's key, if there is one. */
  get root(): string | null {
    return this.trusted.root;
  }

  /** Generation in which the root has delegated the cloud's key; null without a root. */
  get generation(): number | null {
    return this.trusted.generation;
  }

  get noticeStatus(): NoticeStatus | null {
    if (this.notice === null) return null;
    const { time, until, toBase, withdrawn } = this.notice;
    return { age: Math.max(0, this.now() - time), expired: this.now() >= until, toBase, withdrawn };
  }

  /** Highest sequence number taken up in this generation. Only higher numbers are accepted. */
  get highest(): number {
    return this.slot.highest;
  }

  /** Sequence numbers that `rollBack` can go to. */
  get packages(): number[] {
    return this.slot.kept.map((kept) => kept.sequence);
  }

  /** Run the package that ran last, or the newest other one in the store that may still be run. */
  async start(): Promise<void> {
    await this.trusted.start();
    this.slot = await this.store.slot(this.device, this.of.model);
    if (await this.beginAnew()) return;
    await this.goOnWithNotice();
    const { running } = this.slot;
    if (!running) return;
    const newestFirst = this.slot.kept.toSorted((a, b) => b.sequence - a.sequence);
    const first = newestFirst.filter((kept) => kept.sequence === running);
    for (const kept of [...first, ...newestFirst.filter((other) => other.sequence !== running)]) {
      try {
        const opened = await this.stored(kept);
        const feed = await this.tryOut(opened.tensors, opened.effect);
        this.running = snapshot(opened, feed, "store", `package ${opened.sequence} ran before the start`);
        this.slot = { ...this.slot, running: kept.sequence };
        return;
      } catch (error) {
        this.refused ??= reasonOf(error);
      }
    }
    this.running = this.base("no package that was kept may be run");
  }

  /** Check a sealed package, try it, keep it, and run it from now on. @throws PackageError if it may not be run. */
  apply(bytes: Bytes): Promise<Package> {
    return this.turn(async () => {
      let opened: Package;
      let feed: Feed;
      try {
        const key = this.trusted.checked();
        opened = await this.open(
          bytes,
          key,
          this.highest,
          Date.now() / 1000,
          this.slot.clock,
          this.generation,
        );
        this.checkAllowed(opened, true);
        feed = await this.tryOut(opened.tensors, opened.effect);
      } catch (error) {
        this.refused = reasonOf(error);
        throw error;
      }
      const { sequence, expires, issued } = opened;
      // The issue time of the newest package counts. Where it is earlier than the former, the former was wrong.
      const taken = issued === null ? this.now() : Date.now() / 1000;
      const kept = [...this.slot.kept, { bytes, sequence, expires, taken }].slice(-MAX_PACKAGES);
      await this.save({ ...this.slot, highest: sequence, clock: issued ?? taken, running: sequence, kept });
      this.running = snapshot(opened, feed, "cloud", `package ${sequence} came from the cloud`);
      this.refused = null;
      return opened;
    });
  }

  /**
   * Take a notice: drop the packages that it recalls, and run the newest allowed one, or the base model.
   *
   * @returns whether another package, or the base model, runs because of the notice.
   * @throws PackageError if the notice is not valid, or is older than one that was taken.
   */
  heed(bytes: Bytes): Promise<boolean> {
    return this.turn(async () => {
      const key = this.trusted.checked();
      const notice = await openNotice(bytes, key, this.of.model, this.generation);
      const known = this.notice;
      if (known && this.noticeKey === key && !replaces(notice, known, Date.now() / 1000)) {
        throw new PackageError("StaleNotice", `the device has taken notice ${known.number}, which is newer`);
      }
      const before = this.current.sequence;
      const isNews = !known || this.noticeKey !== key || saysMore(notice, known);
      [this.notice, this.noticeKey] = [notice, key];
      await this.save({ ...this.slot, notice: bytes });
      if (isNews) await this.dropWithdrawn(notice);
      return this.current.sequence !== before;
    });
  }

  /**
   * Run an earlier package again, or the base model. Packages that arrive later are still taken up.
   *
   * @param wanted number of the package; 0 for the base model; null for the package before the running one.
   * @throws DeviceInputError if the package was not kept; PackageError if it may not be run.
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
        this.checkAllowed(opened, true);
        const feed = await this.tryOut(opened.tensors, opened.effect);
        next = snapshot(opened, feed, "store", `rolled back to package ${to}`);
      }
      await this.save({ ...this.slot, running: to });
      this.running = next;
    });
  }

  /** Pin the key of the first cloud that the device reaches. @throws CloudError if it already trusts another key. */
  trust(publicKey: unknown): Promise<void> {
    return this.trusted.pin(publicKey);
  }

  /**
   * Trust the key that the root delegates, or the last key of the chain of endorsements.
   *
   * For a key outside the chain, sequence numbers begin again, and packages and notices of former keys are dropped.
   *
   * @throws PackageError BadSignature if the root or the preceding key has not signed the delegation or endorsement.
   */
  follow(keys: Keys): Promise<void> {
    return this.turn(async () => {
      await this.trusted.follow(keys);
      await this.beginAnew();
    });
  }

  /** Forget packages and notices of a key that is outside the chain; return whether the slot's key was outside. */
  private async beginAnew(): Promise<boolean> {
    const { key, generation = 0 } = this.slot;
    const newest = this.trusted.generation ?? 0;
    const isOutside = key !== undefined && this.publicKey !== null && !this.trusted.keys.includes(key);
    if (isOutside) {
      const why = "the cloud's key is another one, outside of the chain: no package of the former may be run";
      if (this.slot.kept.length || this.running.source !== "base") {
        this.running = this.base(why);
        this.refused = { error: "BadSignature", message: why };
      }
      this.notice = this.noticeKey = null;
      await this.save({ ...EMPTY, generation: newest });
    } else if (generation !== newest && this.publicKey !== null) {
      await this.save({ ...this.slot, highest: 0, generation: newest });
    }
    return isOutside;
  }

  private async goOnWithNotice(): Promise<void> {
    const { notice } = this.slot;
    for (const key of notice ? this.trusted.keys : []) {
      const opened = await openNotice(notice!, key, this.of.model).catch(() => null);
      if (opened) [this.notice, this.noticeKey] = [opened, key];
    }
  }

  /** Check a package by the notice. @throws PackageError Withdrawn if it is recalled, or may not run now. */
  private checkAllowed({ sequence, version, issued }: Package, toRun: boolean): void {
    const { notice } = this;
    const why = notice && (refusal(notice, version, issued) ?? (toRun && notice.toBase ? TO_BASE : null));
    if (why) throw new PackageError("Withdrawn", `package ${sequence} may not be run: ${why}`);
  }

  /** Remove the packages that the notice recalls; if the running one is among them, run another. */
  private async dropWithdrawn(notice: Notice): Promise<void> {
    const allowed: Kept[] = [];
    for (const kept of this.slot.kept) {
      const isGone = await this.stored(kept).then(
        () => false,
        (error: unknown) => error instanceof PackageError && error.rule === "Withdrawn",
      );
      if (!isGone) allowed.push(kept);
    }
    const { source, sequence, version, issued } = this.running;
    const why = source === "base" ? null : refusal(notice, version, issued);
    let running = allowed.some((kept) => kept.sequence === this.slot.running) ? this.slot.running : 0;
    if (why) {
      this.running = await this.newest(allowed, `package ${sequence} was called back: ${why}`);
      running = this.running.sequence;
    }
    await this.save({ ...this.slot, running, kept: allowed });
  }

  private async newest(allowed: readonly Kept[], why: string): Promise<Snapshot<Feed>> {
    for (const kept of allowed.toSorted((a, b) => b.sequence - a.sequence)) {
      try {
        const opened = await this.stored(kept);
        return snapshot(opened, await this.tryOut(opened.tensors, opened.effect), "store", why);
      } catch {
        continue; // try the next older one
      }
    }
    return this.base(why);
  }

  /** Return why the base model answers instead of the package that was taken up; null if it does not. */
  private heldBack(): string | null {
    const { notice, running } = this;
    if (notice?.toBase) return TO_BASE;
    if (this.whenExpired === "keep") return null;
    const now = this.now();
    if (running.expires !== null && now >= running.expires) return `package ${running.sequence} expired`;
    return notice && now >= notice.until ? "the newest notice of the server is too old" : null;
  }

  /** Open a kept package. One that was taken up in time may run after its expiry, and outlives its key. */
  private async stored(kept: Kept): Promise<Package> {
    const now = kept.taken < kept.expires ? 0 : this.now();
    const [newest, ...former] = this.trusted.keys;
    const keys = newest === undefined ? [null] : [...former, newest];
    for (const [place, key] of keys.entries()) {
      try {
        const opened = await this.open(kept.bytes, key, 0, now);
        this.checkAllowed(opened, false);
        return opened;
      } catch (error) {
        const isOther = error instanceof PackageError && error.rule === "BadSignature";
        if (!isOther || place === keys.length - 1) throw error;
      }
    }
    throw new Error("there is always a last key");
  }

  private open(
    bytes: Bytes,
    key: string | null,
    after: number,
    now: number,
    notBefore = 0,
    generation: number | null = null,
  ): Promise<Package> {
    if (key === null) throw new PackageError("NoPublicKey", "this device knows no cloud key yet");
    const { model, shapes: expected } = this.of;
    const rules = { device: this.device, model, after, now, notBefore, expected, generation };
    return openPackage(bytes, key, rules);
  }

  private async save(changed: Slot): Promise<void> {
    const slot = this.publicKey === null ? changed : { ...changed, key: this.publicKey };
    await this.store.saveSlot(this.device, this.of.model, slot);
    this.slot = slot;
  }

  private base(why: string): Snapshot<Feed> {
    const nothing = { sequence: 0, expires: null, version: null, issued: null };
    return { feed: this.nothing, source: "base", ...nothing, why };
  }

  /** Return unix seconds; where the clock is behind, the issue time of the newest package. */
  private now(): number {
    return Math.max(Date.now() / 1000, this.slot.clock);
  }
}

function snapshot<Feed>(
  { sequence, expires, version, issued }: Package,
  feed: Feed,
  source: "cloud" | "store",
  why: string,
): Snapshot<Feed> {
  return { feed, source, sequence, expires, why, version, issued };
}

function reasonOf(error: unknown): Refusal {
  return error instanceof Error
    ? { error: error.name, message: error.message }
    : { error: "Error", message: String(error) };
}
