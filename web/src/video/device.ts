/** Video device: it works without any server, and takes up parameters that were made for it. */

import type { Bytes } from "../protocol/bytes";
import { PackageError } from "../protocol/errors";
import { DEVICE_ID, QUERIES_A_CLIP } from "../protocol/limits";
import type { Package, Tensors } from "../protocol/package";
import { encodeRequest } from "../protocol/request";
import { DeviceInputError, messageOf } from "../device/errors";
import { uplinkRow } from "../device/uplink";
import type { Bundle } from "./bundle";
import { type Frames, type Graphs, type Matrix, rowOf } from "./graphs";
import { type NoticeStatus, ParameterKeeper, type Snapshot } from "../device/parameters";
import type { Store } from "../device/store";
import type { Keys } from "../device/trust";

const MAX_CLIPS = 64;
const MAX_FRAMES = 64;

/** One observed clip: `anchor` and `query` are sent, the rest stays on the device. */
interface Seen {
  anchor: Float32Array;
  query: Float32Array | null;
  features: Matrix;
  queryFeatures: Matrix | null;
}

export interface Status {
  device: string;
  model: string;
  task: string;
  form: string;
  support: number;
  source: Snapshot<Tensors>["source"];
  sequence: number;
  expires: number | null;
  expired: boolean;
  why: string;
  packages: number[];
  publicKey: string | null;
  notice: NoticeStatus | null;
  refused: { error: string; message: string } | null;
  storeError: string | null;
}

/** Device for videos and questions, similar to `Device` of the library. */
export class VideoDevice {
  private readonly parameters: ParameterKeeper<Tensors>;
  private seen: Seen[] = [];

  private constructor(
    readonly id: string,
    readonly bundle: Bundle,
    readonly graphs: Graphs,
    private readonly store: Store,
  ) {
    this.parameters = new ParameterKeeper(bundle, bundle.base, id, store, async (parameters) => {
      await this.probe(parameters);
      return parameters;
    });
  }

  /**
   * Start with the last package that the browser has kept, if it may still be run.
   *
   * @throws DeviceInputError if the id is malformed; PackageError if the base model does not work.
   */
  static async start(id: string, bundle: Bundle, graphs: Graphs, store: Store): Promise<VideoDevice> {
    if (!DEVICE_ID.test(id)) {
      throw new DeviceInputError(
        "a device's name begins with a letter or digit and has at most 128 letters, digits and ._:@+-",
      );
    }
    const device = new VideoDevice(id, bundle, graphs, store);
    await device.probe(bundle.base);
    await device.parameters.start();
    return device;
  }

  /** Compute trunk features of a clip, a row for each frame. @throws DeviceInputError if the frames cannot be used. */
  look(frames: Frames): Promise<Matrix> {
    const { rgb, count, height, width } = frames;
    if (!(count >= 1 && count <= MAX_FRAMES)) {
      throw new DeviceInputError(`a clip must have 1 to ${MAX_FRAMES} frames, not ${count}`);
    }
    if (rgb.length !== 3 * count * height * width || rgb.length === 0) {
      throw new DeviceInputError(`${rgb.length} bytes are no ${count} frames of ${height} x ${width} pixels`);
    }
    return this.graphs.image(frames);
  }

  /** Compute trunk features of texts, a row for each text. @throws DeviceInputError if a text cannot be used. */
  read(texts: readonly string[]): Promise<Matrix> {
    for (const text of texts) {
      if (!text.trim()) throw new DeviceInputError("a question or text may not be empty");
      if (!text.isWellFormed()) throw new DeviceInputError("a question or text is no valid text");
    }
    if (!texts.length) throw new DeviceInputError("there is no question to answer");
    return this.graphs.text(texts);
  }

  /** Add a clip to the support set: its middle frame, and the mean of its first 8 queries' features. */
  observe(clip: Matrix, queries: Matrix | null): void {
    const middle = rowOf(clip, Math.floor(clip.rows / 2));
    const queryFeatures = queries && { ...queries, rows: Math.min(queries.rows, QUERIES_A_CLIP) };
    const own: Seen = {
      anchor: uplinkRow(this.bundle.image, middle),
      query: queryFeatures && uplinkRow(this.bundle.text, meanRow(queryFeatures)),
      features: { values: middle, rows: 1, columns: clip.columns },
      queryFeatures,
    };
    this.seen = [...this.seen, own].slice(-MAX_CLIPS);
  }

