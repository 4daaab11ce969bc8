/** Open the signed bytes that carry parameters; same rules in the same order as `paramcast.protocol.package`. */

import { type Bytes, fromBase64, joined } from "./bytes";
import { PackageError } from "./errors";
import {
  DEVICE_ID,
  FORM,
  MAX_EFFECT_BYTES,
  MAX_JUMP,
  MAX_PACKAGE_BYTES,
  MAX_PACKAGE_HEADER_BYTES,
  MAX_SEQUENCE,
  MAX_TIME,
  SHA256,
} from "./limits";
import { dequantize, type Quantization, storedLayout } from "./quantize";
import { checkSignature } from "./signing";
import { type Contents, FormatError, type Stored, unpack } from "./tensors";

const MAGIC = [0x50, 0x43, 0x50, 0x4b]; // PCPK
const PAYLOAD = MAGIC.length + 1 + 64;
const NUMBER = /^(0|[1-9][0-9]{0,15})$/;
/** Format byte -> quantizations of packages of this format. */
const FORMATS: Record<number, Quantization[]> = {
  1: ["fp32", "fp16", "int8"],
  2: ["int4"],
  3: ["fp32", "fp16", "int8", "int4"],
  4: ["fp32", "fp16", "int8", "int4"],
};
/** The first format with an issue time, and the first format with optional keys. */
const ISSUED = 3;
const LATEST = 4;
const REQUIRED = ["d", "m", "s", "e", "f", "q"];
const OPTIONAL = ["g", "v", "x"];
const NUMBERS = ["s", "e", "i", "g", "v"];

export type Shapes = ReadonlyMap<string, readonly number[]>;
export type Tensors = ReadonlyMap<string, Float32Array<ArrayBuffer>>;

export interface Package {
  device: string;
  model: string;
  sequence: number;
  /** Unix seconds from which the package may no longer be taken up. */
  expires: number;
  form: string;
  quantization: Quantization;
  /** float32 values in C order, by name of the tensor. */
  tensors: Tensors;
  /** Unix seconds when the cloud signed the package, by the cloud's clock; null if the package has no issue time. */
  issued: number | null;
  /** Generation in which the root delegated the signing key; 0 if no root delegated it. */
  generation: number;
  /** Server's version of the model that made the package; null if it has none. */
  version: number | null;
  /** Effect of the package on the artifact's probe; null if the package has none. */
  effect: Bytes | null;
}

/** Device and time for which a package is opened. */
export interface Rules {
  device: string;
  model: string;
  /** Highest sequence number that the device has run. */
  after: number;
  /** Unix time in seconds. */
  now: number;
  /** Generation in which the root has delegated the key; null or absent if no root is known: any is accepted. */
  generation?: number | null;
  /** Unix time that has certainly passed; used only for packages without an issue time. */
  notBefore?: number;
  /** Shapes of the model's dynamic tensors; a package must have exactly these tensors. */
  expected: Shapes;
}

/**
 * Check every rule and open the package; nothing is parsed before the signature is checked.
 *
 * @param publicKey hex of the cloud's key.
 * @throws PackageError for the first broken rule.
 */
export async function openPackage(data: Bytes, publicKey: string, rules: Rules): Promise<Package> {
  const { metadata, arrays } = contents(await signedPayload(data, publicKey));
  const head = readHead(metadata, data[MAGIC.length]);
  const { generation = null } = rules;
  if (generation !== null && head.generation !== generation) {
    const text = `the package is of generation ${head.generation}, the key is trusted in generation ${generation}`;
    throw new PackageError("WrongGeneration", text);
  }
  if (head.device !== rules.device) {
    throw new PackageError(
      "WrongDevice",
      `the package is for device ${head.device}, this is ${rules.device}`,
    );
  }
  if (head.model !== rules.model) {
    const [theirs, ours] = [head.model.slice(0, 12), rules.model.slice(0, 12)];
    throw new PackageError("WrongModel", `the package is for base model ${theirs}, this device runs ${ours}`);
  }
  if (head.sequence <= rules.after) {
    const text = `package ${head.sequence} is not newer than ${rules.after}, which this device has run`;
    throw new PackageError("StaleSequence", text);
  }
  if (rules.after && head.sequence > rules.after + MAX_JUMP) {
    const text = `package ${head.sequence} is more than ${MAX_JUMP} above ${rules.after}, which this device has run`;
    throw new PackageError("SequenceJump", text);
  }
  const at = head.issued === null ? Math.max(rules.now, rules.notBefore ?? 0) : rules.now;
  if (at >= head.expires) {
    const text = `the package expired at ${head.expires}, it is ${Math.floor(at)} now (unix seconds)`;
    throw new PackageError("Expired", text);
  }
  checkLayout(arrays, rules.expected, head.quantization);
  const tensors = new Map(
    [...rules.expected].map(([name, shape]) => [name, dequantize(name, arrays, shape)] as const),
  );
  checkFinite(tensors);
  return { ...head, tensors };
}

