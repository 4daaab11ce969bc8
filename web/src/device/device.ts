/** Device with any exported module: it works without any server, and takes up updates where there is one. */

import type { Bytes } from "../protocol/bytes";
import { PackageError } from "../protocol/errors";
import { DEVICE_ID } from "../protocol/limits";
import type { Package, Tensors } from "../protocol/package";
import { encodeRequest } from "../protocol/request";
import { isPublicKey } from "../protocol/signing";
import { type NdArray, type TypedArray } from "./arrays";
import { type Artifact, changedTargets, loadArtifact } from "./artifact";
import { Cloud, type Exchange } from "./cloud";
import { fault, sharesOf } from "./effect";
import { ArtifactError, DeviceInputError, messageOf } from "./errors";
import { fromFiles, fromFolder, fromServer, type Progress, type Source } from "./fetching";
import { type Arrays, checkInputs, type Inputs } from "./inputs";
import { ModuleGraphs, type Outputs, type Runtime } from "./module_graphs";
import { type NoticeStatus, ParameterKeeper, type Refusal, type WhenExpired } from "./parameters";
import { memoryTable, Store, type Table } from "./store";
import { fill, type Nested } from "./trees";
import { signedManifest } from "./signed";
import type { Keys } from "./trust";
import { inTurn } from "./turns";
import { uplinkRow } from "./uplink";

const MAX_EXAMPLES = 64;
const NOTICE_EVERY_MS = 3600_000;
const NOTICE_RETRY_MS = 60_000;

export interface Options {
  /** A letter or digit, then up to 127 of letters, digits and `._:@+-`. Only one device at a time may use an id. */
  id: string;
  /** Address of the server that makes updates; without a server `adapt` throws an error. */
  server?: string | null;
  /** Address of a folder `artifact/device`; without `url` and `files` the model comes from the server. */
  url?: string;
  /** The folder's files by name. */
  files?: Readonly<Record<string, Uint8Array>>;
  /** sha256 of the base model, where the server has several; by default the server's first model. */
  model?: string | null;
  /** Table for updates and keys, such as `browserTable()`; without it they end with the page. */
  store?: Table;
  /** Hex of the server's key; else the artifact's key, else the key in the store, else the first server's key. */
  publicKey?: string | null;
  /** Hex of the root's key, which must have signed the artifact; else the root that the artifact names, if any. */
  root?: string | null;
  /** What runs after the running update or the newest notice has expired; `keep` by default. */
  whenExpired?: WhenExpired;
  /** ONNX Runtime to use; in browsers `onnxruntime-web/wasm` is loaded by default. */
  runtime?: Runtime;
  /** Called after each file with the number of fetched files and the number of all files. */
  progress?: Progress;
}

export interface Status {
  device: string;
  /** sha256 of the base model. */
  model: string;
  task: string;
  adapter: string;
  /** Number of examples in the support set. */
  support: number;
  /** `base`, `cloud` (an update that came since the start) or `store` (an update from the store). */
  source: "base" | "cloud" | "store";
  /** Number of the update; 0 for the base. */
  sequence: number;
  /** Unix seconds; null for the base model. */
  expires: number | null;
  expired: boolean;
  why: string;
  /** Version of the server's model that made the update; null where the update names none. */
  version: number | null;
  /** Numbers of the updates that `rollBack` can go to. */
  packages: number[];
  publicKey: string | null;
  /** Generation in which the root has delegated that key; null without a root. */
  generation: number | null;
  /** Newest notice of the server about recalled updates; null if no notice has come yet. */
  notice: NoticeStatus | null;
  /** Last refusal since a success. */
  refused: Refusal | null;
  /** Reason why the last change could not be kept in the store. */
  storeError: string | null;
}

export class Device {
  private readonly parameters: ParameterKeeper<Tensors>;
  private readonly turn = inTurn();
  private seen: Float32Array[] = [];
  private last: Arrays | null = null;
  private cloud: Cloud | null = null;
  /** Time of the next request for a notice. */
  private heedAt = 0;

  private constructor(
    readonly id: string,
    private readonly artifact: Artifact,
    private readonly graphs: ModuleGraphs,
    private readonly store: Store,
    publicKey: string | null,
    whenExpired: WhenExpired,
  ) {
    const { model, parameters: shapes, root } = artifact;
    const tryOut = (values: Tensors, effect: Bytes | null) => this.tryOut(values, effect);
    const of = { model, shapes, publicKey, root };
    this.parameters = new ParameterKeeper(of, graphs.base, id, store, tryOut, whenExpired);
  }