  /** Clear the support set. */
  forget(): void {
    this.seen = [];
  }

  /** Build the request; nothing else about clips leaves the device. @throws DeviceInputError without clips. */
  request(): Bytes {
    if (!this.seen.length) throw new DeviceInputError("ask about at least one clip before adapting");
    const asked = this.seen.flatMap(({ query }, clip) => (query ? [{ query, clip }] : []));
    return encodeRequest({
      device: this.id,
      model: this.bundle.model,
      sequence: this.parameters.highest,
      anchors: this.seen.map(({ anchor }) => anchor),
      queries: asked.map(({ query }) => query),
      clipOfQuery: asked.map(({ clip }) => clip),
      queryDim: this.bundle.text.dim,
    });
  }

  /** Return the parameters of the base model, or the running ones. */
  of(which: "base" | "current"): Tensors {
    return which === "base" ? this.bundle.base : this.parameters.current.feed;
  }

  /** Check a sealed package, try it, keep it, and use it from now on. @throws PackageError if it may not be run. */
  apply(bytes: Bytes): Promise<Package> {
    return this.parameters.apply(bytes);
  }

  rollBack(to: number): Promise<void> {
    return this.parameters.rollBack(to);
  }

  get model(): string {
    return this.bundle.model;
  }

  get publicKey(): string | null {
    return this.parameters.publicKey;
  }

  trust(publicKey: unknown): Promise<void> {
    return this.parameters.trust(publicKey);
  }

  get root(): string | null {
    return this.parameters.root;
  }

  follow(keys: Keys): Promise<void> {
    return this.parameters.follow(keys);
  }

  /** Take a notice of recalled packages; return whether other parameters run because of it. @throws PackageError */
  heed(bytes: Bytes): Promise<boolean> {
    return this.parameters.heed(bytes);
  }

  /** Describe what the device runs, and why it runs nothing newer. */
  status(): Status {
    const { source, sequence, expires, why } = this.parameters.current;
    return {
      device: this.id,
      model: this.bundle.model,
      task: this.bundle.task,
      form: this.bundle.form,
      support: this.seen.length,
      source,
      sequence,
      expires,
      expired: expires !== null && Date.now() / 1000 >= expires,
      why,
      packages: this.parameters.packages,
      publicKey: this.publicKey,
      notice: this.parameters.noticeStatus,
      refused: this.parameters.refused,
      storeError: this.store.problem,
    };
  }

  /** Run the model once, on the last clip if there is one, else on the mean features. */
  private async probe(parameters: Tensors): Promise<void> {
    const last = this.seen.at(-1);
    const clip = last?.features ?? single(this.bundle.image.mean);
    const texts = last?.queryFeatures ?? single(this.bundle.text.mean);
    let outputs: Matrix[];
    try {
      outputs = await this.outputs(clip, texts, parameters);
    } catch (error) {
      throw new PackageError(
        "ProbeFailed",
        `the model cannot run with these parameters: ${messageOf(error)}`,
      );
    }
    if (!outputs.every(({ values }) => values.every(Number.isFinite))) {
      throw new PackageError("ProbeFailed", "with these parameters the model's outputs are not finite");
    }
  }

  private async outputs(clip: Matrix, texts: Matrix, parameters: Tensors): Promise<Matrix[]> {
    const { task, answers } = this.bundle;
    if (task === "retrieval") {
      return [await this.graphs.embedClip(clip, parameters), await this.graphs.embedTexts(texts, parameters)];
    }
    if (task === "choice") {
      return [await this.graphs.choose(clip, single(rowOf(texts, 0)), texts, parameters)];
    }
    const logits = await this.graphs.answer(clip, texts, parameters);
    if (logits.columns !== answers.length)
      throw new Error(`${logits.columns} logits for ${answers.length} answers`);
    return [logits];
  }
}

export function single(values: Float32Array): Matrix {
  return { values, rows: 1, columns: values.length };
}

function meanRow({ values, rows, columns }: Matrix): Float32Array {
  return Float32Array.from({ length: columns }, (_, column) => {
    let sum = 0;
    for (let row = 0; row < rows; row++) sum += values[row * columns + column];
    return sum / rows;
  });
}
