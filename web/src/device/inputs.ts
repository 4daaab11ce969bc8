/** Check of any module's inputs against the manifest; the errors name the input. See `paramcast.device.arguments`. */

import { product } from "../protocol/tensors";
import { converted, type Dtype, dtypeOf, isSafe, type NdArray, type TypedArray } from "./arrays";
import { DeviceInputError } from "./errors";
import { isList, isTable, kindOf, misfit, names, type Nested, pick, type Tree } from "./trees";

/** Tensor of a graph; null stands for an axis of any length. */
export interface TensorSpec {
  name: string;
  dtype: Dtype;
  shape: readonly (number | null)[];
}

/** Array in the dtype of the graph's input. */
export interface Checked {
  dtype: Dtype;
  data: TypedArray;
  shape: readonly number[];
}

export type Arrays = ReadonlyMap<string, Checked>;

/**
 * Inputs of a model: an array where there is one input; a list in the order of the module's arguments, or an object
 * by their names, nested as the module takes them.
 */
export type Inputs = Nested<NdArray>;

/** Return the arrays by the names of the graph's inputs. @throws DeviceInputError if they do not fit the model. */
export function checkInputs(x: unknown, specs: readonly TensorSpec[], tree: Tree): Arrays {
  const given = new Map(pick(...matched(x, tree)));
  const arrays = new Map(specs.map((spec) => [spec.name, checked(given.get(spec.name), spec)]));
  const counts = [...arrays].map(([name, { shape }]) => `${name} has ${shape[0]}`);
  if (new Set([...arrays.values()].map(({ shape }) => shape[0])).size > 1) {
    throw new DeviceInputError(`the inputs must have equally many examples: ${counts.join(", ")}`);
  }
  return arrays;
}

/** Return tree and value in a common form: arguments may be given by position or name, a single one by itself. */
function matched(x: unknown, tree: Tree): [Tree, unknown] {
  const listed = typeof tree === "string" ? [tree] : Object.values(tree ?? {});
  if (Array.isArray(x)) return [listed, x];
  const only = listed.length === 1 ? (listed[0] as Tree) : null;
  if (isArray(x)) {
    if (typeof only === "string") return [only, x];
  } else if (isTable(x)) {
    if (isTable(tree)) return [tree as Tree, x];
    // The only argument of the module may be an object.
    if (isTable(only) && Object.keys(only).sort().join() === Object.keys(x).sort().join()) return [only, x];
    return [
      Object.fromEntries(listed.map((part, place) => [argument(part as Tree, place), part as Tree])),
      x,
    ];
  } else if (typeof only === "string") return [only, x];
  throw misfit(
    `a list or an object of arrays is needed (${names(tree).join(", ")}), not ${isArray(x) ? "an array" : kindOf(x)}`,
  );
}

/** Return the name of an argument: its tensor's name, or the prefix of its tensors' names. */
function argument(part: Tree, place: number): string {
  if (typeof part === "string") return part;
  return names(part)[0]?.split(".")[0] ?? String(place);
}

function isArray(value: unknown): value is NdArray {
  return isTable(value) && dtypeOf(value.data) !== null && isList(value.shape);
}

function checked(value: unknown, { name, dtype, shape }: TensorSpec): Checked {
  if (!isArray(value)) {
    throw new DeviceInputError(
      `input ${name} must be an array, { data: typed array, shape: [...] }, not ${kindOf(value)}`,
    );
  }
  const given = dtypeOf(value.data)!;
  if (!isSafe(given, dtype)) throw new DeviceInputError(`input ${name} must be ${dtype}, not ${given}`);
  const sizes = [...value.shape];
  const fits =
    sizes.length === shape.length &&
    sizes.every(
      (size, axis) => Number.isSafeInteger(size) && size >= 0 && [null, size].includes(shape[axis]),
    );
  if (!fits) {
    const wanted = shape.map((size) => size ?? "any").join(", ");
    throw new DeviceInputError(`input ${name} must have the shape [${wanted}], not [${sizes.join(", ")}]`);
  }
  if (product(sizes) !== value.data.length) {
    throw new DeviceInputError(
      `input ${name}: ${value.data.length} numbers are not of shape [${sizes.join(", ")}]`,
    );
  }
  if (value.data.length === 0) throw new DeviceInputError(`input ${name} is empty`);
  const data = converted(value.data, dtype);
  if (dtype === "bool" && (data as Uint8Array).some((flag) => flag > 1)) {
    throw new DeviceInputError(`input ${name} must hold 0 and 1 only, as its type is bool`);
  }
  return { dtype, data, shape: sizes };
}
