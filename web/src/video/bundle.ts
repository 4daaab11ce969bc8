/** Read the folder of the video application; it is refused if any byte was changed. */

import { SHA256 } from "../protocol/limits";
import type { Shapes, Tensors } from "../protocol/package";
import { isPublicKey } from "../protocol/signing";
import { floats, type Stored } from "../protocol/tensors";
import { ArtifactError } from "../device/errors";
import { fetchFiles, type Files, type Progress, type Source, tensorsOf } from "../device/fetching";
import type { Uplink } from "../device/uplink";

const COMMON = ["image.onnx", "text.onnx", "tokenizer.json", "uplink.safetensors", "base.safetensors"];
export const GRAPHS = {
  qa: ["answer.onnx"],
  choice: ["choose.onnx"],
  retrieval: ["embed_clips.onnx", "embed_texts.onnx"],
} as const;

export type Task = keyof typeof GRAPHS;
export type Sampling = "uniform" | "time" | "scene";

export interface Bundle {
  task: Task;
  /** sha256 of the base model. */
  model: string;
  form: string;
  shapes: Shapes;
  base: Tensors;
  image: Uplink;
  text: Uplink;
  /** Answers that the logits stand for; empty for retrieval. */
  answers: string[];
  /** Hex of the cloud's key, if the bundle was exported with it. */
  publicKey: string | null;
  /** Hex of the root's key, which decides which of the cloud's keys is trusted; null if there is no root. */
  root: string | null;
  /** Number of frames of a clip in training, and the method by which they were chosen. */
  frames: number;
  sampling: Sampling;
}

export interface Fetched {
  bundle: Bundle;
  files: Files;
}

/** Load the bundle of a manifest. @throws ArtifactError if the manifest is malformed, or a file is damaged. */
export async function loadBundle(source: Source, told: unknown, progress: Progress): Promise<Fetched> {
  const manifest = checkManifest(told);
  const names = [...COMMON, ...GRAPHS[manifest.task]];
  const files = await fetchFiles(source, names, manifest.files, progress);
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
  root?: string | null;
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
    ["root", (manifest?.root ?? null) === null || isPublicKey(manifest.root)],
    ["public_key", manifest?.public_key === null || isPublicKey(manifest?.public_key)],
    ["answers", Array.isArray(answers) && answers.length > 0 === (manifest?.task !== "retrieval")],
  ];
  const broken = rules.find(([, holds]) => !holds);
  if (broken) throw new ArtifactError(`the bundle's ${broken[0]} is missing or malformed; export it again`);
  return manifest;
}

function isParameter(entry: unknown): boolean {
  const { name, shape } = (entry ?? {}) as { name?: unknown; shape?: unknown };
  return (
    typeof name === "string" && Array.isArray(shape) && shape.every((size) => Number.isSafeInteger(size))
  );
}

function assembled(manifest: Manifest, files: Files): Bundle {
  const uplink = floatTensors(files, "uplink.safetensors");
  const base = floatTensors(files, "base.safetensors");
  const shapes = new Map(manifest.parameters.map(({ name, shape }) => [name, shape]));
  const fits = [...shapes].every(([name, shape]) => base.get(name)?.shape.join() === shape.join());
  if (!fits || base.size !== shapes.size) {
    throw new ArtifactError("base.safetensors does not hold the manifest's parameters");
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
    root: manifest.root ?? null,
    frames: manifest.features.frames,
    sampling: manifest.features.sampling ?? "uniform",
  };
}

function floatTensors(files: Files, name: string): Map<string, Stored> {
  const tensors = tensorsOf(files, name);
  if ([...tensors.values()].some(({ dtype }) => dtype !== "F32")) {
    throw new ArtifactError(`${name} is no safetensors file of float32`);
  }
  return tensors;
}

function uplinkOf(tensors: Map<string, Stored>, kind: string): Uplink {
  const [mean, matrix] = [tensors.get(`${kind}.mean`), tensors.get(`${kind}.matrix`)];
  if (!mean || matrix?.shape.length !== 2 || mean.shape.join() !== String(matrix.shape[0])) {
    throw new ArtifactError(`uplink.safetensors lacks a fitting ${kind}.mean and ${kind}.matrix`);
  }
  return { mean: floats(mean), matrix: floats(matrix), dim: matrix.shape[1] };
}
