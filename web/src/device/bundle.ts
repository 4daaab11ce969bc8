/** The folder that `paramcast export` wrote, fetched from the service; refused if one byte is not as written. */

import { type Bytes, sha256, toHex } from "../protocol/bytes";
import { SHA256 } from "../protocol/limits";
import type { Shapes, Tensors } from "../protocol/package";
import { isPublicKey } from "../protocol/signing";
import { FormatError, floats, type Stored, unpack } from "../protocol/tensors";
import { BundleError } from "./errors";

const COMMON = ["image.onnx", "text.onnx", "tokenizer.json", "uplink.safetensors", "base.safetensors"];
export const GRAPHS = {
  qa: ["answer.onnx"],
  choice: ["choose.onnx"],
  retrieval: ["embed_clips.onnx", "embed_texts.onnx"],
} as const;
const MAX_HEADER_BYTES = 1024 * 1024;

export type Task = keyof typeof GRAPHS;
export type Sampling = "uniform" | "time" | "scene";

/** Turns a trunk's features into what is sent: (feature - mean) @ matrix; `matrix` is D x U, in C order. */
export interface Uplink {
  mean: Float32Array;
  matrix: Float32Array;
  dim: number;
}

export interface Bundle {
  task: Task;
  /** sha256 of the base model. */
  model: string;
  form: string;
  shapes: Shapes;
  base: Tensors;
  image: Uplink;
  text: Uplink;
  /** What the logits stand for; empty for retrieval. */
  answers: string[];
  /** Hex of the cloud's key, if the bundle was exported with it. */
  publicKey: string | null;
  /** How many frames of a clip the model was trained on, and how they were chosen. */
  frames: number;
  sampling: Sampling;
}

/** Files by name, as they were checked; nobody needs those of the trunks once they are opened. */
export type Files = ReadonlyMap<string, Bytes>;

export interface Fetched {
  bundle: Bundle;
  files: Files;
}

export type Progress = (done: number, total: number) => void;

/**
 * Fetch the bundle of a base model, or of the first one that the service has.
 *
 * @param progress told after each file how many there are.
 * @throws BundleError if the service has none, or a file is damaged.
 */
export async function fetchBundle(
  service: string,
  model: string | null,
  progress: Progress,
): Promise<Fetched> {
  const listed = (await json(`${service}/v1/bundles`)) as { bundles?: { model: string }[] };
  const offered = listed.bundles?.map((bundle) => bundle.model) ?? [];
  const chosen = model ?? offered[0];
  if (!chosen || !offered.includes(chosen)) {
    throw new BundleError(
      "this service offers no model to browsers; start it with: paramcast serve ARTIFACT",
    );
  }
  const manifest = checkManifest(await json(`${service}/v1/bundles/${chosen}`));
  const names = [...COMMON, ...GRAPHS[manifest.task]];
  let done = 0;
  progress(done, names.length);
  const fetched = names.map(async (name): Promise<[string, Bytes]> => {
    const bytes = await fetchChecked(service, name, manifest.files[name]);
    progress(++done, names.length);
    return [name, bytes];
  });
  const files = new Map(await Promise.all(fetched));
  return { bundle: assembled(manifest, files), files };
}

interface Manifest {
  format: 1;
  task: Task;
  model: string;
  form: string;
  files: Record<string, string>;
  parameters: { name: string; shape: number[] }[];
  features: { frames: number; sampling?: Sampling };
  answers: string[] | null;
  public_key: string | null;
}

function checkManifest(value: unknown): Manifest {
  const manifest = value as Manifest;
  const isTask = Object.hasOwn(GRAPHS, manifest?.task);
  const answers = manifest?.answers ?? [];
  const rules: [string, boolean][] = [
    ["format", manifest?.format === 1],
    ["task", isTask],
    ["model", SHA256.test(manifest?.model)],
    ["form", typeof manifest?.form === "string"],
    ["files", typeof manifest?.files === "object" && manifest.files !== null],
    ["parameters", Array.isArray(manifest?.parameters) && manifest.parameters.every(isParameter)],
    ["features", Number.isInteger(manifest?.features?.frames) && manifest.features.frames > 0],
    ["public_key", manifest?.public_key === null || isPublicKey(manifest?.public_key)],
    ["answers", Array.isArray(answers) && answers.length > 0 === (manifest?.task !== "retrieval")],
  ];
  const broken = rules.find(([, holds]) => !holds);
  if (broken) throw new BundleError(`the bundle's ${broken[0]} is missing or malformed; export it again`);
  return manifest;
}

