/** Quantization of float32 tensors; see `paramcast.protocol.quantize`. */

import { type Dtype, product, type Stored } from "./tensors";

export type Quantization = "fp32" | "fp16" | "int8" | "int4";
const SCALE_SUFFIX = ":s";
const LEVELS = 127;

/** Return name, dtype and shape of the stored tensors that carry one tensor of `shape`. */
export function storedLayout(
  name: string,
  shape: readonly number[],
  quantization: Quantization,
): [string, Dtype, readonly number[]][] {
  const rows = rowCount(shape);
  const scales: [string, Dtype, number[]] = [name + SCALE_SUFFIX, "F32", [rows]];
  if (quantization === "int8") return [[name, "I8", shape], scales];
  if (quantization === "int4") {
    return [[name, "U8", [rows, Math.floor((Math.floor(product(shape) / rows) + 1) / 2)]], scales];
  }
  return [[name, quantization === "fp16" ? "F16" : "F32", shape]];
}

function rowCount(shape: readonly number[]): number {
  return shape.length > 1 ? shape[0] : 1;
}

/** Return the float32 values, in C order, of the tensor of `shape` that `arrays` carry under `name`. */
export function dequantize(
  name: string,
  arrays: ReadonlyMap<string, Stored>,
  shape: readonly number[],
): Float32Array<ArrayBuffer> {
  const { dtype, bytes } = arrays.get(name)!;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = (place: number) => {
    if (dtype === "F32") return view.getFloat32(4 * place, true);
    return dtype === "F16" ? float16(view.getUint16(2 * place, true)) : view.getInt8(place);
  };
  const values = new Float32Array(product(shape));
  const scales = arrays.get(name + SCALE_SUFFIX);
  if (scales === undefined) return values.map((_, place) => read(place));
  const columns = values.length / rowCount(shape);
  const scaleOf = new DataView(scales.bytes.buffer, scales.bytes.byteOffset);
  return values.map((_, place) => {
    const row = Math.floor(place / columns);
    const code = dtype === "U8" ? halfByte(bytes, row, place % columns, columns) : read(place);
    return code * scaleOf.getFloat32(4 * row, true);
  });
}

/** Decode the bits of a float16; only the newest browsers have a function for this. */
function float16(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 0x1f, bits & 0x3ff];
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Read an int4 code. Two codes share a byte, the first in its lower half; each row begins at a new byte. */
function halfByte(bytes: Uint8Array, row: number, column: number, columns: number): number {
  const pair = bytes[row * Math.ceil(columns / 2) + (column >> 1)];
  const code = column % 2 ? pair >> 4 : pair & 0x0f;
  return (code ^ 8) - 8; // the sign is the fourth bit
}

/**
 * Encode rows as int8 codes, each followed by its scale (float32, little-endian) and by `tail(row)`.
 *
 * @param values rows x columns finite numbers, in C order.
 */
export function int8Rows(values: Float32Array, rows: number, tail: (row: number) => number[]): Uint8Array {
  const columns = rows ? values.length / rows : 0;
  const parts = Array.from({ length: rows }, (_, row) => {
    const own = values.subarray(row * columns, (row + 1) * columns);
    const scale = towardsZero(own.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0) / LEVELS);
    const codes = Array.from(own, (value) =>
      scale > 0 ? Math.min(Math.max(roundHalfEven(value / scale), -LEVELS), LEVELS) & 0xff : 0,
    );
    const written = new Uint8Array(4);
    new DataView(written.buffer).setFloat32(0, scale, true);
    return [...codes, ...written, ...tail(row)];
  });
  return Uint8Array.from(parts.flat());
}

/** Return the next float32 towards zero, so that 127 times the scale of the largest float32 is finite. */
function towardsZero(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  if (bits[0] > 0) bits[0] -= 1;
  return new Float32Array(bits.buffer)[0];
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const above = value - floor;
  return above > 0.5 || (above === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
