/** Read and check the folder `artifact/device` of any module; see `paramcast.artifact.read`. */

import { fromHex } from "../protocol/bytes";
import { changed } from "../protocol/changes";
import type { Tensors } from "../protocol/package";
import { ALL_ITEM_BYTES, floats } from "../protocol/tensors";
import { fromStored } from "./arrays";
import { ArtifactError } from "./errors";
import { fetchFiles, type Files, type Progress, type Source, tensorsOf } from "./fetching";
import type { Arrays, Checked } from "./inputs";
import { type Manifest, MODEL_FILE, readManifest } from "./manifest";
import type { Uplink } from "./uplink";

const TENSOR_FILES = ["base.safetensors", "adapter.safetensors", "uplink.safetensors", "probe.safetensors"];

export interface Artifact extends Manifest {
  /** The graphs by name; not needed after they are opened. */
  graphs: Files;
  /** Target -> value without an update. */
  base: Tensors;
  /** Constants of the adapter on the device. */
  constants: Tensors;
  uplink: Uplink;
  /** The probe: one example. */
  probe: Arrays;
  /** 4 bytes that identify the probe. */
  probeTag: Uint8Array;
}

/**
 * Load and check a folder.
 *
 * @param given the manifest, if it has been read already.
 * @throws ArtifactError if a file is missing, damaged or does not fit the others.
 */
export async function loadArtifact(source: Source, progress?: Progress, given?: unknown): Promise<Artifact> {
  const manifest = await readManifest(given ?? (await source.manifest()));
  const graphs = [...new Set([MODEL_FILE, manifest.context.graph])];
  const files = await fetchFiles(source, [...graphs, ...TENSOR_FILES], manifest.files, progress);
  const base = floatsOf(files, "base.safetensors");
  const fits = manifest.targets.every(({ name, shape }) => base.shapes.get(name) === shape.join());
  if (!fits || base.tensors.size !== manifest.targets.length) {
    throw new ArtifactError("base.safetensors does not hold the manifest's targets; export again");
  }
  return {
    ...manifest,
    graphs: new Map(graphs.map((name) => [name, files.get(name)!])),
    base: base.tensors,
    constants: floatsOf(files, "adapter.safetensors").tensors,
    uplink: uplinkOf(files, manifest),
    probe: probeOf(files, manifest),
    probeTag: fromHex(String(manifest.files["probe.safetensors"]).slice(0, 8))!,
  };
}

/**
 * Compute every target under an update, by the name of the graph's input.
 *
 * @throws RangeError if an update or a constant does not fit its target.
 */
export function changedTargets(artifact: Artifact, values: Tensors): Tensors {
  return new Map(
    artifact.targets.map(({ name, shape, input, kinds }) => {
      let now = artifact.base.get(name)!;
      for (const kind of kinds) {
        now = changed(kind, { name, shape, values: now }, values, artifact.constants);
      }
      return [input, now];
    }),
  );
}

function floatsOf(files: Files, file: string): { tensors: Tensors; shapes: Map<string, string> } {
  const stored = tensorsOf(files, file);
  const tensors = new Map(
    [...stored].map(([name, each]) => {
      const values = each.dtype === "F32" ? floats(each) : null;
      if (!values?.every(Number.isFinite)) {
        throw new ArtifactError(`${file}: ${name} is not finite float32; export again`);
      }
      return [name, values];
    }),
  );
  return { tensors, shapes: new Map([...stored].map(([name, { shape }]) => [name, shape.join()])) };
}

function uplinkOf(files: Files, { context: { dim, uplink } }: Manifest): Uplink {
  const { tensors, shapes } = floatsOf(files, "uplink.safetensors");
  const [mean, matrix] = [tensors.get("mean"), tensors.get("matrix")];
  if (!mean || !matrix || shapes.get("mean") !== `${dim}` || shapes.get("matrix") !== `${dim},${uplink}`) {
    throw new ArtifactError(`uplink.safetensors lacks a mean [${dim}] and a matrix [${dim}, ${uplink}]`);
  }
  return { mean, matrix, dim: uplink };
}

function probeOf(files: Files, { inputs }: Manifest): Arrays {
  const stored = tensorsOf(files, "probe.safetensors", ALL_ITEM_BYTES);
  const found = inputs.flatMap(({ name, dtype }): [string, Checked][] => {
    const one = stored.get(name);
    const data = one && fromStored(one, dtype);
    return data ? [[name, { dtype, data, shape: one.shape }]] : [];
  });
  if (found.length !== inputs.length || stored.size !== inputs.length) {
    throw new ArtifactError("probe.safetensors does not hold an example of every input; export again");
  }
  return new Map(found);
}
