/** Read the manifest of a module's folder and check each value; see `paramcast.artifact.manifest`. */

import { sha256, toHex, utf8 } from "../protocol/bytes";
import { isKind, type Kind } from "../protocol/changes";
import { MAX_EFFECT_NUMBERS, MAX_TENSOR_NAME, SHA256, TENSOR_NAME } from "../protocol/limits";
import type { Shapes } from "../protocol/package";
import { isPublicKey } from "../protocol/signing";
import { isDtype } from "./arrays";
import { ArtifactError } from "./errors";
import type { TensorSpec } from "./inputs";
import { isTable, isTree, names, type Tree } from "./trees";

export const MODEL_FILE = "model.onnx";
export const CONTEXT_FILE = "context.onnx";

/** A parameter or buffer of the module that updates may change. */
export interface TargetSpec {
  name: string;
  shape: readonly number[];
  /** Name of the graph's input for the target. */
  input: string;
  /** Kinds of change of the target, in order. */
  kinds: readonly Kind[];
}

/** Computation of the numbers that a device sends: `output` (N, F) or (N, T, F) of `graph`, then the uplink. */
export interface ContextSpec {
  graph: string;
  output: string;
  dim: number;
  uplink: number;
}

/** Outputs of the probe that identify the effect of an update. */
export interface EffectSpec {
  /** Positions among all numbers of the floating point outputs, in the manifest's order. */
  positions: readonly number[];
  /** Scale of each of these numbers; differences are shares of it. */
  scales: readonly number[];
  /** Largest difference between engines, as a share of the scale. */
  tolerance: number;
}

export interface Manifest {
  /** sha256 of the base model that an update is made for. */
  model: string;
  adapter: string;
  task: string;
  /** Hex of the server's key, if the artifact was exported with it. */
  publicKey: string | null;
  /** Hex of the root's key that signed the manifest, if the manifest names a root. */
  root: string | null;
  labels: readonly string[] | null;
  inputs: readonly TensorSpec[];
  /** Names of the inputs, nested as the module takes its arguments. */
  arguments: Tree;
  outputs: readonly TensorSpec[];
  structure: Tree;
  /** Tensor of an update -> shape. */
  parameters: Shapes;
  targets: readonly TargetSpec[];
  context: ContextSpec;
  /** Null where no effect is compared, as in older artifacts. */
  effect: EffectSpec | null;
  files: Readonly<Record<string, unknown>>;
}

/** Keys that enter the base model's sha256; labels, task and public key may change without a new sha256. */
const IDENTITY = [
  "format",
  "kind",
  "adapter",
  "inputs",
  "call",
  "arguments",
  "outputs",
  "structure",
  "parameters",
  "targets",
  "context",
];

/** Check whether a manifest belongs to a module of any kind; else it may be one of the video application. */
export function isModuleManifest(value: unknown): boolean {
  return isTable(value) && value.format === 2 && value.kind === "module";
}

/** Check and convert a manifest. @throws ArtifactError that names the missing or malformed entry. */
export async function readManifest(value: unknown): Promise<Manifest> {
  if (!isTable(value) || !isTable(value.files)) {
    throw new ArtifactError("the manifest has no table 'files'; export again");
  }
  if (value.format === 1) {
    throw new ArtifactError(
      "the folder belongs to the video application: its page opens it, not this library",
    );
  }
  if (!isModuleManifest(value)) {
    throw new ArtifactError("this version of @paramcast/device reads devices of format 2; export again");
  }
  const broken = RULES.find(([key, holds]) => !holds(value[key]))?.[0];
  if (broken) throw new ArtifactError(`manifest.json: '${broken}' is missing or malformed; export again`);
  if (value.model !== (await modelDigest(value))) {
    throw new ArtifactError(
      "manifest.json has been changed: 'model' is not the sha256 of what it describes; export again",
    );
  }
  const told = value as unknown as Omit<Manifest, "publicKey" | "parameters"> & {
    public_key: string | null;
    parameters: Entry[];
  };
  const manifest: Manifest = {
    ...told,
    publicKey: told.public_key ?? null,
    root: told.root ?? null,
    labels: told.labels ?? null,
    effect: told.effect ?? null,
    parameters: new Map(told.parameters.map(({ name, shape }) => [name, shape as number[]])),
  };
  checkNames(manifest);
  return manifest;
}