function isParameter(entry: unknown): boolean {
  const { name, shape } = (entry ?? {}) as { name?: unknown; shape?: unknown };
  return (
    typeof name === "string" && Array.isArray(shape) && shape.every((size) => Number.isSafeInteger(size))
  );
}

async function json(url: string): Promise<unknown> {
  const response = await answered(url, { cache: "no-cache" });
  try {
    return await response.json();
  } catch {
    throw new BundleError(`${url} is no JSON`);
  }
}

/** A file by its content; the browser's cache keeps it. */
async function fetchChecked(service: string, name: string, digest: string): Promise<Bytes> {
  if (!SHA256.test(digest)) throw new BundleError(`the bundle lacks ${name}; export it again`);
  const response = await answered(`${service}/v1/files/${digest}`, {});
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (toHex(await sha256(bytes)) !== digest) {
    throw new BundleError(`${name} is not the file that was exported: its sha256 differs`);
  }
  return bytes;
}

async function answered(url: string, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new BundleError("the service cannot be reached");
  }
  if (!response.ok) throw new BundleError(`the service answers ${response.status} to ${url}`);
  return response;
}

function assembled(manifest: Manifest, files: Files): Bundle {
  const uplink = tensorsOf(files, "uplink.safetensors");
  const base = tensorsOf(files, "base.safetensors");
  const shapes = new Map(manifest.parameters.map(({ name, shape }) => [name, shape]));
  const fits = [...shapes].every(([name, shape]) => base.get(name)?.shape.join() === shape.join());
  if (!fits || base.size !== shapes.size) {
    throw new BundleError("base.safetensors does not hold the manifest's parameters");
  }
  return {
    task: manifest.task,
    model: manifest.model,
    form: manifest.form,
    shapes,
    base: new Map([...shapes.keys()].map((name) => [name, floats(base.get(name)!)])),
    image: uplinkOf(uplink, "image"),
    text: uplinkOf(uplink, "text"),
    answers: manifest.answers ?? [],
    publicKey: manifest.public_key,
    frames: manifest.features.frames,
    sampling: manifest.features.sampling ?? "uniform",
  };
}

function tensorsOf(files: Files, name: string): Map<string, Stored> {
  try {
    const { arrays } = unpack(files.get(name)!, MAX_HEADER_BYTES);
    if ([...arrays.values()].some(({ dtype }) => dtype !== "F32")) throw new FormatError("not float32");
    return arrays;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new BundleError(`${name} is no safetensors file of float32: ${error.message}`);
  }
}

function uplinkOf(tensors: Map<string, Stored>, kind: string): Uplink {
  const [mean, matrix] = [tensors.get(`${kind}.mean`), tensors.get(`${kind}.matrix`)];
  if (!mean || matrix?.shape.length !== 2 || mean.shape.join() !== String(matrix.shape[0])) {
    throw new BundleError(`uplink.safetensors lacks a fitting ${kind}.mean and ${kind}.matrix`);
  }
  return { mean: floats(mean), matrix: floats(matrix), dim: matrix.shape[1] };
}

/** Features (D) to an uplink row (U). */
export function uplinkRow({ mean, matrix, dim }: Uplink, features: Float32Array): Float32Array {
  const row = new Float64Array(dim);
  features.forEach((feature, place) => {
    const centred = Math.fround(feature - mean[place]);
    for (let column = 0; column < dim; column++) row[column] += centred * matrix[place * dim + column];
  });
  return Float32Array.from(row);
}
