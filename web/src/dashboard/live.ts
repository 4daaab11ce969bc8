/** Live overview: server-sent events over fetch, because an EventSource cannot send a token. */

import { EventSourceParserStream } from "eventsource-parser/stream";
import { ApiError, request } from "./api";
import type { Glance } from "./types";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;

/**
 * Watch the overview: call `told` at every event, and `lost` whenever the stream has ended. The stream is requested
 * again after a wait.
 *
 * @returns a function that stops watching.
 */
export function watch(span: string, told: (glance: Glance) => void, lost: (why: string) => void): () => void {
  const ending = new AbortController();
  void follow(span, told, lost, ending.signal);
  return () => ending.abort();
}

async function follow(
  span: string,
  told: (glance: Glance) => void,
  lost: (why: string) => void,
  ending: AbortSignal,
): Promise<void> {
  let wait = FIRST_WAIT_MS;
  while (!ending.aborted) {
    let why = "the service ended the stream";
    try {
      const reply = await request(`/live?span=${span}`, undefined, ending);
      const texts = reply.body!.pipeThrough(new TextDecoderStream());
      const events = texts.pipeThrough(new EventSourceParserStream()).getReader();
      for (let next = await events.read(); !next.done; next = await events.read()) {
        told(JSON.parse(next.value.data) as Glance);
        wait = FIRST_WAIT_MS;
      }
    } catch (error) {
      if (error instanceof ApiError && error.status < 500) return; // asking again does not help
      why = error instanceof ApiError ? error.message : "the service does not answer";
    }
    if (ending.aborted) return;
    lost(why);
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(LONGEST_WAIT_MS, 2 * wait);
  }
}