  /**
   * Start a device with the last update in the store, if that may run, else with the base model.
   *
   * @throws ArtifactError if the folder is damaged, of another kind, or its model does not work.
   * @throws DeviceInputError if an option is malformed.
   */
  static async open(options: Options): Promise<Device> {
    return Device.of(sourceOf(options), options);
  }

  /** Start a device as `open` does, from any source of files. @param manifest the manifest, if already read. */
  static async of(source: Source, options: Options, manifest?: unknown): Promise<Device> {
    const { id, publicKey = null, progress } = options;
    if (typeof id !== "string" || !DEVICE_ID.test(id)) {
      throw new DeviceInputError(
        "a device's id begins with a letter or digit and has at most 128 letters, digits and ._:@+-",
      );
    }
    if (publicKey !== null && !isPublicKey(publicKey)) {
      throw new DeviceInputError("a public key is 64 lower-case hex digits");
    }
    const { root = null, whenExpired = "keep" } = options;
    if (root !== null && !isPublicKey(root)) {
      throw new DeviceInputError("a root is 64 lower-case hex digits");
    }
    const signed = await signedManifest(source, root, manifest);
    const artifact = await loadArtifact(source, progress, signed);
    const runtime = options.runtime ?? (await browserRuntime());
    const graphs = await ModuleGraphs.open(runtime, artifact);
    await tryBase(graphs, artifact);
    const store = new Store(options.store ?? memoryTable(), id);
    const device = new Device(id, artifact, graphs, store, publicKey ?? artifact.publicKey, whenExpired);
    await device.parameters.start();
    if (options.server != null) {
      const identity = (await store.identity()) ?? { device: id, key: null, cloudKey: "" };
      device.cloud = new Cloud(trimmed(options.server), store, identity);
    }
    return device;
  }

  /** sha256 of the base model. */
  get model(): string {
    return this.artifact.model;
  }

  /** Inputs of the model, as in its manifest. */
  get inputs(): Artifact["inputs"] {
    return this.artifact.inputs;
  }

  get outputs(): Artifact["outputs"] {
    return this.artifact.outputs;
  }

  /** Names of the classes, if the artifact has them. */
  get labels(): readonly string[] | null {
    return this.artifact.labels;
  }

  /**
   * Run the module under the present parameters.
   *
   * @param x an array where the module takes one; a list of arrays in the order of its arguments, or an object by
   *   their names, nested as the module takes them; N examples each. The caller may use the arrays again at once.
   * @returns arrays in the structure of the module's outputs: an array, a list or an object.
   * @throws DeviceInputError if the inputs do not fit the model.
   */
  async predict(x: Inputs): Promise<Nested<NdArray>> {
    const data = this.checked(x);
    this.heedIfDue();
    const { feed } = this.parameters.current;
    return fill(this.artifact.structure, await this.computed(this.graphs.outputs(data, feed)));
  }

  /**
   * Add examples to the support set, which keeps the last 64. A request carries a few numbers of each example.
   *
   * @param x inputs as `predict` takes them.
   * @throws DeviceInputError if the inputs do not fit the model, or their features are not finite.
   */
  async observe(x: Inputs): Promise<void> {
    const data = this.checked(x);
    const features = await this.computed(this.graphs.context(data));
    const rows = features.map((row) => uplinkRow(this.artifact.uplink, row));
    const wrong = rows.findIndex((row) => !row.every(Number.isFinite));
    if (wrong >= 0) {
      throw new DeviceInputError(`the features of example ${wrong} are not finite; look at its inputs`);
    }
    this.seen = [...this.seen, ...rows].slice(-MAX_EXAMPLES);
    this.last = lastOf(data);
  }

  /** Clear the support set. */
  forget(): void {
    this.seen = [];
  }

  /**
   * Request an update now, with all examples of the support set, and take it up.
   *
   * @throws CloudError or NotEnrolled if the server cannot be reached or refuses; PackageError if the update may not
   *   be run (the device keeps its present parameters); DeviceInputError if there is no server or no example.
   */
  adapt(): Promise<Package> {
    return this.turn(() => this.connected.adapt(this));
  }

