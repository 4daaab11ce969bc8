/** Graphs of a bundle as functions. One run at a time, because a session in a browser allows no two at once. */

import { Tokenizer } from "@huggingface/tokenizers";
import type { Tensors } from "../protocol/package";
import type { Files } from "../device/fetching";
import { checkAsked } from "../device/module_graphs";
import { type Bundle, type Fetched, GRAPHS } from "./bundle";
import { type Engine, openTrunk, type Session, type Tensor } from "./engine";
import { ArtifactError, messageOf } from "../device/errors";
import { inTurn } from "../device/turns";

const MAX_TOKENS = 64;
const FRAMES_PER_RUN = 16;
const PIXELS_PER_RUN = 8 * 1024 * 1024;

/** Pixels of a clip: T x H x W x 3 uint8 RGB. */
export interface Frames {
  rgb: Uint8Array;
  count: number;
  height: number;
  width: number;
}

/** Rows of a matrix in C order. */
export interface Matrix {
  values: Float32Array;
  rows: number;
  columns: number;
}

export function rowOf(matrix: Matrix, row: number): Float32Array {
  return matrix.values.slice(row * matrix.columns, (row + 1) * matrix.columns);
}

type Feed = Record<string, Tensor>;

export class Graphs {
  private readonly turn = inTurn();

  private constructor(
    private readonly engine: Engine,
    private readonly bundle: Bundle,
    private readonly sessions: Map<string, Session>,
    private readonly tokenizer: Tokenizer,
  ) {}

  /** Open the graphs. @throws ArtifactError if ONNX Runtime or the tokenizer refuses a file. */
  static async open(engine: Engine, { bundle, files }: Fetched): Promise<Graphs> {
    const sessions = new Map<string, Session>();
    for (const name of ["image.onnx", "text.onnx", ...GRAPHS[bundle.task]]) {
      const graph = files.get(name)!;
      try {
        const opened =
          name === "image.onnx" ? openTrunk(engine, graph) : engine.ort.InferenceSession.create(graph);
        sessions.set(name, await opened);
      } catch (error) {
        throw new ArtifactError(`${name} is refused by ONNX Runtime: ${messageOf(error)}`);
      }
    }
    const changeable = [...GRAPHS[bundle.task]];
    checkAsked(
      changeable,
      changeable.map((name) => sessions.get(name)!),
      bundle.shapes.keys(),
    );
    return new Graphs(engine, bundle, sessions, tokenizerOf(files));
  }

  /** Compute trunk features, a row for each frame, in runs of bounded memory. */
  async image(frames: Frames): Promise<Matrix> {
    const pixels = frames.height * frames.width;
    const step = Math.max(1, Math.min(FRAMES_PER_RUN, Math.floor(PIXELS_PER_RUN / pixels)));
    const parts: Matrix[] = [];
    for (let start = 0; start < frames.count; start += step) {
      const count = Math.min(step, frames.count - start);
      const rgb = frames.rgb.subarray(3 * pixels * start, 3 * pixels * (start + count));
      const shape = [count, frames.height, frames.width, 3];
      parts.push(await this.run("image.onnx", { frames: new this.engine.ort.Tensor("uint8", rgb, shape) }));
    }
    return stacked(parts);
  }

  /** Compute trunk features, a row for each text. Texts run one by one, so that none depends on the others. */
  async text(texts: readonly string[]): Promise<Matrix> {
    const parts: Matrix[] = [];
    for (const text of texts) {
      const ids = this.tokens(text);
      const row = (values: number[]) =>
        new this.engine.ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
      parts.push(await this.run("text.onnx", { input_ids: row(ids), attention_mask: row(ids.map(() => 1)) }));
    }
    return stacked(parts);
  }

  /** Return the ids of a text's tokens. A long text is cut; the special tokens of the tokenizer around it stay. */
  tokens(text: string): number[] {
    const { ids } = this.tokenizer.encode(text);
    if (ids.length <= MAX_TOKENS) return ids;
    const own = this.tokenizer.encode(text, { add_special_tokens: false }).ids;
    const before = ids.findIndex((_, start) => own.every((id, place) => ids[start + place] === id));
    const kept = MAX_TOKENS - (ids.length - own.length);
    return [...ids.slice(0, before + kept), ...ids.slice(before + own.length)];
  }

  /** Compute logits, a row for each question about one clip. */
  answer(clip: Matrix, questions: Matrix, parameters: Tensors): Promise<Matrix> {
    const feed = {
      frames: this.tensor(clip, [1, clip.rows, clip.columns]),
      questions: this.tensor(questions),
    };
    return this.run("answer.onnx", feed, parameters);
  }

  /** Compute the logits of the options for one question about one clip, in one row. */
  choose(clip: Matrix, question: Matrix, options: Matrix, parameters: Tensors): Promise<Matrix> {
    const feed = {
      frames: this.tensor(clip, [1, clip.rows, clip.columns]),
      questions: this.tensor(question),
      options: this.tensor(options, [1, options.rows, options.columns]),
    };
    return this.run("choose.onnx", feed, parameters);
  }

  /** Compute the embedding of one clip: one row with norm 1. */
  embedClip(clip: Matrix, parameters: Tensors): Promise<Matrix> {
    return this.run(
      "embed_clips.onnx",
      { frames: this.tensor(clip, [1, clip.rows, clip.columns]) },
      parameters,
    );
  }

  /** Compute the embeddings of texts, a row with norm 1 for each text. */
  embedTexts(texts: Matrix, parameters: Tensors): Promise<Matrix> {
    return this.run("embed_texts.onnx", { texts: this.tensor(texts) }, parameters);
  }

  private tensor(matrix: Matrix, shape = [matrix.rows, matrix.columns]): Tensor {
    return new this.engine.ort.Tensor("float32", matrix.values, shape);
  }

  /** Run a graph; it gets only the parameters that it declares. */
  private run(name: string, feed: Feed, parameters: Tensors = new Map()): Promise<Matrix> {
    const session = this.sessions.get(name)!;
    const { Tensor } = this.engine.ort;
    const whole: Feed = { ...feed };
    for (const input of session.inputNames) {
      const values = parameters.get(input);
      if (values) whole[input] = new Tensor("float32", values, this.bundle.shapes.get(input)!);
    }
    return this.turn(async () => {
      const { [session.outputNames[0]]: output } = await session.run(whole);
      const [rows, columns] = output.dims;
      return { values: output.data as Float32Array, rows, columns };
    });
  }
}

function stacked(parts: Matrix[]): Matrix {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const { columns } = parts[0];
  const values = new Float32Array(rows * columns);
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at);
    at += part.values.length;
  }
  return { values, rows, columns };
}

function tokenizerOf(files: Files): Tokenizer {
  try {
    const told = JSON.parse(new TextDecoder().decode(files.get("tokenizer.json")));
    // A model of whole words reads its token for unknown words only from the second argument.
    return new Tokenizer(told, { unk_token: told.model.unk_token });
  } catch (error) {
    throw new ArtifactError(`tokenizer.json is no tokenizer: ${messageOf(error)}`);
  }
}
