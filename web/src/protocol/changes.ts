/**
 * Effect of an update: how its tensors change one target of a module; see `paramcast.protocol.changes`.
 *
 * A target of two or more axes is a matrix: its rows are the first axis, its columns all the others.
 */

import { MAX_TENSOR_NAME, MAX_TENSOR_PARTS } from "./limits";
import type { Tensors } from "./package";

/** A parameter or running statistic without an update: float32 values in C order, and their shape. */
export interface Target {
  name: string;
  shape: readonly number[];
  values: Float32Array;
}

type Values = Float32Array<ArrayBuffer>;
type Change = (target: Target, values: Tensors, constants: Tensors) => Values;

/** Number of characters kept free after a target's name, for `.shift`, `.basis` and a quantization's scales. */
const SUFFIX = 16;

/** Return the name under which an update's tensors refer to a target; nearly always the target's name. */
export function tensorName(target: string): string {
  const escaped = (character: string) => `_x${character.codePointAt(0)!.toString(16)}_`;
  const parts = target.split(".").map((part) => part.replace(/[^A-Za-z0-9_]/gu, escaped));
  let name = parts.join(".");
  if (parts.length > MAX_TENSOR_PARTS - 2) name = parts.join("_");
  return name.slice(-(MAX_TENSOR_NAME - SUFFIX)).replace(/^\.+/, "");
}

/**
 * Change one target by one kind of adapter.
 *
 * @throws RangeError if a tensor is missing or does not fit the target.
 */
export function changed(kind: Kind, target: Target, values: Tensors, constants: Tensors): Values {
  return KINDS[kind](target, values, constants);
}

/** Add a sum of the learned basis, weighted by the codes. */
function basis(target: Target, values: Tensors, constants: Tensors): Values {
  const [codes, name] = [of(values, "codes"), tensorName(target.name)];
  if (!constants.has(`${name}.u`)) return plusRows(target, codes, of(constants, `${name}.basis`));
  const u = of(constants, `${name}.u`);
  const v = of(constants, `${name}.v`);
  const [rows, columns] = matrix(target);
  fits(u, codes.length * rows, `${name}.u`);
  fits(v, codes.length * columns, `${name}.v`);
  return plusProduct(target, codes.length, (row, rank) => u[rank * rows + row] * codes[rank], v);
}

/** Add a matrix of low rank, or a vector. */
function lowrank(target: Target, values: Tensors): Values {
  const name = tensorName(target.name);
  const a = values.get(`${name}.a`);
  if (!a) return plus(target, of(values, name));
  const b = of(values, `${name}.b`);
  const [rows, columns] = matrix(target);
  const rank = a.length / rows;
  fits(b, rank * columns, `${name}.b`);
  return plusProduct(target, rank, (row, place) => a[row * rank + place], b);
}

/** Add the update's tensor. */
function residual(target: Target, values: Tensors): Values {
  return plus(target, of(values, tensorName(target.name)));
}

/** Replace the base by the update's tensor. */
function full(target: Target, values: Tensors): Values {
  const name = tensorName(target.name);
  return Float32Array.from(fits(of(values, name), target.values.length, name));
}

/** Move a running mean by `shift` of its deviations, or multiply a running variance by exp(`scale`). */
function statistics(target: Target, values: Tensors, constants: Tensors): Values {
  const end = target.name.lastIndexOf(".");
  const named = (what: string) => tensorName(end < 0 ? what : `${target.name.slice(0, end)}.${what}`);
  const size = target.values.length;
  if (target.name.slice(end + 1) === "running_mean") {
    const shift = fits(of(values, named("shift")), size, named("shift"));
    const deviation = fits(of(constants, `${tensorName(target.name)}.deviation`), size, target.name);
    return target.values.map((value, place) => value + shift[place] * deviation[place]) as Values;
  }
  const scale = fits(of(values, named("scale")), size, named("scale"));
  return target.values.map((value, place) => value * Math.exp(scale[place])) as Values;
}

/** Add a weighted sum of a basis that is given and not learned. */
function centre(target: Target, values: Tensors, constants: Tensors): Values {
  return plusRows(target, of(values, "centre"), of(constants, `${tensorName(target.name)}.centre`));
}

const KINDS = { basis, lowrank, residual, full, statistics, centre } satisfies Record<string, Change>;
export type Kind = keyof typeof KINDS;

export function isKind(text: unknown): text is Kind {
  return typeof text === "string" && Object.hasOwn(KINDS, text);
}

function matrix({ shape, values }: Target): [number, number] {
  const rows = shape.length ? shape[0] : 1;
  return [rows, rows ? values.length / rows : 0];
}

function of(tensors: Tensors, name: string): Values {
  const found = tensors.get(name);
  if (!found) throw new RangeError(`the tensor ${name} is missing`);
  return found;
}

function fits(values: Values, size: number, name: string): Values {
  if (values.length === size) return values;
  throw new RangeError(`the tensor ${name} has ${values.length} numbers where ${size} are needed`);
}

function plus(target: Target, edit: Values): Values {
  fits(edit, target.values.length, target.name);
  return target.values.map((value, place) => value + edit[place]) as Values;
}

/** Compute base + codes (r,) @ rows (r, n). */
function plusRows(target: Target, codes: Values, rows: Values): Values {
  const size = target.values.length;
  fits(rows, codes.length * size, target.name);
  const sum = new Float64Array(size);
  codes.forEach((code, rank) => {
    for (let place = 0; place < size; place++) sum[place] += code * rows[rank * size + place];
  });
  return target.values.map((value, place) => value + sum[place]) as Values;
}

/** Compute base + left (O, r) @ right (r, I) row by row, so that no second matrix is needed in memory. */
function plusProduct(
  target: Target,
  ranks: number,
  left: (row: number, rank: number) => number,
  right: Values,
): Values {
  const [rows, columns] = matrix(target);
  const result = new Float32Array(target.values.length);
  const sum = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    sum.fill(0);
    for (let rank = 0; rank < ranks; rank++) {
      const factor = left(row, rank);
      const start = rank * columns;
      for (let column = 0; column < columns; column++) sum[column] += factor * right[start + column];
    }
    const start = row * columns;
    for (let column = 0; column < columns; column++) {
      result[start + column] = target.values[start + column] + sum[column];
    }
  }
  return result;
}