/** Check size, magic, format and signature, and return the safetensors bytes. */
async function signedPayload(data: Bytes, publicKey: string): Promise<Bytes> {
  if (data.length > MAX_PACKAGE_BYTES) {
    throw new PackageError(
      "TooLarge",
      `the package has ${data.length} bytes, more than ${MAX_PACKAGE_BYTES}`,
    );
  }
  if (data.length < PAYLOAD || MAGIC.some((byte, place) => data[place] !== byte)) {
    throw new PackageError("BadFormat", "these bytes are no parameter package");
  }
  const kind = data.subarray(MAGIC.length, MAGIC.length + 1);
  if (!(kind[0] in FORMATS)) {
    throw new PackageError("BadFormat", `package format ${kind[0]} is unknown here; this page reads 1 to 4`);
  }
  const payload = data.subarray(PAYLOAD);
  await checkSignature(publicKey, joined(kind, payload), data.subarray(MAGIC.length + 1, PAYLOAD));
  return payload;
}

function contents(payload: Bytes): Contents {
  try {
    return unpack(payload, MAX_PACKAGE_HEADER_BYTES);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new PackageError("BadFormat", `the package is malformed: ${error.message}`);
  }
}

function readHead(metadata: Record<string, string>, kind: number): Omit<Package, "tensors"> {
  const { d: device, m: model, f: form, q } = metadata;
  const required = kind >= ISSUED ? [...REQUIRED, "i"] : REQUIRED;
  const allowed = kind === LATEST ? [...required, ...OPTIONAL] : required;
  const keys = Object.keys(metadata);
  const said = NUMBERS.filter((name) => Object.hasOwn(metadata, name));
  const number = (name: string) => (said.includes(name) ? Number(metadata[name]) : null);
  const [sequence, expires, issued] = [number("s")!, number("e")!, number("i")];
  const [generation, version] = [number("g"), number("v")];
  const { x } = metadata;
  const effect = x === undefined ? null : fromBase64(x);
  const isComplete = required.every((name) => keys.includes(name));
  const broken: [boolean, string][] = [
    [
      !isComplete || !keys.every((name) => allowed.includes(name)),
      `metadata are not those of format ${kind}`,
    ],
    [said.some((name) => !NUMBER.test(metadata[name])), "numbers are no numbers"],
    [generation === 0, "generation 0 is none"],
    [x !== undefined && effect === null, "effect is no base64"],
    [
      effect !== null && !(effect.length >= 1 && effect.length <= MAX_EFFECT_BYTES),
      `effect must have 1 to ${MAX_EFFECT_BYTES} bytes`,
    ],
    [!DEVICE_ID.test(device), "device id is malformed"],
    [!SHA256.test(model), "model is no sha256 of 64 lower-case hex digits"],
    [!(sequence >= 1 && sequence <= MAX_SEQUENCE), `sequence number must be 1 to ${MAX_SEQUENCE}`],
    [!(expires >= 0 && expires <= MAX_TIME), `expiry must be 0 to ${MAX_TIME}`],
    [issued !== null && issued > expires, "issue time must be 0 up to its expiry"],
    [generation !== null && generation > MAX_SEQUENCE, `generation must be 0 to ${MAX_SEQUENCE}`],
    [
      version !== null && !(version >= 1 && version <= MAX_SEQUENCE),
      `model version must be 1 to ${MAX_SEQUENCE}`,
    ],
    [!FORM.test(form), "form is malformed"],
    [!FORMATS[kind].includes(q as Quantization), `quantization must be one of ${FORMATS[kind].join(", ")}`],
  ];
  const first = broken.find(([isBroken]) => isBroken);
  if (first) throw new PackageError("BadFormat", `the package's ${first[1]}`);
  const head = { device, model, sequence, expires, form, quantization: q as Quantization, issued };
  return { ...head, generation: generation ?? 0, version, effect };
}

/** Compare names, dtypes and shapes with those of the model, before any tensor is dequantized. */
function checkLayout(arrays: Map<string, Stored>, expected: Shapes, quantization: Quantization): void {
  const layout = [...expected].flatMap(([name, shape]) => storedLayout(name, shape, quantization));
  const names = new Set(layout.map(([name]) => name));
  const missing = [...names].filter((name) => !arrays.has(name)).sort();
  if (missing.length) {
    const text = `the package lacks ${missing.length} tensors, the first is ${missing[0]}`;
    throw new PackageError("MissingTensor", text);
  }
  const extra = [...arrays.keys()].filter((name) => !names.has(name)).sort();
  if (extra.length) {
    const text = `the package has ${extra.length} tensors too many, the first is ${extra[0].slice(0, 200)}`;
    throw new PackageError("UnexpectedTensor", text);
  }
  for (const [name, dtype, shape] of layout) {
    const stored = arrays.get(name)!;
    if (stored.dtype !== dtype) {
      throw new PackageError("WrongDtype", `tensor ${name} must be ${dtype}, not ${stored.dtype}`);
    }
    if (stored.shape.join() !== shape.join()) {
      const text = `tensor ${name} must have shape [${shape}], not [${stored.shape}]`;
      throw new PackageError("WrongShape", text);
    }
  }
}

function checkFinite(tensors: Tensors): void {
  for (const [name, values] of tensors) {
    if (!values.every(Number.isFinite)) {
      throw new PackageError("NotFinite", `tensor ${name} holds NaN or an infinity`);
    }
  }
}
