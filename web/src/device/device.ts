/** A device with any exported module: answers by itself from its first moment, and takes up what is made for it. */

import type { Bytes } from "../protocol/bytes";
import type { Endorsement } from "../protocol/credentials";
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
import { ParameterKeeper, type Refusal } from "./parameters";
import { memoryTable, Store, type Table } from "./store";
import { fill, type Nested } from "./trees";
import { inTurn } from "./turns";
import { uplinkRow } from "./uplink";

const MAX_EXAMPLES = 64;

export interface Options {
  /** A letter or digit, then up to 127 of letters, digits and `._:@+-`. One device at a time may use it. */
  id: string;
  /** Address of the server that makes updates; without one `adapt` is refused. */
  server?: string | null;
  /** Address of a folder `artifact/device`; without `url` and `files` the model comes from the server. */
  url?: string;
  /** The folder's files by name. */
  files?: Readonly<Record<string, Uint8Array>>;
  /** sha256 of the base model, where the server has several; its first one otherwise. */
  model?: string | null;
  /** Where updates and keys are kept: `browserTable()`; without it they are gone with the page. */
  store?: Table;
  /** Hex of the server's key; else the artifact's, else the one in the store, else the first server's. */
  publicKey?: string | null;
  /** In browsers `onnxruntime-web/wasm` is loaded where none is given. */
  runtime?: Runtime;
  /** Told after each file how many there are. */
  progress?: Progress;
}

export interface Status {
  device: string;
  /** sha256 of the base model. */
  model: string;
  task: string;
  adapter: string;
  /** Examples that are remembered. */
  support: number;
  /** `base`, `cloud` (an update that has just come) or `store` (one from before the start, or gone back to). */
  source: "base" | "cloud" | "store";
  /** The update's number; 0: base. */
  sequence: number;
  /** Unix seconds; null for the base model. */
  expires: number | null;
  expired: boolean;
  why: string;
  /** Updates that `rollBack` can go to. */
  packages: number[];
  publicKey: string | null;
  /** The last refusal since a success. */
  refused: Refusal | null;
  /** Why the last change could not be kept. */
  storeError: string | null;
}

export class Device {
  private readonly parameters: ParameterKeeper<Tensors>;
  private readonly turn = inTurn();
  private seen: Float32Array[] = [];
  private last: Arrays | null = null;
  private cloud: Cloud | null = null;

  private constructor(
    readonly id: string,
    private readonly artifact: Artifact,
    private readonly graphs: ModuleGraphs,
    private readonly store: Store,
    publicKey: string | null,
  ) {
    const model = { model: artifact.model, shapes: artifact.parameters, publicKey };
    this.parameters = new ParameterKeeper(model, graphs.base, id, store, (values, effect) =>
      this.tryOut(values, effect),
    );
  }

  /**
   * Start a device; it goes on with the last update that the store holds, if that may run.
   *
   * @throws ArtifactError if the folder is damaged, of another kind, or its model does not work.
   * @throws DeviceInputError if an option is malformed.
   */
  static async open(options: Options): Promise<Device> {
    return Device.of(sourceOf(options), options);
  }

  /** As `open`, from any source of files. @param manifest if it has been read already. */
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
    const artifact = await loadArtifact(source, progress, manifest);
    const runtime = options.runtime ?? (await browserRuntime());
    const graphs = await ModuleGraphs.open(runtime, artifact);
    await tryBase(graphs, artifact);
    const store = new Store(options.store ?? memoryTable(), id);
    const device = new Device(id, artifact, graphs, store, publicKey ?? artifact.publicKey);
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

  /** What the model takes and gives, as it stands in its manifest. */
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
   *   their names, nested as the module takes them; N examples each. It may be used again at once.
   * @returns arrays in the structure of the module's outputs: an array, a list or an object.
   * @throws DeviceInputError if the inputs do not fit the model.
   */
  async predict(x: Inputs): Promise<Nested<NdArray>> {
    const data = this.checked(x);
    const { feed } = this.parameters.current;
    return fill(this.artifact.structure, await this.computed(this.graphs.outputs(data, feed)));
  }

  /**
   * Add examples to the support set, the last 64; what is sent of each are a few numbers.
   *
   * @param x inputs as `predict` takes them.
   * @throws DeviceInputError if they do not fit the model, or their features are not finite.
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

  /** Forget the support set. */
  forget(): void {
    this.seen = [];
  }

  /**
   * Ask for an update now, with all remembered examples, and take it up.
   *
   * @throws CloudError or NotEnrolled if the server cannot be reached or refuses; PackageError if the update may not
   *   be run: the device keeps the parameters that it has; DeviceInputError if there is nothing to ask with.
   */
  adapt(): Promise<Package> {
    return this.turn(() => this.connected.adapt(this));
  }

  /** Enrol the device with a one-time token: its requests are signed from then on. @throws CloudError */
  enrol(token: string): Promise<void> {
    return this.turn(() => this.connected.enrol(token));
  }

  /** What to send to the server: all that leaves the device. @throws DeviceInputError if it has seen nothing. */
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

  /** Check a sealed update, try it, keep it, and answer with it from now on. @throws PackageError */
  apply(bytes: Bytes): Promise<Package> {
    return this.parameters.apply(bytes);
  }

  /**
   * Run an earlier update again, or the base model; later updates are taken up as ever.
   *
   * @param to its number, one of `status.packages`; 0 for the base model; null for the one before.
   * @throws DeviceInputError if it was not kept; PackageError if it may not be run.
   */
  rollBack(to: number | null = null): Promise<void> {
    return this.parameters.rollBack(to);
  }

  /** What runs, and why nothing newer does. */
  get status(): Status {
    const { source, sequence, expires, why } = this.parameters.current;
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
      packages: this.parameters.packages,
      publicKey: this.publicKey,
      refused: this.parameters.refused,
      storeError: this.store.problem,
    };
  }

  /** Every exchange with the server since the start. */
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

  /** Pin the key of the first server that is met. @throws CloudError if another one is trusted already. */
  trust(publicKey: unknown): Promise<void> {
    return this.parameters.trust(publicKey);
  }

  /** Trust the key in which the trusted key's chain of endorsements ends. @throws PackageError BadSignature */
  follow(endorsements: readonly Endorsement[]): Promise<void> {
    return this.parameters.follow(endorsements);
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

  /** Compute the changed targets, and run the module on the last example and on the exported one. */
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
      // The exported example came last.
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

/** @throws ArtifactError if the base model does not work on the exported example. */
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

/** Whether a number is not finite where it was. */
function isLost(before: TypedArray, now: TypedArray): boolean {
  if (!isFloats(before) || !isFloats(now)) return false;
  return before.some((value, place) => Number.isFinite(value) && !Number.isFinite(now[place]));
}

/** Whether numbers differ; NaN is NaN. */
function isOther(one: TypedArray, other: TypedArray): boolean {
  if (one.length !== other.length) return true;
  for (let place = 0; place < one.length; place++) {
    const [first, second] = [one[place], other[place]];
    if (first !== second && !(Number.isNaN(first) && Number.isNaN(second))) return true;
  }
  return false;
}

/** The last of several examples. */
function lastOf(data: Arrays): Arrays {
  return new Map(
    [...data].map(([name, { dtype, data: values, shape }]) => {
      const size = values.length / shape[0];
      return [name, { dtype, data: values.slice(-size) as TypedArray, shape: [1, ...shape.slice(1)] }];
    }),
  );
}