interface Entry {
  name: string;
  dtype: unknown;
  shape: unknown[];
  input: unknown;
  kinds: unknown;
}

const isText = (value: unknown) => typeof value === "string";
const isSize = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;

function entries(holds: (entry: Entry) => boolean): (value: unknown) => boolean {
  return (value) =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((entry) => isTable(entry) && isText(entry.name) && Array.isArray(entry.shape)) &&
    value.every(holds) &&
    new Set(value.map(({ name }) => name)).size === value.length;
}

const isSpec = ({ dtype, shape }: Entry) => isDtype(dtype) && shape.every((n) => n === null || isSize(n));
const isParameter = ({ name, dtype, shape }: Entry) =>
  TENSOR_NAME.test(name) && name.length <= MAX_TENSOR_NAME && dtype === "float32" && shape.every(isSize);
const isTarget = ({ input, kinds, shape }: Entry) =>
  isText(input) && Array.isArray(kinds) && kinds.length > 0 && kinds.every(isKind) && shape.every(isSize);

const isPositive = (value: unknown) => Number.isFinite(value) && (value as number) > 0;

function isEffect(value: unknown): boolean {
  if (value === null || value === undefined) return true;
  if (!isTable(value) || !Array.isArray(value.positions) || !Array.isArray(value.scales)) return false;
  const { positions, scales, tolerance } = value;
  return (
    positions.length > 0 &&
    positions.length <= MAX_EFFECT_NUMBERS &&
    positions.length === scales.length &&
    positions.every(isSize) &&
    [...scales, tolerance].every(isPositive)
  );
}

const RULES: [string, (value: unknown) => boolean][] = [
  ["model", (value) => isText(value) && SHA256.test(value as string)],
  ["adapter", isText],
  ["task", isText],
  ["public_key", (value) => value === null || value === undefined || isPublicKey(value)],
  ["root", (value) => value === null || value === undefined || isPublicKey(value)],
  [
    "labels",
    (value) => value === null || value === undefined || (Array.isArray(value) && value.every(isText)),
  ],
  ["inputs", entries(isSpec)],
  ["call", (value) => ["positional", "keyword", "single"].includes(value as string)],
  ["arguments", (value) => value !== null && isTree(value)],
  ["outputs", entries(isSpec)],
  ["structure", (value) => value !== null && isTree(value)],
  ["parameters", entries(isParameter)],
  ["targets", entries(isTarget)],
  [
    "context",
    (value) =>
      isTable(value) &&
      [MODEL_FILE, CONTEXT_FILE].includes(value.graph as string) &&
      isText(value.output) &&
      [value.dim, value.uplink].every((size) => isSize(size) && size !== 0),
  ],
  ["effect", isEffect],
];

function checkNames(manifest: Manifest): void {
  const same = (tree: Tree, specs: readonly TensorSpec[]) => {
    const [named, known] = [new Set(names(tree)), specs.map(({ name }) => name)];
    return named.size === known.length && known.every((name) => named.has(name));
  };
  if (!same(manifest.arguments, manifest.inputs) || !same(manifest.structure, manifest.outputs)) {
    throw new ArtifactError("manifest.json: arguments or structure do not name the tensors; export again");
  }
}

/** Compute the sha256 of the base model as `paramcast.artifact.read.model_digest` does. */
async function modelDigest(manifest: Record<string, unknown>): Promise<string> {
  const told = Object.fromEntries(IDENTITY.map((key) => [key, manifest[key] ?? null]));
  const files = Object.entries(manifest.files as object).filter(([name]) => name !== "probe.safetensors");
  return toHex(await sha256(utf8(canonical({ ...told, files: Object.fromEntries(files) }))));
}

/** Format a value as JSON with sorted keys, without spaces, in ASCII. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (isTable(value)) {
    const keys = Object.keys(value).sort(byCodePoints);
    return `{${keys.map((key) => `${canonical(key)}:${canonical(value[key])}`).join()}}`;
  }
  return JSON.stringify(value).replace(
    /[\x7f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function byCodePoints(one: string, other: string): number {
  const [first, second] = [Array.from(one), Array.from(other)];
  const place = first.findIndex((character, at) => character !== second[at]);
  if (place < 0 || place >= second.length) return first.length - second.length;
  return first[place].codePointAt(0)! - second[place].codePointAt(0)!;
}
