/** Interface of the device for the page. It runs in a worker, so that the page responds while the model works. */

import type { Tensors } from "../protocol/package";
import { makeKey } from "../protocol/signing";
import { bench, type BenchRow } from "../video/bench";
import { type Bundle, loadBundle, type Task } from "../video/bundle";
import { Cloud, type Exchange } from "../device/cloud";
import { type Status, VideoDevice } from "../video/device";
import { type Backend, type Engine, loadEngine } from "../video/engine";
import { browserTable } from "../device/browser_table";
import { Device } from "../device/device";
import { DeviceInputError } from "../device/errors";
import { fromServer, type Progress, type Source } from "../device/fetching";
import type { TensorSpec } from "../device/inputs";
import { isModuleManifest } from "../device/manifest";
import { type Frames, Graphs, type Matrix } from "../video/graphs";
import { type Identity, Store } from "../device/store";
import { most, type Ranked, softmax } from "../video/ranking";

export interface Options {
  /** Address of the service, which is the page's origin. */
  service: string;
  /** sha256 of the base model; null for the service's first model. */
  model: string | null;
  backend: Backend | null;
}

/** A model that takes arrays. The page shows its description; the library can run it. */
export interface OpenedModule {
  kind: "module";
  task: string;
  model: string;
  adapter: string;
  inputs: readonly TensorSpec[];
  outputs: readonly TensorSpec[];
  labels: readonly string[] | null;
  backend: Backend;
  threads: number;
  device: string;
}

export interface Opened {
  kind: "video";
  task: Task;
  model: string;
  form: string;
  frames: number;
  sampling: Bundle["sampling"];
  answers: number;
  /** Bytes of the bundle's files. */
  bytes: number;
  backend: Backend;
  threads: number;
  enrolled: boolean;
}

/** A question about a clip (`clip` is its number), or a text to find clips by (`clip` is null). */
export interface Query {
  clip: number | null;
  text: string;
  /** For task choice: the options to choose from. */
  options: string[];
}

/** Answers of the base model and, after a package was taken up, of the adapted model. */
export interface Comparison {
  base: Ranked[];
  own: Ranked[] | null;
  /** Milliseconds from the features of clip and texts to the answer. */
  baseMs: number;
  ownMs: number | null;
  /** Milliseconds from the question and the options to their features, which both models share. */
  textMs: number;
}

export interface Adapted {
  sequence: number;
  form: string;
  quantization: string;
  expires: number;
  bytesUp: number;
  bytesDown: number;
  /** Milliseconds from the press of the button to running parameters. */
  milliseconds: number;
  /** The part of these for checking, trying, keeping and taking up the package. */
  swapMs: number;
  /** Whether the parameters equal the base model's, because the cloud expects no gain from others. */
  isBase: boolean;
}

interface Clip {
  features: Matrix;
  /** Questions about this clip, and all texts that were searched for. */
  asked: string[];
}

/** The device of a page, made once for each page. Call `open` before any other method. */
export class Tab {
  private parts: { device: VideoDevice; cloud: Cloud } | null = null;
  private readonly clips: Clip[] = [];
  private readonly texts = new Map<string, { features: Matrix; milliseconds: number }>();

  /** Load the model and start the device with the package that the browser has kept, if any. */
  async open({ service, model, backend }: Options, progress: Progress): Promise<Opened | OpenedModule> {
    await checkBrowser();
    await claimTab();
    const store = new Store(browserTable());
    const source = fromServer(service, model);
    const [engine, manifest] = await Promise.all([loadEngine(backend), source.manifest()]);
    const identity = (await store.identity()) ?? newIdentity();
    await store.saveIdentity(identity);
    if (isModuleManifest(manifest)) {
      return openModule(engine, source, manifest, identity.device, progress);
    }
    const { bundle, files } = await loadBundle(source, manifest, progress);
    const graphs = await Graphs.open(engine, { bundle, files });
    const cloud = new Cloud(service, store, identity);
    this.parts = { device: await VideoDevice.start(identity.device, bundle, graphs, store), cloud };
    const heed = () => void this.heed().catch(() => undefined); // offline: a later call tries again
    heed();
    setInterval(heed, NOTICE_EVERY_MS);
    return {
      kind: "video",
      task: bundle.task,
      model: bundle.model,
      form: bundle.form,
      frames: bundle.frames,
      sampling: bundle.sampling,
      answers: bundle.answers.length,
      bytes: [...files.values()].reduce((sum, file) => sum + file.length, 0),
      backend: engine.backend,
      threads: engine.threads,
      enrolled: cloud.enrolled,
    };
  }

