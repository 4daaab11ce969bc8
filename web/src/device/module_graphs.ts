/** Graphs of an artifact as functions on arrays. One run at a time, because a session allows no two at once. */

import type * as Ort from "onnxruntime-web";
import type { Tensors } from "../protocol/package";
import type { NdArray, TypedArray } from "./arrays";
import { type Artifact } from "./artifact";
import { ArtifactError, messageOf } from "./errors";
import type { Arrays } from "./inputs";
import { CONTEXT_FILE, MODEL_FILE } from "./manifest";
import { inTurn } from "./turns";

/** An ONNX Runtime, such as the module `onnxruntime-web`, `onnxruntime-node` or `onnxruntime-react-native`. */
export type Runtime = Pick<typeof Ort, "InferenceSession" | "Tensor">;

export type Outputs = ReadonlyMap<string, NdArray>;

export class ModuleGraphs {
  private readonly turn = inTurn();
  /** Inputs of the module's graph that stand for the base model. */
  readonly base: Tensors;

  private constructor(
    private readonly runtime: Runtime,
    private readonly artifact: Artifact,
    private readonly sessions: ReadonlyMap<string, Ort.InferenceSession>,
  ) {
    this.base = new Map(artifact.targets.map(({ name, input }) => [input, artifact.base.get(name)!]));
  }

  /** Open the graphs. @throws ArtifactError if the runtime refuses a graph, or updates would have no effect on it. */
  static async open(runtime: Runtime, artifact: Artifact): Promise<ModuleGraphs> {
    const sessions = new Map<string, Ort.InferenceSession>();
    for (const [name, data] of artifact.graphs) {
      try {
        sessions.set(name, await runtime.InferenceSession.create(data));
      } catch (error) {
        throw new ArtifactError(`${name} is refused by ONNX Runtime: ${messageOf(error)}`);
      }
    }
    checkGraphs(artifact, sessions);
    return new ModuleGraphs(runtime, artifact, sessions);
  }

  /** Run the module and return its outputs by name. */
  async outputs(data: Arrays, targets: Tensors): Promise<Outputs> {
    const names = this.artifact.outputs.map(({ name }) => name);
    return this.run(MODEL_FILE, data, targets, names);
  }

  /** Compute the features of each example on the base module; of (N, T, F), the middle one of the T parts. */
  async context(data: Arrays): Promise<Float32Array[]> {
    const { graph, output, dim } = this.artifact.context;
    const targets = graph === CONTEXT_FILE ? new Map() : this.base;
    const { data: values, shape } = (await this.run(graph, data, targets, [output])).get(output)!;
    const [count, parts] = [shape[0], shape.length === 3 ? shape[1] : 1];
    if (!(values instanceof Float32Array) || values.length !== count * parts * dim) {
      throw new Error(`the features have the shape [${shape.join(", ")}], not ${dim} numbers an example`);
    }
    const middle = Math.floor(parts / 2) * dim;
    return Array.from({ length: count }, (_, row) => {
      const start = row * parts * dim + middle;
      return values.slice(start, start + dim);
    });
  }

  /** Free the memory of the graphs after all runs under way have ended. */
  async release(): Promise<void> {
    await this.turn(async () => {
      for (const session of this.sessions.values()) await session.release();
    });
  }

  /** Run the part of a graph that the outputs need; the graph gets only the inputs that it declares. */
  private async run(name: string, data: Arrays, targets: Tensors, outputs: string[]): Promise<Outputs> {
    const session = this.sessions.get(name)!;
    const { Tensor } = this.runtime;
    const feed: Record<string, Ort.Tensor> = {};
    const shapes = new Map(this.artifact.targets.map(({ input, shape }) => [input, shape]));
    for (const input of session.inputNames) {
      const [array, target] = [data.get(input), targets.get(input)];
      if (array) feed[input] = new Tensor(array.dtype, array.data as Float32Array, array.shape) as Ort.Tensor;
      else if (target) feed[input] = new Tensor("float32", target, shapes.get(input)!);
    }
    return this.turn(async () => {
      const made = await session.run(feed, outputs);
      return new Map(
        outputs.map((output) => {
          const { data: values, dims } = made[output];
          return [output, { data: values as TypedArray, shape: [...dims] }];
        }),
      );
    });
  }
}

function checkGraphs(artifact: Artifact, sessions: ReadonlyMap<string, Ort.InferenceSession>): void {
  const model = sessions.get(MODEL_FILE)!;
  const targets = artifact.targets.map(({ input }) => input);
  const data = artifact.inputs.map(({ name }) => name);
  // A target must be an input of the graph: a runtime ignores an update of a constant, or of a default, silently.
  checkAsked([MODEL_FILE], [model], targets);
  const describer = sessions.get(artifact.context.graph)!;
  for (const [name, session] of sessions) {
    const known = new Set([...data, ...(name === MODEL_FILE ? targets : [])]);
    const unknown = session.inputNames.find((input) => !known.has(input));
    if (unknown !== undefined) {
      throw new ArtifactError(`${name} needs ${unknown}, which the manifest does not know; export again`);
    }
  }
  const wanted: [Ort.InferenceSession, string][] = [
    ...artifact.outputs.map(({ name }): [Ort.InferenceSession, string] => [model, name]),
    [describer, artifact.context.output],
  ];
  const missing = wanted.find(([session, output]) => !session.outputNames.includes(output));
  if (missing) throw new ArtifactError(`no graph gives the output ${missing[1]}; export again`);
}

/** Check that every name is an input of a graph. @throws ArtifactError for the first name that is not. */
export function checkAsked(
  files: readonly string[],
  sessions: readonly { inputNames: readonly string[] }[],
  wanted: Iterable<string>,
): void {
  const asked = new Set(sessions.flatMap(({ inputNames }) => inputNames));
  for (const name of wanted) {
    if (asked.has(name)) continue;
    throw new ArtifactError(
      `${files.join(", ")}: updates would have no effect: ${name} must be fed, but no graph asks for it; ` +
        "export again, and do not run a graph optimizer over the file",
    );
  }
}
