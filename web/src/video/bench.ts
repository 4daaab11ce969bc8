/** Benchmark of answers in this browser. */

import type { VideoDevice } from "./device";
import { DeviceInputError } from "../device/errors";
import type { Frames } from "./graphs";

/** Milliseconds of each round. */
export interface BenchRow {
  name: string;
  times: number[];
}

const WARM_UP = 2;

/**
 * Time whole answers (from pixels and a text to logits) and the head alone, with base and adapted parameters in turn.
 *
 * @throws DeviceInputError if the device runs the base model, or the model does not answer questions.
 */
export async function bench(
  device: VideoDevice,
  frames: Frames,
  question: string,
  rounds: number,
): Promise<BenchRow[]> {
  if (device.bundle.task !== "qa") throw new DeviceInputError("only models that answer questions are timed");
  if (device.status().source === "base")
    throw new DeviceInputError("adapt first: there is nothing to compare");
  const clip = await device.look(frames);
  const texts = await device.read([question]);
  const answer = (which: "base" | "current") => async () =>
    device.graphs.answer(await device.look(frames), await device.read([question]), device.of(which));
  const head = (which: "base" | "current") => () => device.graphs.answer(clip, texts, device.of(which));
  const calls: [string, () => Promise<unknown>][] = [
    ["answer_base", answer("base")],
    ["answer_adapted", answer("current")],
    ["head_base", head("base")],
    ["head_adapted", head("current")],
    ["trunk", () => device.look(frames)],
    ["text", () => device.read([question])],
  ];
  const rows = calls.map(([name]): BenchRow => ({ name, times: [] }));
  for (let round = -WARM_UP; round < rounds; round++) {
    for (const [place, [, call]] of calls.entries()) {
      const start = performance.now();
      await call();
      if (round >= 0) rows[place].times.push(performance.now() - start);
    }
  }
  return rows;
}