  /** Run the trunk over a clip's frames; return the clip's number and the milliseconds. */
  async addClip(frames: Frames): Promise<{ clip: number; milliseconds: number }> {
    const start = performance.now();
    const features = await this.device.look(frames);
    this.clips.push({ features, asked: [] });
    return { clip: this.clips.length - 1, milliseconds: performance.now() - start };
  }

  /** Answer with the base model and with the running parameters. */
  async compare(query: Query): Promise<Comparison> {
    const texts = [query.text, ...query.options];
    await this.textsOf(texts);
    const textMs = texts.reduce((sum, text) => sum + this.texts.get(text)!.milliseconds, 0);
    for (const clip of this.clips) {
      const isAbout = query.clip === null || this.clips[query.clip] === clip;
      if (isAbout && !clip.asked.includes(query.text)) clip.asked.push(query.text);
    }
    const timed = async (which: "base" | "current"): Promise<[Ranked[], number]> => {
      const begin = performance.now();
      const ranked = await this.ranked(query, which);
      return [ranked, performance.now() - begin];
    };
    const [base, baseMs] = await timed("base");
    const [own, ownMs] = this.device.status().source === "base" ? [null, null] : await timed("current");
    return { base, own, baseMs, ownMs, textMs };
  }

  /** Compute the logits of all answers, or of the options, for one question about one clip. */
  async logits(query: Query, which: "base" | "current"): Promise<Float32Array> {
    const clip = this.clip(query.clip);
    const question = await this.textsOf([query.text]);
    const parameters = this.device.of(which);
    if (this.device.bundle.task === "qa") {
      return (await this.graphs.answer(clip.features, question, parameters)).values;
    }
    if (this.device.bundle.task !== "choice")
      throw new DeviceInputError("this model searches, it does not answer");
    const options = await this.textsOf(query.options);
    return (await this.graphs.choose(clip.features, question, options, parameters)).values;
  }

  /** Compute the cosine of a text and each clip, in the order of the clips. */
  async scores(text: string, which: "base" | "current"): Promise<number[]> {
    const parameters = this.device.of(which);
    const wanted = (await this.graphs.embedTexts(await this.textsOf([text]), parameters)).values;
    const scores: number[] = [];
    for (const { features } of this.clips) {
      const { values } = await this.graphs.embedClip(features, parameters);
      scores.push(values.reduce((sum, value, place) => sum + value * wanted[place], 0));
    }
    return scores;
  }

  /** Build the request that `adapt` would send now. */
  async request(): Promise<Uint8Array> {
    await this.observe();
    return this.device.request();
  }

  /** Send the features of anchors and queries, and take up the parameters in the reply. */
  async adapt(): Promise<Adapted> {
    await this.observe();
    const { device, cloud } = this.opened;
    const start = performance.now();
    const before = cloud.log.length;
    const made = await cloud.adapt(device);
    const milliseconds = performance.now() - start;
    const exchanges = cloud.log.slice(before);
    const sent = exchanges.findLast(({ what }) => what === "POST /v1/adapt")!;
    return {
      sequence: made.sequence,
      form: made.form,
      quantization: made.quantization,
      expires: made.expires,
      bytesUp: sent.up,
      bytesDown: sent.down,
      milliseconds,
      swapMs: milliseconds - exchanges.reduce((sum, exchange) => sum + exchange.milliseconds, 0),
      isBase: areClose(made.tensors, device.bundle.base),
    };
  }

  /** Fetch the cloud's notice of recalled packages; return whether other parameters run because of it. */
  async heed(): Promise<boolean> {
    const { device, cloud } = this.parts!;
    return cloud.heed(device);
  }

  /** Check a sealed package and take it up, as if it had come from the cloud. */
  async apply(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    return (await this.device.apply(bytes)).sequence;
  }

  /** Enroll this tab with a one-time token. */
  enrol(token: string): Promise<void> {
    return this.opened.cloud.enrol(token);
  }

  /** Run an earlier package again, or the base model (0). */
  rollBack(to: number): Promise<void> {
    return this.device.rollBack(to);
  }

