/** Strict reader and writer of the safetensors format, with the same rules as `paramcast.protocol.tensors`. */

import { type Bytes, joined, utf8 } from "./bytes";
import { MAX_DIMENSIONS, MAX_PACKAGE_BYTES } from "./limits";

/** Bytes per item of the dtypes that packages may have. */
export const ITEM_BYTES = { U8: 1, I8: 1, F16: 2, F32: 4 } as const;
/** Bytes per item of the dtypes that a file of examples may have. */
export const ALL_ITEM_BYTES = {
  ...ITEM_BYTES,
  BOOL: 1,
  U16: 2,
  I16: 2,
  U32: 4,
  I32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;
export type Dtype = keyof typeof ALL_ITEM_BYTES;

/** A stored array; `bytes` are little-endian, in C order. */
export interface Stored {
  dtype: Dtype;
  shape: number[];
  bytes: Uint8Array;
}

export interface Contents {
  metadata: Record<string, string>;
  arrays: Map<string, Stored>;
}

export class FormatError extends Error {}

const METADATA = "__metadata__";
const LENGTH_BYTES = 8;

/** Write arrays of bytes, given in ascending order of names. */
export function packBytes(
  metadata: Record<string, string>,
  arrays: Record<string, { shape: number[]; bytes: Uint8Array }>,
): Bytes {
  const header: Record<string, unknown> = { [METADATA]: metadata };
  let end = 0;
  for (const [name, { shape, bytes }] of Object.entries(arrays)) {
    header[name] = { dtype: "U8", shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const text = utf8(JSON.stringify(header));
  const padding = new Uint8Array((8 - (text.length % 8)) % 8).fill(0x20);
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length + padding.length), true);
  return joined(length, text, padding, ...Object.values(arrays).map(({ bytes }) => bytes));
}

/**
 * Read safetensors bytes; the arrays are views of `data`.
 *
 * @throws FormatError unless this is a complete, gapless file with a header of at most `maxHeader` bytes.
 */
export function unpack(
  data: Uint8Array,
  maxHeader: number,
  itemBytes: Partial<Record<Dtype, number>> = ITEM_BYTES,
): Contents {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const length = data.length < LENGTH_BYTES ? -1n : view.getBigUint64(0, true);
  if (length < 0n || length > BigInt(Math.min(maxHeader, data.length - LENGTH_BYTES))) {
    throw new FormatError("the header's length is wrong or over the limit");
  }
  const start = LENGTH_BYTES + Number(length);
  const header = parseHeader(data.subarray(LENGTH_BYTES, start));
  const body = data.subarray(start);
  const metadata = checkMetadata(header.get(METADATA) ?? {});
  header.delete(METADATA);
  const entries = [...header].map(([name, entry]) => checkEntry(name, entry, itemBytes));
  checkGapless(entries, body.length);
  const arrays = entries.map(({ name, dtype, shape, begin, end }): [string, Stored] => [
    name,
    { dtype, shape, bytes: body.subarray(begin, end) },
  ]);
  return { metadata, arrays: new Map(arrays) };
}

/** Return the values of a float32 array. */
export function floats(stored: Stored): Float32Array<ArrayBuffer> {
  return new Float32Array(stored.bytes.slice().buffer);
}

const STRINGS = /"(?:[^"\\]|\\.)*"(\s*:)?/gs;

function parseHeader(bytes: Uint8Array): Map<string, unknown> {
  let header: unknown;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
  } catch {
    throw new FormatError("the header is no JSON object");
  }
  if (!isTable(header)) throw new FormatError("the header is no JSON object");
  // JSON.parse reads 1e3 as 1000, and keeps the last of two equal keys.
  if (/[^\s\d[\]{},]/.test(text.replace(STRINGS, ""))) {
    throw new FormatError("the header holds something else than texts and whole numbers");
  }
  const keys = [...text.matchAll(STRINGS)].filter((match) => match[1] !== undefined).length;
  if (keys !== countKeys(header)) throw new FormatError("the header holds a key twice");
  return new Map(Object.entries(header));
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce((sum: number, part) => sum + countKeys(part), own);
}

function checkMetadata(metadata: unknown): Record<string, string> {
  if (!isTable(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new FormatError("the metadata are not a table of strings");
  }
  return metadata as Record<string, string>;
}

interface Entry {
  name: string;
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

function checkEntry(name: string, entry: unknown, itemBytes: Partial<Record<Dtype, number>>): Entry {
  if (!isTable(entry) || Object.keys(entry).sort().join() !== "data_offsets,dtype,shape") {
    throw new FormatError(`tensor ${name} is not described by dtype, shape and data_offsets`);
  }
  const { dtype } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(itemBytes, dtype)) {
    throw new FormatError(`tensor ${name} has an unknown dtype`);
  }
  const shape = naturalNumbers(name, entry.shape);
  const offsets = naturalNumbers(name, entry.data_offsets);
  // Zeros count as ones here, so that an empty tensor has no huge other axis either.
  if (shape.length > MAX_DIMENSIONS || product(shape.map((size) => size || 1)) > MAX_PACKAGE_BYTES) {
    throw new FormatError(`the shape of tensor ${name} is over the limit`);
  }
  const size = product(shape) * itemBytes[dtype as Dtype]!;
  if (offsets.length !== 2 || offsets[1] - offsets[0] !== size) {
    throw new FormatError(`tensor ${name}: the offsets do not fit its shape and dtype`);
  }
  return { name, dtype: dtype as Dtype, shape, begin: offsets[0], end: offsets[1] };
}

function naturalNumbers(name: string, values: unknown): number[] {
  if (!Array.isArray(values) || !values.every((value) => Number.isSafeInteger(value) && value >= 0)) {
    throw new FormatError(`tensor ${name}: shape and offsets are lists of whole numbers from 0`);
  }
  return values;
}

export function product(sizes: readonly number[]): number {
  return sizes.reduce((size, axis) => size * axis, 1);
}

function checkGapless(entries: Entry[], size: number): void {
  let expected = 0;
  for (const { begin, end } of entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== expected) throw new FormatError("the tensors overlap or leave gaps");
    expected = end;
  }
  if (expected !== size) throw new FormatError("the tensors do not fill the file exactly");
}