  /**
   * Fetch the server's notice of recalled updates now, and obey it. By default this happens every hour while `predict`
   * is called.
   *
   * @returns whether another update, or the base model, runs because of the notice.
   * @throws CloudError if the server cannot be reached; PackageError if the notice is not valid or too old.
   */
  heed(): Promise<boolean>;
  /** Take a notice from another source. @throws PackageError if the notice is not valid or too old. */
  heed(bytes: Bytes): Promise<boolean>;
  heed(bytes?: Bytes): Promise<boolean> {
    if (bytes !== undefined) return this.parameters.heed(bytes);
    this.heedAt = performance.now() + NOTICE_EVERY_MS;
    return this.turn(() => this.connected.heed(this));
  }

  /** Fetch the notice in the background if that is due; after a failure, a later call tries again. */
  private heedIfDue(): void {
    if (this.cloud === null || performance.now() < this.heedAt) return;
    void this.heed().catch(() => {
      this.heedAt = performance.now() + NOTICE_RETRY_MS;
    });
  }

  /** Enroll the device with a one-time token; from then on its requests are signed. @throws CloudError */
  enrol(token: string): Promise<void> {
    return this.turn(() => this.connected.enrol(token));
  }

  /** Build the request; nothing else about examples leaves the device. @throws DeviceInputError without examples. */
  request(): Bytes {
    if (!this.seen.length) {
      throw new DeviceInputError("the support set is empty: observe at least one example before adapting");
    }
    const { model } = this.artifact;
    const nothing = { queries: [], clipOfQuery: [], queryDim: 1 };
    return encodeRequest({
      device: this.id,
      model,
      sequence: this.parameters.highest,
      anchors: this.seen,
      ...nothing,
    });
  }

  /** Check a sealed update, try it, keep it, and use it from now on. @throws PackageError if it may not be run. */
  apply(bytes: Bytes): Promise<Package> {
    return this.parameters.apply(bytes);
  }

  /**
   * Run an earlier update again, or the base model. Updates that arrive later are still taken up.
   *
   * @param to number of the update, one of `status.packages`; 0 for the base model; null for the update before the
   *   running one.
   * @throws DeviceInputError if the update was not kept; PackageError if it may not be run.
   */
  rollBack(to: number | null = null): Promise<void> {
    return this.parameters.rollBack(to);
  }

  /** State of the device: what it runs, and why it runs nothing newer. */
  get status(): Status {
    const { source, sequence, expires, why, version } = this.parameters.current;
    const { model, task, adapter } = this.artifact;
    return {
      device: this.id,
      model,
      task,
      adapter,
      support: this.seen.length,
      source,
      sequence,
      expires,
      expired: expires !== null && Date.now() / 1000 >= expires,
      why,
      version,
      packages: this.parameters.packages,
      publicKey: this.publicKey,
      generation: this.parameters.generation,
      notice: this.parameters.noticeStatus,
      refused: this.parameters.refused,
      storeError: this.store.problem,
    };
  }

  /** All exchanges with the server since the start. */
  get exchanges(): readonly Exchange[] {
    return this.cloud?.log ?? [];
  }

  get enrolled(): boolean {
    return this.cloud?.enrolled ?? false;
  }

  /** Hex of the server's key that updates are checked with. */
  get publicKey(): string | null {
    return this.parameters.publicKey;
  }

  /** Pin the key of the first server that the device reaches. @throws CloudError if it already trusts another key. */
  trust(publicKey: unknown): Promise<void> {
    return this.parameters.trust(publicKey);
  }

  /** Hex of the root's key, which decides which of the server's keys is trusted; null if there is no root. */
  get root(): string | null {
    return this.parameters.root;
  }

  /** Trust the key that the root delegates, or the last key of the chain of endorsements. @throws PackageError */
  follow(keys: Keys): Promise<void> {
    return this.parameters.follow(keys);
  }

  /** Free the memory of the graphs; the device cannot be used afterwards. */
  close(): Promise<void> {
    return this.graphs.release();
  }

  private get connected(): Cloud {
    if (!this.cloud) throw new DeviceInputError("this device has no server: Device.open({ server, ... })");
    return this.cloud;
  }

  private checked(x: Inputs): Arrays {
    return checkInputs(x, this.artifact.inputs, this.artifact.arguments);
  }

