/** Arrays of a model's inputs and outputs: numbers in C order, and a shape. */

import type { Dtype as StoredDtype, Stored } from "../protocol/tensors";

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** N-dimensional numbers in C order; the examples are on the first axis. Booleans are 0 or 1 in a Uint8Array. */
export interface NdArray {
  data: TypedArray;
  shape: readonly number[];
}

type Numeric = "float" | "int" | "uint" | "bool";

interface Kind {
  kind: Numeric;
  bits: number;
  array: new (size: number) => TypedArray;
  stored: StoredDtype;
}

/** Dtypes of a graph's inputs by NumPy's names, which ONNX Runtime uses too. */
const DTYPES = {
  float32: { kind: "float", bits: 32, array: Float32Array, stored: "F32" },
  float64: { kind: "float", bits: 64, array: Float64Array, stored: "F64" },
  int8: { kind: "int", bits: 8, array: Int8Array, stored: "I8" },
  uint8: { kind: "uint", bits: 8, array: Uint8Array, stored: "U8" },
  int16: { kind: "int", bits: 16, array: Int16Array, stored: "I16" },
  uint16: { kind: "uint", bits: 16, array: Uint16Array, stored: "U16" },
  int32: { kind: "int", bits: 32, array: Int32Array, stored: "I32" },
  uint32: { kind: "uint", bits: 32, array: Uint32Array, stored: "U32" },
  int64: { kind: "int", bits: 64, array: BigInt64Array, stored: "I64" },
  uint64: { kind: "uint", bits: 64, array: BigUint64Array, stored: "U64" },
  bool: { kind: "bool", bits: 8, array: Uint8Array, stored: "BOOL" },
} satisfies Record<string, Kind>;

export type Dtype = keyof typeof DTYPES;

export function isDtype(text: unknown): text is Dtype {
  return typeof text === "string" && Object.hasOwn(DTYPES, text);
}

/** Return the dtype of an array; null for any other value. */
export function dtypeOf(data: unknown): Dtype | null {
  if (data instanceof Uint8ClampedArray) return "uint8";
  const named = Object.entries(DTYPES).find(([, { array }]) => data instanceof array);
  return (named?.[0] as Dtype | undefined) ?? null;
}

export function isFloat(dtype: Dtype): boolean {
  return DTYPES[dtype].kind === "float";
}

/** Check whether a conversion keeps every number, except for the precision of floats. */
export function isSafe(from: Dtype, to: Dtype): boolean {
  const [given, wanted]: Kind[] = [DTYPES[from], DTYPES[to]];
  if (wanted.kind === "bool") return from === "uint8";
  if (wanted.kind === "float") {
    return given.kind === "float" || given.bits <= (wanted.bits === 32 ? 16 : 64);
  }
  if (given.kind === wanted.kind) return given.bits <= wanted.bits;
  return given.kind === "uint" && wanted.kind === "int" && given.bits < wanted.bits;
}

/** Convert numbers to another dtype; always a copy, so that the caller may use the array again. */
export function converted(data: TypedArray, to: Dtype): TypedArray {
  const result = new DTYPES[to].array(data.length);
  const wide = result instanceof BigInt64Array || result instanceof BigUint64Array;
  const given = data instanceof BigInt64Array || data instanceof BigUint64Array;
  if (wide && !given) data.forEach((value, place) => (result[place] = BigInt(value)));
  else if (!wide && given) data.forEach((value, place) => (result[place] = Number(value)));
  else (result as Float32Array).set(data as Float32Array);
  return result;
}

/** Return the numbers of a stored tensor; null if it has another dtype. */
export function fromStored({ dtype, bytes }: Stored, wanted: Dtype): TypedArray | null {
  const { array, bits, stored } = DTYPES[wanted];
  if (dtype !== stored) return null;
  const result = new array((8 * bytes.length) / bits);
  new Uint8Array(result.buffer).set(bytes);
  return result;
}
