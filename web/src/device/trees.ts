/** Nested arguments and outputs. A tree is a name, a list of trees or a table of trees; `paramcast.artifact.trees`. */

import { DeviceInputError } from "./errors";

/** null stands for a value that is no tensor and is left out. */
export type Tree = string | null | readonly Tree[] | { readonly [key: string]: Tree };
/** A leaf, or leaves nested as in a model's arguments or outputs. */
export type Nested<T> = T | null | readonly Nested<T>[] | { readonly [key: string]: Nested<T> };

const MAX_DEPTH = 32;

export function isTree(value: unknown, depth = 0): value is Tree {
  if (depth > MAX_DEPTH) return false;
  if (value === null || typeof value === "string") return true;
  return typeof value === "object" && Object.values(value).every((part) => isTree(part, depth + 1));
}

/** Return the names of a tree in order. */
export function names(tree: Tree): string[] {
  if (typeof tree === "string") return [tree];
  return tree === null ? [] : Object.values(tree).flatMap(names);
}

/** Return the tree with values in place of the names. */
export function fill<T>(tree: Tree, values: ReadonlyMap<string, T>): Nested<T> {
  if (typeof tree === "string") return values.get(tree)!;
  if (tree === null) return null;
  if (isList(tree)) return tree.map((part) => fill(part, values));
  return Object.fromEntries(Object.entries(tree).map(([key, part]) => [key, fill(part, values)]));
}

/** Return the values in `value` where the tree has names. @throws DeviceInputError that names the first misfit. */
export function pick(tree: Tree, value: unknown, where = ""): [string, unknown][] {
  const at = where && ` of ${where}`;
  const below = (key: string | number) => (where ? `${where}.${key}` : String(key));
  if (typeof tree === "string") return [[tree, value]];
  if (tree === null) return [];
  if (isList(tree)) {
    if (!Array.isArray(value)) {
      throw misfit(`a list of ${tree.length} arrays is needed${at}, not ${kindOf(value)}`);
    }
    if (value.length !== tree.length) {
      throw misfit(`${tree.length} arrays are needed${at}, not ${value.length}`);
    }
    return tree.flatMap((part, place) => pick(part, value[place], below(place)));
  }
  const wanted = Object.keys(tree);
  const listed = wanted.join(", ");
  if (!isTable(value)) throw misfit(`an object with ${listed} is needed${at}, not ${kindOf(value)}`);
  const missing = wanted.find((key) => !Object.hasOwn(value, key));
  if (missing !== undefined) throw misfit(`${missing} is missing${at}; needed are ${listed}`);
  const unknown = Object.keys(value).find((key) => !Object.hasOwn(tree, key));
  if (unknown !== undefined) throw misfit(`${unknown} is not known${at}; needed are ${listed}`);
  return wanted.flatMap((key) => pick(tree[key], value[key], below(key)));
}

export function isList(value: unknown): value is readonly Tree[] {
  return Array.isArray(value);
}

export function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** Describe the type of a value, for messages. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

export function misfit(what: string): DeviceInputError {
  return new DeviceInputError(`the inputs do not fit the model: ${what}`);
}