  status(): Status {
    return this.device.status();
  }

  /** Return every exchange with the cloud since the page was loaded. */
  log(): Exchange[] {
    return this.opened.cloud.log;
  }

  /** Time answers from pixels to the answer, with base and adapted parameters in turn. */
  bench(frames: Frames, question: string, rounds: number): Promise<BenchRow[]> {
    return bench(this.device, frames, question, rounds);
  }

  /** Return the ids of a text's tokens. */
  tokens(text: string): number[] {
    return this.graphs.tokens(text);
  }

  /** Make the support set of all clips with the questions about them. */
  private async observe(): Promise<void> {
    this.device.forget();
    for (const { features, asked } of this.clips) {
      this.device.observe(features, asked.length ? await this.textsOf(asked) : null);
    }
  }

  private async ranked(query: Query, which: "base" | "current"): Promise<Ranked[]> {
    const { task, answers } = this.device.bundle;
    if (task === "retrieval") {
      const scores = await this.scores(query.text, which);
      return most(scores, (clip) => String(clip));
    }
    const texts = task === "qa" ? answers : query.options;
    return most(softmax(await this.logits(query, which)), (place) => texts[place]);
  }

  /** Return the features of texts; the features of each text are computed once. */
  private async textsOf(texts: readonly string[]): Promise<Matrix> {
    for (const text of texts) {
      if (this.texts.has(text)) continue;
      const start = performance.now();
      const features = await this.device.read([text]);
      this.texts.set(text, { features, milliseconds: performance.now() - start });
    }
    const rows = texts.map((text) => this.texts.get(text)!.features);
    if (!rows.length) throw new DeviceInputError("there is no text to read");
    const { columns } = rows[0];
    const values = new Float32Array(rows.length * columns);
    rows.forEach((row, place) => values.set(row.values, place * columns));
    return { values, rows: rows.length, columns };
  }

  private clip(number: number | null): Clip {
    const clip = number === null ? undefined : this.clips[number];
    if (!clip) throw new DeviceInputError("open a video first");
    return clip;
  }

  private get opened(): NonNullable<Tab["parts"]> {
    if (!this.parts) throw new DeviceInputError("the model is not loaded yet");
    return this.parts;
  }

  private get device(): VideoDevice {
    return this.opened.device;
  }

  private get graphs(): Graphs {
    return this.device.graphs;
  }
}

/** Start a device with the model to check that it runs in this browser, then close the device. */
async function openModule(
  { ort, backend, threads }: Engine,
  source: Source,
  manifest: unknown,
  id: string,
  progress: Progress,
): Promise<OpenedModule> {
  const device = await Device.of(source, { id, runtime: ort, progress }, manifest);
  const { model, task, adapter } = device.status;
  const { inputs, outputs, labels } = device;
  await device.close();
  return { kind: "module", task, model, adapter, inputs, outputs, labels, backend, threads, device: id };
}

const SAME = 1e-6;
const NOTICE_EVERY_MS = 3600_000;

function areClose(some: Tensors, others: Tensors): boolean {
  return [...some].every(([name, values]) => {
    const other = others.get(name)!;
    return values.every((value, place) => Math.abs(value - other[place]) < SAME);
  });
}

function newIdentity(): Identity {
  return { device: `tab-${crypto.randomUUID().slice(0, 8)}`, key: null, cloudKey: "" };
}

/** Check that the browser knows Ed25519; else every package would seem to have a bad signature. */
async function checkBrowser(): Promise<void> {
  await makeKey().catch(() => {
    throw new DeviceInputError("this browser does not know Ed25519 signatures; a newer one does");
  });
}

const RELOAD_MS = 3000;

/** Allow one tab at a time to be this device: two would use up each other's sequence numbers. */
async function claimTab(): Promise<void> {
  // A page that is loaded again may find the lock of the former page for a moment.
  const signal = AbortSignal.timeout(RELOAD_MS);
  await new Promise<void>((claimed, failed) => {
    const held = () => {
      claimed();
      return new Promise(() => undefined); // until the tab is closed
    };
    navigator.locks.request("paramcast device", { signal }, held).catch(() => {
      failed(
        new DeviceInputError("this device is open in another tab; close that one and load this one again"),
      );
    });
  });
}
