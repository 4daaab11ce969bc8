/** Effect of an update on the probe, as signed by the server; see `paramcast.artifact.effect`. */

import type { TensorSpec } from "./inputs";
import type { EffectSpec } from "./manifest";
import type { Outputs } from "./module_graphs";

const STEPS = 4096;
const TOP = 32767;
const TAG = 4;

/**
 * Return the chosen numbers of the outputs as shares of their scales, clipped to the range of 16 bits.
 *
 * @param specs the outputs in the manifest's order.
 * @returns null if a number is missing or not finite.
 */
export function sharesOf(
  { positions, scales }: EffectSpec,
  outputs: Outputs,
  specs: readonly TensorSpec[],
): number[] | null {
  const flat = specs
    .filter(({ dtype }) => dtype.startsWith("float"))
    .map(({ name }) => outputs.get(name)!.data);
  const shares = positions.map((position, place) => {
    let at = position;
    for (const part of flat) {
      if (at < part.length) return Number(part[at]) / scales[place];
      at -= part.length;
    }
    return NaN;
  });
  if (!shares.every(Number.isFinite)) return null;
  return shares.map((share) => Math.min(Math.max(share, -TOP / STEPS), TOP / STEPS));
}

/**
 * Return the fault of this device's outputs, or null.
 *
 * @param tag tag of the device's probe; nothing is compared if the effect has another tag.
 * @param effect effect that the server has signed.
 * @param found shares of the outputs under the update.
 * @param base shares of the outputs without the update.
 */
export function fault(
  spec: EffectSpec,
  tag: Uint8Array,
  effect: Uint8Array,
  found: readonly number[] | null,
  base: readonly number[] | null,
): string | null {
  if (tag.some((byte, place) => effect[place] !== byte)) return null;
  if (effect.length !== TAG + 2 * spec.positions.length) {
    return `the update tells other outputs of the example than the artifact's ${spec.positions.length}`;
  }
  const view = new DataView(effect.buffer, effect.byteOffset + TAG);
  const wanted = spec.positions.map((_, place) => view.getInt16(2 * place, true) / STEPS);
  const limit = spec.tolerance * Math.max(1, ...wanted.map(Math.abs)) + 0.5 / STEPS;
  const off = found ? farthest(found, wanted) : Infinity;
  if (off <= limit) return null;
  if (found && base && farthest(found, base) <= limit) {
    return "the model gives the base's outputs under the update: the runtime does not use its parameters";
  }
  return (
    `an output of the example is off by ${off.toPrecision(2)} of its size from what the server has found: ` +
    "the graph or its constants are not those that the update is for"
  );
}

function farthest(one: readonly number[], other: readonly number[]): number {
  return Math.max(...one.map((value, place) => Math.abs(value - other[place])));
}