  private async computed<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw new DeviceInputError(`the model cannot run on these inputs: ${messageOf(error)}`);
    }
  }

  /** Compute the changed targets, and run the module on the last example and on the probe. */
  private async tryOut(values: Tensors, effect: Bytes | null): Promise<Tensors> {
    let feed: Tensors;
    try {
      feed = changedTargets(this.artifact, values);
    } catch (error) {
      throw new PackageError("ProbeFailed", `the package does not fit the model: ${messageOf(error)}`);
    }
    const { base } = this.graphs;
    const unsound = [...feed].find(([, now]) => !now.every(Number.isFinite));
    if (unsound) throw new PackageError("ProbeFailed", `the package makes ${unsound[0]} infinite or NaN`);
    const moved = [...feed].some(([name, now]) => isOther(now, base.get(name)!));
    let differs = false;
    let [known, made]: [Outputs, Outputs] = [new Map(), new Map()];
    for (const data of this.last ? [this.last, this.artifact.probe] : [this.artifact.probe]) {
      known = await this.graphs.outputs(data, base);
      try {
        made = await this.graphs.outputs(data, feed);
      } catch (error) {
        const text = `the model cannot run with these parameters: ${messageOf(error)}`;
        throw new PackageError("ProbeFailed", text);
      }
      for (const [name, { data: before }] of known) {
        const now = made.get(name)!.data;
        if (isLost(before, now)) {
          throw new PackageError("ProbeFailed", `with these parameters the output ${name} is not finite`);
        }
        differs ||= isOther(now, before);
      }
    }
    if (moved && !differs) {
      const text = "the package changes parameters but no output: the graph is not the one it is for";
      throw new PackageError("NoEffect", text);
    }
    const { effect: spec, probeTag, outputs } = this.artifact;
    if (effect && spec) {
      // The probe came last.
      const [found, before] = [sharesOf(spec, made, outputs), sharesOf(spec, known, outputs)];
      const told = fault(spec, probeTag, effect, found, before);
      if (told !== null) throw new PackageError("WrongEffect", told);
    }
    return feed;
  }
}

function sourceOf({ url, files, server, model }: Options): Source {
  if (url !== undefined && files !== undefined) throw new DeviceInputError("give url or files, not both");
  if (files !== undefined) return fromFiles(files);
  if (url !== undefined) return fromFolder(url);
  if (server == null) throw new DeviceInputError("give url, files or server: where the model comes from");
  return fromServer(trimmed(server), model ?? null);
}

async function browserRuntime(): Promise<Runtime> {
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  if (process?.versions?.node) {
    throw new DeviceInputError(
      'in Node give a runtime: Device.open({ runtime: await import("onnxruntime-node"), ... }), or "onnxruntime-web"',
    );
  }
  return import("onnxruntime-web/wasm");
}

function trimmed(server: string): string {
  return server.replace(/\/+$/, "");
}

/** Run the base model on the probe. @throws ArtifactError if it does not work. */
async function tryBase(graphs: ModuleGraphs, { probe }: Artifact): Promise<void> {
  let outputs: Outputs;
  try {
    outputs = await graphs.outputs(probe, graphs.base);
    await graphs.context(probe);
  } catch (error) {
    throw new ArtifactError(`the base model cannot run: ${messageOf(error)}`);
  }
  if ([...outputs.values()].some(({ data }) => isFloats(data) && data.some(Number.isNaN))) {
    throw new ArtifactError("the base model gives NaN for the example in probe.safetensors");
  }
}

function isFloats(data: TypedArray): data is Float32Array | Float64Array {
  return data instanceof Float32Array || data instanceof Float64Array;
}

/** Check whether a number was finite before and is not finite now. */
function isLost(before: TypedArray, now: TypedArray): boolean {
  if (!isFloats(before) || !isFloats(now)) return false;
  return before.some((value, place) => Number.isFinite(value) && !Number.isFinite(now[place]));
}

/** Check whether numbers differ; NaN equals NaN. */
function isOther(one: TypedArray, other: TypedArray): boolean {
  if (one.length !== other.length) return true;
  for (let place = 0; place < one.length; place++) {
    const [first, second] = [one[place], other[place]];
    if (first !== second && !(Number.isNaN(first) && Number.isNaN(second))) return true;
  }
  return false;
}

/** Return the last of several examples. */
function lastOf(data: Arrays): Arrays {
  return new Map(
    [...data].map(([name, { dtype, data: values, shape }]) => {
      const size = values.length / shape[0];
      return [name, { dtype, data: values.slice(-size) as TypedArray, shape: [1, ...shape.slice(1)] }];
    }),
  );
}
